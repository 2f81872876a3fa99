"""A day with a GPU: checks, speed and recorded runs, most valuable first, in pieces of under ten minutes.

    python tests/gpu/day.py [--device cuda] [--output build/gpu] [--small] [PIECE ...]

Everything lies in the output folder: a log for each piece, records, runs, and report.md with the pieces of the last
call. The same command goes on where it was stopped: a finished piece is not repeated, and a run of hours takes its next
ten minutes. The first three pieces are the useful set: under 30 minutes together. --small tries the first four pieces
in part, on any machine, in minutes.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
MINUTES = 9.5  # of a piece, at most
METHODS = "NT-Xent,DCL,SogCLR,cache,EMC2,EMC2 remembered"


class Piece(NamedTuple):
    """A part of the day: what it is for, its command, and its environment; `again` if a stopped one goes on."""

    words: str
    command: list[str]
    environment: dict[str, str]
    again: bool = False


def pieces(device: str, output: Path, small: bool) -> dict[str, Piece]:
    """The pieces by name, in order of value."""

    def emc2(*arguments: str) -> list[str]:
        return [sys.executable, "-m", "emc2_lite", *arguments, "--device", device]

    def pytest(*arguments: str) -> list[str]:
        return [sys.executable, "-m", "pytest", "-q", *arguments]

    checks = ["-p", "no:benchmark", "gpu/gpu_checks.py", "test_sampling_triton.py"]
    bench = [
        "bench/bench_sampler.py",
        "bench/bench_losses.py",
        "bench/bench_steps.py",
        "--benchmark-quiet",
        "--benchmark-disable-gc",
    ]
    if small:
        checks += ["-k", "loss or finite or refused"]
        bench += ["-k", "visit_against_its_limit or dropped"]
    how = {"BENCH_DEVICE": device, "BENCH_RECORD": str((output / "bench.json").resolve())}
    how |= {"BENCH_QUICK": "1"} if small else {}
    epochs = ["-p", "training.epochs", "1", "-p", "training.evaluate_epochs", "0"] if small else []
    name = "digits" if small else photographs()
    grid = ["--methods", METHODS, "--temperatures", "0.07,0.2", "--seeds", "1" if small else "3", "--jobs", "2"]
    grid += ["--labels", "1,10", "-p", "training.budget", "price", "--output", str(output / "sweep"), *epochs]
    checked = pytest(*checks), {"GPU_DEVICE": device}
    forecast = emc2("train", "digits" if small else "stl10", "--dry-run"), {}
    found = {
        "checks": Piece("losses, precisions, kernels and resumed runs on the device", *checked),
        "bench": Piece("the sampler, the losses and whole steps, as ratios", pytest(*bench), how),
        "plan": Piece("what a run costs: hours, memory, the price of a step", *forecast),
        "sweep": Piece(f"all methods at equal price on {name}", emc2("sweep", name, *grid), {}, again=True),
    }
    if small:
        return found
    for method in ("EMC2 remembered", "NT-Xent", "EMC2"):
        parameters = ["-p", "loss.method", method.split()[0]]
        if method == "EMC2 remembered":
            parameters += ["-p", "loss.held", "remembered", "-p", "loss.reencode", "0.5"]
        folder = str(output / f"stl10-{method.replace(' ', '-')}")
        command = emc2("train", "stl10", "--download", "--resume", "--output", folder, *parameters)
        found[Path(folder).name] = Piece(f"the paper's run on STL-10 with {method}, hours", command, {}, again=True)
    return found


def photographs() -> str:
    """The configuration of photographs whose images are here, or else the digits."""
    return "cifar10_small" if (ROOT / "data/downloads/cifar-10-batches-py").is_dir() else "digits"


def run(name: str, piece: Piece, output: Path) -> tuple[str, float]:
    """Work on a piece for at most `MINUTES`; how it ended, and its seconds. The log is appended to."""
    started = time.perf_counter()
    where = ROOT / "tests" if "pytest" in piece.command else ROOT
    with (output / f"{name}.log").open("a", encoding="utf-8") as log:
        process = subprocess.Popen(
            piece.command, cwd=where, env=os.environ | piece.environment, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            code = process.wait(60 * MINUTES)
            end = "done" if code == 0 else f"failed with {code}"
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            process.wait()
            end = "goes on next time" if piece.again else "stopped: longer than a piece may be"
    return end, time.perf_counter() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--output", type=Path, help="by default build/gpu, or build/gpu-small")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("pieces", nargs="*", metavar="PIECE", help="checks, bench, plan, sweep ...; all by default")
    given = parser.parse_args()
    output = (given.output or ROOT / f"build/gpu{'-small' if given.small else ''}").resolve()
    output.mkdir(parents=True, exist_ok=True)
    day = pieces(given.device, output, given.small)
    if unknown := [name for name in given.pieces if name not in day]:
        parser.error(f"there is no piece {unknown[0]}: use some of {', '.join(day)}")
    lines = ["| piece | what | end | seconds |", "| --- | --- | --- | --- |"]
    failed = False
    for name in given.pieces or day:
        mark = output / f"{name}.done"
        end, seconds = ("done before", 0.0) if mark.exists() else run(name, day[name], output)
        failed |= end.startswith(("failed", "stopped"))
        if end == "done":
            mark.touch()
        lines.append(f"| {name} | {day[name].words} | {end} | {seconds:.0f} |")
        print(lines[-1], flush=True)
        (output / "report.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
