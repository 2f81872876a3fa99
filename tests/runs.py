"""Small training runs for the tests: a few digits, a few steps, any of the losses."""

import itertools
import os
import pkgutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from processes import started

from emc2_lite.training import Config, Run, changed, from_dict
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


def in_a_process_that_dies(work: Callable[[], object], *prepare: Callable[[], object]) -> int:
    """Work in a process that one of `prepare` makes end itself; returns the signal that ended it, or 0."""
    process = started(*prepare, work)
    process.join()
    return -process.exitcode


def kill_at(owner: str, name: str, count: int, *, after: bool = False) -> Callable[[], None]:
    """Prepares a process to end by SIGKILL before (or after) the count-th call of the function `name` of `owner`, a
    module or a class in one, such as "os" or "pathlib:Path"."""
    return partial(signal_at, owner, name, count, signal.SIGKILL, after=after)


def signal_at(owner: str, name: str, count: int, number: signal.Signals, *, after: bool = False) -> None:
    """Make the process signal itself before (or after) the count-th call of a function, named as in `kill_at`."""
    found = pkgutil.resolve_name(owner)
    original, calls = getattr(found, name), itertools.count(1)

    def noted(*arguments, **settings):
        last = next(calls) == count
        if last and not after:
            os.kill(os.getpid(), number)
        result = original(*arguments, **settings)
        if last and after:
            os.kill(os.getpid(), number)
        return result

    setattr(found, name, noted)


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
