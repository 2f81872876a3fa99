"""Scripts of a chapter in several processes, started by torchrun as on a real machine."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

# The first line of an error in a worker's output; torch puts the rank before it.
_ERROR = re.compile(r"^(?:\[rank\d+\]: )?((?:\w+\.)*\w*(?:Error|Exception)\b.*)$", re.MULTILINE)


def torchrun(script: str | Path, processes: int, *arguments: str, seconds: float = 120) -> None:
    """Run a script in so many processes of this machine, and print what they print.

    As `torchrun --standalone --nproc-per-node=K script` on a command line, but that a process whose script has ended
    leaves at once (`emc2_lite.interruption.leave`).

    Raises: RuntimeError: if a process fails, with its error; TimeoutError: after `seconds`, when all have been ended.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command += ["-m", "emc2_lite.interruption", str(script), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    # In files: a pipe would be open, and the reader wait, for as long as any process that inherited it lives.
    with tempfile.TemporaryFile("w+") as printed, tempfile.TemporaryFile("w+") as errors:
        started = subprocess.Popen(command, stdout=printed, stderr=errors, env=environment)
        try:
            started.wait(seconds)
        except subprocess.TimeoutExpired:
            _end(started)
            words = f"{Path(script).name} did not end within {seconds:g} s: a process waits for another"
            raise TimeoutError(words) from None
        printed.seek(0)
        print(printed.read(), end="")
        if started.returncode:
            errors.seek(0)
            found = _ERROR.search(errors.read())
            raise RuntimeError(f"{Path(script).name} failed: {found[1] if found else 'no message'}")


def _end(torchrun: subprocess.Popen) -> None:
    """Ask torchrun to end its processes, which are in sessions of their own, and end it if it does not."""
    torchrun.terminate()
    try:
        torchrun.wait(60)
    except subprocess.TimeoutExpired:
        torchrun.kill()
        torchrun.wait()
