"""The day with a GPU, on a CPU at small size: a piece is done once, and the report says so."""

import subprocess
import sys
from pathlib import Path

DAY = Path(__file__).parent / "gpu" / "day.py"


def day(output, *pieces):
    command = [sys.executable, DAY, "--device", "cpu", "--small", "--output", output, *pieces]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_piece_is_done_once_and_the_report_has_a_line_for_it(tmp_path):
    first = day(tmp_path, "plan")
    assert first.returncode == 0, first.stdout + first.stderr
    assert (tmp_path / "report.md").read_text().splitlines()[-1] == first.stdout.strip()
    assert "| plan | what a run costs: hours, memory, the price of a step | done |" in first.stdout
    assert "time on cpu, in float32" in (tmp_path / "plan.log").read_text()
    assert "| done before | 0 |" in day(tmp_path, "plan").stdout


def test_an_unknown_piece_is_refused_in_a_sentence(tmp_path):
    refused = day(tmp_path, "benches")
    assert refused.returncode == 2
    assert "there is no piece benches: use some of checks, bench, plan, sweep" in refused.stderr
