"""Where the time of a training step goes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from unittest import mock

import torch
from torch import Tensor

from emc2_lite.training import loop

PHASES = ("views", "encoder", "loss", "views again", "encoder again", "backward", "optimiser")


def step_profile(update: loop.TrainingStep, index: Tensor, view: Tensor) -> dict[str, float]:
    """Take a step, and return the seconds of each of its phases; together they are about the step.

    views: making the batch's pixels; encoder: its forward pass; loss: the criterion without the views that it encodes
    again; views again, encoder again: these views, with and without gradient; backward: the gradient pass through loss
    and encoder; optimiser: the update of the weights. On a GPU each phase waits for the phase before.

    A stopwatch takes the place of the step's profiler marks: torch's profiler would also record every operation, and
    lengthen phases of many small operations most.

    Args:
        update: a run's step, such as ``Run(...).update``.
        index, view: the batch, (b,) and (2, b), as a call of `update` takes them.
    """
    seconds, since = dict.fromkeys(PHASES, 0.0), 0.0
    running: list[str] = []

    def switch() -> None:
        nonlocal since
        if update.device == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        if running:
            seconds[running[-1]] += now - since
        since = now

    @contextmanager
    def mark(name: str) -> Iterator[None]:
        switch()
        running.append(f"{name} again" if "loss" in running else name)
        try:
            yield
        finally:
            switch()
            running.pop()

    with mock.patch.object(loop, "record_function", mark):
        update(index, view)
    return seconds


def median_profile(update: loop.TrainingStep, batches: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """The median of each phase over steps on the batches (index, view), in seconds."""
    profiles = [step_profile(update, index, view) for index, view in batches]
    return {phase: median(profile[phase] for profile in profiles) for phase in PHASES}
