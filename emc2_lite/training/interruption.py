"""Ctrl-C and polite kills, kept waiting until the step that is being made is done."""

import signal
import threading
from types import FrameType


class Interruption:
    """While it is entered, SIGINT and SIGTERM are noted instead of raised; a second one acts at once.

    `asked` is the signal that came, or None; `obey()` ends the run as the signal would have, if one came. Outside the
    main thread, where Python does not let signals be handled, nothing is changed.
    """

    def __init__(self):
        self.asked: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked is not None:
            self._end(number)
        self.asked = number

    def obey(self) -> None:
        """
        Raises:
            KeyboardInterrupt: after SIGINT.
            SystemExit: after SIGTERM, with status 143.
        """
        if self.asked is not None:
            self._end(self.asked)

    @staticmethod
    def _end(number: int) -> None:
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)
