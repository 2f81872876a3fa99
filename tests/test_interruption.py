"""Signals: noted during a step, never raised during a save, raised at once where nothing is lost."""

import os
import signal

import pytest

from emc2_lite.interruption import Interruption, Stopped, stops


@pytest.mark.parametrize(
    ("number", "ending", "status"),
    [(signal.SIGINT, KeyboardInterrupt, None), (signal.SIGTERM, Stopped, 143), (signal.SIGHUP, Stopped, 129)],
)
def test_a_signal_waits_until_it_is_obeyed(number, ending, status):
    with Interruption() as interruption:
        interruption.obey()
        os.kill(os.getpid(), number)
        assert interruption.asked == number
        with pytest.raises(ending) as raised:
            interruption.obey()
    assert status is None or raised.value.code == status


def test_only_a_second_ctrl_c_ends_a_step_at_once():
    with Interruption():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGHUP)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_no_signal_is_raised_during_a_save():
    with Interruption() as interruption:
        with interruption.saving():
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            interruption.obey()


def test_a_signal_is_raised_at_once_inside_at_once():
    with Interruption() as interruption:
        with pytest.raises(Stopped), interruption.at_once():
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped), interruption.at_once():  # the signal before counts
            pytest.fail("the work began")


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stops(), Interruption() as interruption:
            os.kill(os.getpid(), signal.SIGHUP)
            assert interruption.asked is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_handlers_before_are_restored():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with stops(), Interruption():
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] != before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
