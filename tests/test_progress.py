"""Progress: a bar on a terminal and in a notebook, elsewhere a line at most every half minute."""

import os
import pty
import subprocess
import sys
import termios

import pytest

from emc2_lite.training import progress
from emc2_lite.training.progress import Progress, duration


@pytest.fixture
def clock(monkeypatch):
    """A clock whose seconds the test sets."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def test_lines_come_after_the_first_steps_then_every_half_minute_and_at_the_end(capsys, clock):
    with Progress(0, 1000, 32) as shown:
        for step in range(1, 1001):
            clock[0] += 0.25
            shown.advance({"loss": 3.21, "effective_rank": 12.0}, step)
    lines = capsys.readouterr().err.splitlines()
    told = [10, 130, 250, 370, 490, 610, 730, 850, 970, 1000]
    assert [line.split(" of ")[0] for line in lines] == [f"step {step:,}" for step in told]
    assert lines[1] == "step 130 of 1,000, loss 3.21, rank 12, 128 images/s, 4 min left"


def test_steps_of_a_price_may_skip_the_tenth(capsys, clock):
    with Progress(0, 30, 32) as shown:
        for step in (4.5, 9.4, 13.9, 18.6, 27.2, 31.7):
            clock[0] += 1.0
            shown.advance({}, step)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" of ")[0] for line in lines] == ["step 13", "step 30"]
    assert lines[1] == "step 30 of 30, 32 images/s, 0 s left"  # six steps of 32 images in six seconds


def test_a_resumed_run_reports_the_speed_since_it_resumed(capsys, clock):
    shown = Progress(900, 1000, 32)
    for step in range(901, 911):
        clock[0] += 1.0
        shown.advance({}, step)
    assert shown.line({}) == "step 910 of 1,000, 32 images/s, 2 min left"


def test_shown_false_shows_nothing(capsys):
    with Progress(0, 20, 32, shown=False) as shown:
        for step in range(1, 21):
            shown.advance({"loss": 1.0}, step)
    assert capsys.readouterr() == ("", "")


def test_a_lost_terminal_does_not_stop_a_run(monkeypatch):
    class Lost:
        def isatty(self):
            return False

        def write(self, text):
            raise OSError(5, "Input/output error")

        flush = isatty

    monkeypatch.setattr(sys, "stderr", Lost())
    with Progress(0, 20, 32) as shown:
        for step in range(1, 21):
            shown.advance({"loss": 1.0}, step)
    assert shown.step == 20


ON_A_TERMINAL = """
from emc2_lite.training.progress import Progress
with Progress(0, 20, 32) as shown:
    for step in range(1, 21):
        shown.advance({"loss": 1.5}, step)
"""


def test_a_terminal_gets_a_bar():
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    subprocess.run([sys.executable, "-c", ON_A_TERMINAL], stderr=theirs, check=True)
    os.close(theirs)
    written = b""
    try:
        while block := os.read(ours, 4096):
            written += block
    except OSError:  # end of file on a pseudo-terminal
        pass
    assert b"100%|" in written and b"loss 1.5" in written


IN_A_KERNEL = """
from emc2_lite.training.progress import Progress
with Progress(0, 20, 32) as shown:
    for step in range(1, 21):
        shown.advance({"loss": 1.5}, step)
print([kind.__name__ for kind in type(shown.bar).__mro__])
"""


def test_a_notebook_gets_a_bar_of_widgets():
    manager = pytest.importorskip("jupyter_client.manager", reason="kernels belong to the course's extra")
    heard = []
    with manager.run_kernel(kernel_name="python3", extra_arguments=["--log-level=ERROR"]) as client:
        client.execute_interactive(IN_A_KERNEL, timeout=60, output_hook=heard.append)
    printed = "".join(message["content"].get("text", "") for message in heard)
    assert "tqdm_notebook" in printed
    shown = [message["content"]["data"] for message in heard if message["msg_type"] == "display_data"]
    assert any("application/vnd.jupyter.widget-view+json" in data for data in shown)


@pytest.mark.parametrize(("seconds", "words"), [(3, "3 s"), (89, "89 s"), (150, "2 min"), (7200, "2.0 h")])
def test_a_duration_in_words(seconds, words):
    assert duration(seconds) == words
