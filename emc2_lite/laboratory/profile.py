"""Where the time of a training step goes."""

import time
from collections.abc import Callable
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch
from torch import Tensor

from emc2_lite.training.loop import TrainingStep

PHASES = ("views", "encoder", "loss", "views again", "encoder again", "backward", "optimiser")


def step_profile(update: TrainingStep, index: Tensor, view: Tensor) -> dict[str, float]:
    """Take a step, and return the seconds of each of its phases; together they are the step.

    views: making the batch's pixels; encoder: its forward pass; loss: the criterion without the views that it has
    encoded again; views again, encoder again: these, with and without gradient; backward: through loss and encoder,
    for all views that count; optimiser: the update of the weights. On a GPU each phase waits for the one before.

    Args:
        update: a run's step, such as ``Run(...).update``.
        index, view: the batch, (b,) and (2, b), as a call of `update` takes them.
    """
    watch = _Watch(update.device == "cuda")
    criterion = update.criterion

    def in_criterion(*arguments: Any) -> Tensor:
        with (
            watch.phase("loss"),
            _replaced(update, "views", watch.timed("views again", views)),
            _replaced(update, "encoder", watch.timed("encoder again", encoder)),
        ):
            return criterion(*arguments)

    views, encoder = update.views, update.encoder
    with (
        _replaced(update, "views", watch.timed("views", views)),
        _replaced(update, "encoder", watch.timed("encoder", encoder)),
        _replaced(update, "criterion", in_criterion),
        _replaced(update.optimiser, "step", watch.timed("optimiser", update.optimiser.step)),
        watch.phase("backward"),
    ):
        update(index, view)
    return watch.seconds


def median_profile(update: TrainingStep, batches: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """The median of each phase over steps on the batches (index, view), in seconds."""
    profiles = [step_profile(update, index, view) for index, view in batches]
    return {phase: median(profile[phase] for profile in profiles) for phase in PHASES}


class _Watch:
    """Seconds by phase; a phase within another interrupts it."""

    def __init__(self, waits: bool):
        self.waits = waits
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.running: list[str] = []
        self.since = 0.0

    def _switch(self) -> None:
        if self.waits:
            torch.cuda.synchronize()
        now = time.perf_counter()
        if self.running:
            self.seconds[self.running[-1]] += now - self.since
        self.since = now

    @contextmanager
    def phase(self, name: str):
        self._switch()
        self.running.append(name)
        try:
            yield
        finally:
            self._switch()
            self.running.pop()

    def timed(self, name: str, work: Callable) -> Callable:
        def run(*arguments, **settings):
            with self.phase(name):
                return work(*arguments, **settings)

        return run


@contextmanager
def _replaced(owner: Any, name: str, value: Any):
    before = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is None:
            delattr(owner, name)
        else:
            setattr(owner, name, before)
