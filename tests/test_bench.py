"""The benchmarks run, and leave a table and a record. No test checks a speed."""

import json
import os
import subprocess
import sys
from pathlib import Path

SOME = [
    "bench_sampler.py::test_visit_against_the_loop[32]",
    "bench_sampler.py::test_visit_against_its_limit[32]",
    "bench_sampler.py::test_paths_against_the_loop_of_torch[32]",
    "bench_losses.py::test_nt_xent[32]",
    "bench_losses.py::test_loss[EMC2-32]",
    "bench_losses.py::test_global_loss[4000-32]",
    "bench_steps.py::test_digits_step[EMC2 dropped]",
    "bench_data.py::test_views[32]",
    "bench_data.py::test_nearest_neighbours[1000]",
]


def test_benchmarks_run_and_leave_a_table_and_a_record(tmp_path):
    """Each benchmark runs once, without the bursts and repetitions of a measurement."""
    path = tmp_path / "bench.json"
    # pytest-benchmark measures nothing where it sees the variables of parallel tests.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--benchmark-quiet", "-p", "no:cacheprovider", *(f"bench/{n}" for n in SOME)],
        cwd=Path(__file__).parent,
        env=environment | {"BENCH_RECORD": str(path), "BENCH_QUICK": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads(path.read_text())
    assert record["experiment"] == "bench" and len(record["final"]) == len(SOME)
    for row in record["final"]:
        assert row["ms"] > 0 and row["reference_ms"] > 0 and row["ratio"] > 0
        assert row["contender"] in done.stdout and row["reference"] in done.stdout
