"""An exercise check stops a function that never ends, and keeps the alarms that were set before."""

import contextlib
import signal
import threading
import time

import nbformat
import pytest

from emc2_lite.course import Exercise, exercise, runner

DOUBLE = Exercise("double", lambda n: 2 * n, cases=[(1,), (2,)])


def endless(n):
    while True:
        pass


@pytest.fixture
def short_limit(monkeypatch):
    monkeypatch.setattr(exercise, "LONGEST", 0.2)


def test_an_endless_loop_is_ended_in_one_sentence(short_limit):
    started = time.monotonic()
    said = DOUBLE.verdict(endless)
    assert time.monotonic() - started < 5
    assert said == "not yet: your function has not ended after 0.2 seconds for n = 1; does a loop in it never end?"
    assert DOUBLE.case == (1,)


def test_a_loop_that_catches_every_exception_is_ended_too(short_limit):
    def stubborn(n):
        while True:
            with contextlib.suppress(Exception):
                time.sleep(0.01)

    assert "has not ended after 0.2 seconds" in DOUBLE.verdict(stubborn)


def test_a_wrong_answer_is_reported_even_if_a_later_case_never_ends(short_limit):
    assert DOUBLE.verdict(lambda n: n if n == 1 else endless(n)).startswith("not yet: got 1, expected 2")


def test_alarms_that_were_set_before_go_on_after(short_limit):
    rung = []

    def ring(*_):
        rung.append(time.monotonic())

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1, 50)
        DOUBLE.verdict(endless)
        assert signal.getsignal(signal.SIGALRM) is ring
        time.sleep(0.05)
        assert len(rung) == 1, "an alarm that was due during the check rings afterwards"
        left, interval = signal.setitimer(signal.ITIMER_REAL, 0)
        assert 40 < left <= 50 and interval == 50
        DOUBLE.verdict(DOUBLE.reference)
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("elsewhere", ["another thread", "no alarms"])
def test_without_alarms_the_check_runs_without_a_limit(monkeypatch, short_limit, elsewhere):
    def slow(n):
        time.sleep(0.3)
        return 2 * n

    said = []
    if elsewhere == "no alarms":
        monkeypatch.delattr(signal, "setitimer")
        said.append(DOUBLE.verdict(slow))
    else:
        thread = threading.Thread(target=lambda: said.append(DOUBLE.verdict(slow)))
        thread.start()
        thread.join()
    assert said == ["right, on 2 inputs"]


def test_an_endless_loop_in_a_notebook_is_ended_and_the_kernel_goes_on(tmp_path):
    cells = [
        "from emc2_lite.course import exercise\nexercise.LONGEST = 0.5",
        "def forever(n):\n    while True:\n        pass",
        "exercise.Exercise('forever', abs, [(1,)])(forever)",
        "print('on')",
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(book, tmp_path / "loop.ipynb")
    result = runner.execute(tmp_path / "loop.ipynb", tmp_path / "out" / "loop.ipynb")
    assert result.error is None
    *_, checked, last = nbformat.read(tmp_path / "out" / "loop.ipynb", 4).cells
    assert checked.outputs[0].text.startswith("forever: not yet: your function has not ended after 0.5 seconds")
    assert last.outputs[0].text == "on\n"
