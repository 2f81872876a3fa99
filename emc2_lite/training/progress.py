"""The progress of a run: a bar on a terminal and in a notebook, elsewhere a line at most every half minute."""

import math
import sys
import time
from contextlib import AbstractContextManager, suppress

from tqdm.auto import tqdm

FIRST_STEPS, EVERY_SECONDS = 10, 30.0  # before the first line, and between two lines


class Progress(AbstractContextManager):
    """Shows the progress of a run, from `step` to `total_steps` of `batch_size` images, while it is entered.

    A lost terminal ends the display, not the run; with `shown` False there is no display at all.
    """

    def __init__(self, step: int, total_steps: int, batch_size: int, *, shown: bool = True):
        self.step, self.total_steps, self.batch_size = step, total_steps, batch_size
        self.first, self.began, self.due, self.calls = step, time.perf_counter(), math.inf, 0
        # With disable=None tqdm disables the bar where stderr is no terminal; a notebook has its bar all the same.
        place = {"total": total_steps * batch_size, "initial": step * batch_size, "unit": "img", "unit_scale": True}
        self.bar = tqdm(**place, disable=None) if shown else None

    def __exit__(self, *exception) -> None:
        if self.bar is not None:
            with suppress(OSError):
                self.bar.close()

    def advance(self, numbers: dict[str, float], step: float) -> None:
        """Show that the run is at `step`; `numbers` is the last row of metrics, empty before the first."""
        before, self.step, self.calls = self.step, min(int(step), self.total_steps), self.calls + 1
        if self.bar is None:
            return
        try:
            if not self.bar.disable:
                self.bar.update((self.step - before) * self.batch_size)
                self.bar.set_postfix_str(", ".join(_words(numbers)), refresh=False)
            elif self._worth_a_line(before):
                self.due = time.perf_counter() + EVERY_SECONDS
                print(self.line(numbers), file=sys.stderr, flush=True)
        except OSError:
            self.bar = None

    def _worth_a_line(self, before: float) -> bool:
        begun = before < self.first + FIRST_STEPS <= self.step
        return begun or before < self.step == self.total_steps or time.perf_counter() >= self.due

    def line(self, numbers: dict[str, float]) -> str:
        """Such as "step 1,200 of 4,500, loss 3.21, 512 images/s, 3 min left"."""
        seconds = max(time.perf_counter() - self.began, 1e-9)
        left = duration((self.total_steps - self.step) * seconds / max(self.step - self.first, 1))
        images = self.calls * self.batch_size / seconds
        counted, pace = f"step {self.step:,} of {self.total_steps:,}", f"{images:,.0f} images/s"
        return ", ".join([counted, *_words(numbers), pace, f"{left} left"])


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _words(numbers: dict[str, float]) -> list[str]:
    shown = {"loss": "loss", "effective_rank": "rank", "negative_similarity": "similarity"}
    return [f"{word} {numbers[name]:.3g}" for name, word in shown.items() if name in numbers]
