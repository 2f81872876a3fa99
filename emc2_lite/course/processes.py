"""Scripts of a chapter in several processes, started by torchrun as on a real machine."""

import os
import re
import subprocess
import sys
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
    started = subprocess.Popen(
        [*command, "-m", "emc2_lite.interruption", str(script), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        printed, errors = started.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        started.terminate()  # torchrun ends its processes, which are in sessions of their own
        started.communicate()
        words = f"{Path(script).name} did not end within {seconds:g} s: a process waits for another"
        raise TimeoutError(words) from None
    print(printed, end="")
    if started.returncode:
        found = _ERROR.search(errors)
        raise RuntimeError(f"{Path(script).name} failed: {found[1] if found else 'no message'}")
