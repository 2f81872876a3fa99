"""Small training runs for the tests: a few digits, a few steps, any of the losses."""

import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path

import torch

from emc2_lite.training import Config, Run, changed, from_dict, run
from emc2_lite.vision import DigitViews, load_images

CPU = torch.device("cpu")
VIEWS = DigitViews(load_images("digits", "train", samples=48).images)

SMALL = {
    "data": {"name": "digits", "samples": 48},
    "encoder": {"name": "digits", "dim": 8},
    "loss": {"method": "EMC2", "temperature": 0.2},
    "optimiser": {"name": "adam", "learning_rate": 0.003, "warmup_epochs": 0.5},
    "training": {
        "epochs": 3,
        "batch_size": 8,
        "device": "cpu",
        "threads": 1,
        "log_steps": 4,
        "evaluate_images": 100,
        "checkpoint_seconds": 0,
    },
}
LOSSES = {
    "NT-Xent": {},
    "DCL": {},
    "SogCLR": {},
    "cache": {"refresh": 0.05},
    "EMC2": {},
    "EMC2 multiproposal": {"kernel": "multiproposal"},
    "EMC2 remembered": {"held": "remembered", "reencode": 0.5},
    "EMC2 dropped": {"held": "dropped"},
}


def small(method: str = "EMC2", **values) -> Config:
    """The small run with a loss of `LOSSES`, and values such as training__epochs=2."""
    settings = {f"loss.{name}": value for name, value in LOSSES[method].items()}
    named = {name.replace("__", "."): value for name, value in values.items()}
    known = ("EMC2", "NT-Xent", "DCL", "SogCLR", "cache")
    name = next(name for name in known if method.startswith(name))
    return changed(from_dict(SMALL), **{"loss.method": name}, **settings, **named)


def new_run(method: str = "EMC2", **values) -> Run:
    return Run(small(method, **values), VIEWS, CPU)


def weights(encoder: torch.nn.Module) -> torch.Tensor:
    """All weights in one row, detached."""
    return torch.cat([parameter.detach().flatten() for parameter in encoder.parameters()])


def every_fourth_step(monkeypatch) -> None:
    """Checkpoints at every fourth step of a run with checkpoint_seconds = 4: each call of the clock adds a second."""
    ticks = itertools.count()
    monkeypatch.setattr(run.time, "monotonic", lambda: next(ticks))


def in_a_process_that_dies(work: Callable[[], object], prepare: Callable[[], object]) -> int:
    """Work in a forked process that `prepare` makes kill itself; returns the signal that ended the process, or 0."""
    child = os.fork()
    if child == 0:
        try:
            prepare()
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) * -1


def kill_at(owner: object, name: str, count: int, *, after: bool = False) -> Callable[[], None]:
    """Prepares a process to end by SIGKILL before (or after) the count-th call of a function."""

    def prepare() -> None:
        original, calls = getattr(owner, name), itertools.count(1)

        def deadly(*arguments, **settings):
            last = next(calls) == count
            if last and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = original(*arguments, **settings)
            if last:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(owner, name, deadly)

    return prepare


def same(one: object, other: object) -> bool:
    """Equal to the last bit, through dictionaries and lists."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def outcome(folder: Path) -> dict:
    """The last checkpoint without the run's seconds."""
    state = torch.load(folder / "last.pt", weights_only=True)
    return {name: value for name, value in state.items() if name != "seconds"}
