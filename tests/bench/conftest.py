"""Benchmarks compare a contender with its reference. The two take turns, so a noisy machine slows both alike.

`make bench` runs them, prints one table and writes it as a record to build/records/bench.json.
"""

import os
import time
from pathlib import Path
from statistics import median

import pytest
import torch

from emc2_lite.records import ROOT, new_record, write_record

ROWS: list[dict] = []
BURST = 0.005  # seconds
QUICK = bool(os.environ.get("BENCH_QUICK"))  # once each: only to see that the benchmarks run
DEVICE = torch.device(os.environ.get("BENCH_DEVICE", "cpu"))


def timed(work) -> float:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


@pytest.fixture
def compare(benchmark):
    """compare(name, size, contender=(label, work), reference=(label, work), ...) -> the row of the table.

    Each round runs the reference and then the contender; short work runs in bursts of some milliseconds. `ms` are
    medians over the rounds. `ratio` is the median of contender / reference; with faster=True, of reference / contender
    ("times as fast"). `target` bounds the ratio from above; with faster=True, from below. `note()` is called at the
    end.
    """

    def run(name, size, contender, reference, *, rounds, target=None, faster=False, note=lambda: ""):
        (label, work), (reference_label, against) = contender, reference
        bursts = {do: 1 if QUICK else 1 + int(BURST / min(timed(do) for _ in range(4))) for do in (work, against)}

        def burst(do):
            for _ in range(bursts[do]):
                do()

        references = []
        benchmark.group = name
        benchmark.pedantic(
            lambda: timed(lambda: burst(work)),
            setup=lambda: references.append(timed(lambda: burst(against)) / bursts[against]),
            rounds=1 if QUICK else rounds,
        )
        times = [taken / bursts[work] for taken in benchmark.stats.stats.data]
        pairs = zip(times, references[-len(times) :], strict=True)
        row = {
            "benchmark": name,
            "size": size,
            "contender": label,
            "ms": _rounded(1000 * median(times)),
            "reference": reference_label,
            "reference_ms": _rounded(1000 * median(references)),
            "ratio_is": "times as fast" if faster else "times the reference",
            "ratio": _rounded(median(other / own if faster else own / other for own, other in pairs)),
            "target": None if target is None else f"{'at least' if faster else 'at most'} {target}",
            "note": note(),
        }
        ROWS.append(row)
        return row

    return run


def _rounded(number: float) -> float:
    return float(f"{number:.3g}")


def pytest_sessionstart(session):
    torch.set_num_threads(1 if QUICK else min(2, os.cpu_count()))
    session.started = time.perf_counter()


def pytest_terminal_summary(terminalreporter):
    if not ROWS:
        return
    shown = [row | {"target": row["target"] and row["target"] + (", missed" if _missed(row) else "")} for row in ROWS]
    lines = [list(ROWS[0]), *(["" if cell is None else str(cell) for cell in row.values()] for row in shown)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    terminalreporter.write_line("")
    for line in lines:
        terminalreporter.write_line("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))


def _missed(row: dict) -> bool:
    least, bound = row["target"].startswith("at least"), float(row["target"].split()[-1])
    return row["ratio"] < bound if least else row["ratio"] > bound


def pytest_sessionfinish(session):
    if not ROWS:
        return
    name = torch.cuda.get_device_name() if DEVICE.type == "cuda" else f"{torch.get_num_threads()} CPU cores"
    path = Path(os.environ.get("BENCH_RECORD", ROOT / "build/records/bench.json"))
    seconds = time.perf_counter() - session.started
    config = {"threads": torch.get_num_threads()}
    record = new_record("bench", config=config, seeds=[0], device=name, seconds=seconds, metrics=[], final=ROWS)
    write_record(path, record)
