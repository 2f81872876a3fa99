"""SIGINT, SIGTERM and SIGHUP, delayed until a run has saved its state, or raised where nothing is lost."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(SystemExit):
    """SIGTERM or SIGHUP; the exit status is 128 and the signal's number."""


class Interruption:
    """While entered, signals are noted; only a second Ctrl-C, which is a person's, is raised at once.

    `asked` is the signal that came, or None. A signal that the process ignores stays ignored, as under nohup. Outside
    of the main thread, where Python does not let signals be handled, nothing is changed.
    """

    def __init__(self):
        self.asked: int | None = None
        self._at_once = self._saving = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Interruption":
        self._before = _handle(self._note)
        return self

    def __exit__(self, *exception) -> None:
        _restore(self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        impatient = number == signal.SIGINT and self.asked is not None
        self.asked = number
        if self._at_once or (impatient and not self._saving):
            _stop(number)

    def obey(self) -> None:
        """
        Raises:
            KeyboardInterrupt, Stopped: if a signal came.
        """
        if self.asked is not None:
            _stop(self.asked)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Signals are raised where they come, one that came before included."""
        self._at_once = True
        try:
            self.obey()
            yield
        finally:
            self._at_once = False

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Not even a second Ctrl-C is raised."""
        self._saving = True
        try:
            yield
        finally:
            self._saving = False


@contextmanager
def stops() -> Iterator[None]:
    """While entered, SIGTERM and SIGHUP raise `Stopped`, as SIGINT raises KeyboardInterrupt."""
    before = _handle(lambda number, frame: _stop(number))
    try:
        yield
    finally:
        _restore(before)


def _handle(handler: object) -> dict[int, object]:
    """Install the handler for signals that are not ignored, and return those that were there."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in heard}


def _restore(handlers: dict[int, object]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _stop(number: int) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise Stopped(128 + number)
