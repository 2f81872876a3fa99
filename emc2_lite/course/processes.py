"""Scripts of a chapter in several processes, started by torchrun as on a real machine."""

import os
import subprocess
import sys
from pathlib import Path


def torchrun(script: str | Path, processes: int, *arguments: str, seconds: float = 120) -> None:
    """Run a script in so many processes of this machine, and print what they print.

    The same as `torchrun --standalone --nproc-per-node=K script` on a command line.

    Raises: RuntimeError: if a process fails, with the end of its errors; TimeoutError: after `seconds`.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [*command, str(script), *arguments], capture_output=True, text=True, timeout=seconds, env=environment
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(
            f"{Path(script).name} did not end within {seconds:g} s: a process waits for another"
        ) from None
    print(done.stdout, end="")
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith(("W", "E1", "["))]
        raise RuntimeError(f"{Path(script).name} failed: {errors[-1] if errors else 'no message'}")
