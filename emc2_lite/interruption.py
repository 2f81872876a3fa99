"""SIGINT, SIGTERM and SIGHUP: delayed until a run has saved its state, or raised where nothing is lost; and an end."""

import os
import runpy
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn


class Stopped(SystemExit):
    """SIGTERM or SIGHUP; the exit status is 128 plus the signal's number."""


class Interruption(ExitStack):
    """While entered, signals are only noted, except for a second Ctrl-C, which is raised at once.

    `asked` is the last signal, or None. A signal that the process ignores, as under nohup, stays ignored. Outside of
    the main thread, where Python forbids signal handlers, nothing changes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asked: int | None = None
        self._at_once = self._saving = False

    def __enter__(self) -> "Interruption":
        self.enter_context(_handled(self._note))
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        again = number == signal.SIGINT and self.asked is not None
        self.asked = number
        if self._at_once or (again and not self._saving):
            _stop(number)

    def obey(self) -> None:
        """Raise KeyboardInterrupt or `Stopped` if a signal came."""
        if self.asked is not None:
            _stop(self.asked)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """While entered, every signal is raised at once; a signal that came before is raised on entry."""
        self._at_once = True
        try:
            self.obey()
            yield
        finally:
            self._at_once = False

    @contextmanager
    def saving(self) -> Iterator[None]:
        """While entered, no signal is raised, not even a second Ctrl-C."""
        self._saving = True
        try:
            yield
        finally:
            self._saving = False


def stops() -> AbstractContextManager[None]:
    """While entered, SIGTERM and SIGHUP raise `Stopped`, as SIGINT raises KeyboardInterrupt."""
    return _handled(lambda number, frame: _stop(number))


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """While entered, `handler` takes the signals that the process does not ignore."""
    main = threading.current_thread() is threading.main_thread()
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if main else ()
    before = {n: signal.signal(n, handler) for n in signals if signal.getsignal(n) is not signal.SIG_IGN}
    try:
        yield
    finally:
        for number, handler_before in before.items():
            signal.signal(number, handler_before)


def _stop(number: int) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise Stopped(128 + number)


def leave(status: int) -> NoReturn:
    """End a process of several at once, when its work is done.

    gloo's threads still hold tensors, and may abort the interpreter's own end (pytorch/pytorch, issue 190489).
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def main() -> None:
    """`python -m emc2_lite.interruption SCRIPT ...`: run the script as `python SCRIPT ...` does, then leave."""
    script, status = sys.argv[1], 0
    sys.argv, sys.path[0] = sys.argv[1:], str(Path(script).parent.resolve())
    try:
        runpy.run_path(script, run_name="__main__")
    except BaseException:
        traceback.print_exc()
        status = 1
    leave(status)


if __name__ == "__main__":
    main()
