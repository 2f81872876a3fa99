"""Signs of life of a run: a bar on a terminal and in a notebook, elsewhere a line at most every half minute."""

import sys
import time
from contextlib import suppress

from tqdm import tqdm

EVERY_SECONDS = 30.0
FIRST_STEPS = 10  # that the first line waits for


class Progress:
    """Shows how far a run is, while entered.

    Args:
        step, total_steps: where the run stands, and where it ends.
        batch_size: images a step.
        shown: False for nothing at all.

    A terminal that is lost stops the showing, not the run.
    """

    def __init__(self, step: int, total_steps: int, batch_size: int, *, shown: bool = True):
        self.step, self.total_steps, self.batch_size = step, total_steps, batch_size
        self.first, self.began = step, time.perf_counter()
        self.told: float | None = None
        self.shown = shown
        self.bar = None
        in_kernel = "ipykernel" in sys.modules and _in_kernel()
        if shown and (in_kernel or sys.stderr.isatty()):
            kind = _notebook_bar() if in_kernel else tqdm
            total = total_steps * batch_size
            self.bar = kind(total=total, initial=step * batch_size, unit="img", unit_scale=True)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception) -> None:
        if self.bar is not None:
            with suppress(OSError):
                self.bar.close()

    def advance(self, numbers: dict[str, float]) -> None:
        """One step more; `numbers` are the last row of metrics, empty before the first."""
        self.step += 1
        if not self.shown:
            return
        try:
            if self.bar is not None:
                self.bar.update(self.batch_size)
                self.bar.set_postfix_str(_words(numbers), refresh=False)
            elif self._due():
                self.told = time.perf_counter()
                print(self.line(numbers), file=sys.stderr, flush=True)
        except OSError:
            self.shown = False

    def _due(self) -> bool:
        if self.told is None:
            return self.step - self.first >= FIRST_STEPS or self.step == self.total_steps
        return self.step == self.total_steps or time.perf_counter() - self.told >= EVERY_SECONDS

    def line(self, numbers: dict[str, float]) -> str:
        """Such as "step 1,200 of 4,500, loss 3.21, 512 images/s, 3 min left"."""
        seconds = max(time.perf_counter() - self.began, 1e-9)
        speed = (self.step - self.first) / seconds
        left = (self.total_steps - self.step) / speed
        words = [
            f"step {self.step:,} of {self.total_steps:,}",
            _words(numbers),
            f"{speed * self.batch_size:,.0f} images/s",
        ]
        return ", ".join([*filter(None, words), f"{duration(left)} left"])


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _words(numbers: dict[str, float]) -> str:
    shown = {"loss": "loss", "effective_rank": "rank", "negative_similarity": "similarity"}
    return ", ".join(f"{word} {numbers[name]:.3g}" for name, word in shown.items() if name in numbers)


def _in_kernel() -> bool:
    from IPython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None


def _notebook_bar() -> type[tqdm]:
    """tqdm's bar of widgets, or its plain one where ipywidgets are not installed."""
    from tqdm.notebook import IProgress, tqdm_notebook

    return tqdm if IProgress is None else tqdm_notebook
