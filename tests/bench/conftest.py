"""Benchmarks compare: a contender and its reference take turns, so that a noisy machine slows both, and ratios last.

`make bench` runs them, prints one table and writes it as a record to build/records/bench.json.
"""

import os
import time
from pathlib import Path
from statistics import median

import pytest
import torch

from emc2_lite.records import ROOT, circumstances, write_record

ROWS: list[dict] = []
COLUMNS = ("benchmark", "size", "contender", "ms", "reference", "reference_ms", "ratio", "target", "note")
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

    Each round runs the reference and then the contender; `ms` are medians, and `ratio` is the median over the rounds of
    contender / reference, or of reference / contender where faster=True, "times as fast". `target` is what the ratio
    is to stay under (over, for faster=True). `note(row)` may add a sentence after the run.
    """

    def run(name, size, contender, reference, *, rounds, target=None, faster=False, note=lambda: ""):
        (label, work), (other, against) = contender, reference
        references = []

        def in_turn():
            references.append(timed(against))

        for _ in range(max(1, min(5, rounds // 4))):
            against(), work()
        benchmark.group = name
        benchmark.pedantic(lambda: timed(work), setup=in_turn, rounds=rounds)
        times = benchmark.stats.stats.data
        pairs = list(zip(times, references[-len(times) :], strict=True))
        ratios = sorted(theirs / ours if faster else ours / theirs for ours, theirs in pairs)
        row = dict(
            zip(
                COLUMNS,
                (
                    name,
                    size,
                    label,
                    _rounded(1000 * median(times)),
                    other,
                    _rounded(1000 * median(references)),
                    _rounded(median(ratios)),
                    None if target is None else f"{'>=' if faster else '<='} {target}",
                    note(),
                ),
                strict=True,
            )
        )
        ROWS.append(row)
        return row

    return run


def _rounded(number: float) -> float:
    return float(f"{number:.3g}")


def pytest_sessionstart(session):
    torch.set_num_threads(min(2, os.cpu_count()))
    session.started = time.perf_counter()


def pytest_terminal_summary(terminalreporter):
    if not ROWS:
        return
    lines = [COLUMNS, *(tuple("" if row[c] is None else str(row[c]) for c in COLUMNS) for row in ROWS)]
    widths = [max(len(line[c]) for line in lines) for c in range(len(COLUMNS))]
    terminalreporter.write_line("")
    for line in lines:
        terminalreporter.write_line("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))


def pytest_sessionfinish(session):
    if not ROWS:
        return
    name = torch.cuda.get_device_name() if DEVICE.type == "cuda" else f"{torch.get_num_threads()} CPU cores"
    path = Path(os.environ.get("BENCH_RECORD", ROOT / "build/records/bench.json"))
    write_record(
        path,
        {
            "experiment": "bench",
            "config": {"threads": torch.get_num_threads()},
            "seeds": [0],
            **circumstances(name),
            "seconds": round(time.perf_counter() - session.started, 1),
            "metrics": [],
            "final": ROWS,
        },
    )
