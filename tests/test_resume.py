"""A run that is killed at any moment and then resumed ends with the bits of a run without a kill, for every loss."""

import itertools
import json
import signal
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from runs import LOSSES, in_a_process_that_dies, kill_at, outcome, same, signal_at
from runs import small as small_run

from emc2_lite.runs import train_run
from emc2_lite.training import fitting

STEP = "emc2_lite.training.loop:TrainingStep"
MOMENTS = {
    "within a step": kill_at("torch.optim:Adam", "step", 7),
    "after a step, before the count": kill_at(STEP, "__call__", 6, after=True),
    "before the first checkpoint": kill_at(STEP, "__call__", 2),
    "while a checkpoint is written": kill_at("os", "fsync", 2),
    "before a checkpoint has its name": kill_at("pathlib:Path", "replace", 3),
    "right after it has its name": kill_at("pathlib:Path", "replace", 3, after=True),
    "between the metrics and the checkpoint": kill_at("emc2_lite.training.metrics:MetricsLog", "write", 3, after=True),
    "between the best checkpoint and the last": kill_at("emc2_lite.training.fitting", "save_checkpoint", 2, after=True),
    "in the last step": kill_at(STEP, "__call__", 18),
}


small = partial(small_run, training__checkpoint_seconds=4)


def a_second_a_look():
    """The module `time` with a clock that each look moves on by a second: every fourth step saves a checkpoint."""
    ticks = itertools.count()
    return SimpleNamespace(**vars(time) | {"monotonic": lambda: next(ticks)})


@pytest.fixture(autouse=True)
def seldom(monkeypatch):
    monkeypatch.setattr(fitting, "time", a_second_a_look())


def ended(work, prepare):
    """The signal that ended a process with the same clock."""
    return in_a_process_that_dies(work, slow_clock, prepare)


def slow_clock():
    fitting.time = a_second_a_look()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The outcome of each loss's run without a kill."""
    outcomes = {}

    def outcome_of(method: str) -> tuple[dict, list]:
        if method not in outcomes:
            folder = tmp_path_factory.mktemp("whole")
            train_run(small(method), folder, progress=False)
            outcomes[method] = outcome(folder), lines(folder)
        return outcomes[method]

    return outcome_of


def lines(folder: Path) -> list[dict]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "images_per_second"} for row in rows]


@pytest.mark.parametrize("method", LOSSES)
def test_every_loss_ends_with_the_same_weights_after_a_kill(method, whole, tmp_path):
    work = partial(train_run, small(method), tmp_path, progress=False)
    assert ended(work, kill_at(STEP, "__call__", 11)) == signal.SIGKILL
    assert 0 < torch.load(tmp_path / "last.pt", weights_only=True)["step"] < 11
    work()
    expected, rows = whole(method)
    assert same(outcome(tmp_path), expected)
    assert lines(tmp_path) == rows


@pytest.mark.parametrize("prepare", MOMENTS.values(), ids=MOMENTS)
def test_the_moment_of_the_kill_does_not_matter(prepare, whole, tmp_path):
    work = partial(train_run, small("EMC2"), tmp_path, progress=False)
    assert ended(work, prepare) == signal.SIGKILL
    work()
    expected, rows = whole("EMC2")
    assert same(outcome(tmp_path), expected)
    assert lines(tmp_path) == rows
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "last.pt", "metrics.jsonl", "record.json"]


def test_a_run_may_be_killed_again_and_again(whole, tmp_path):
    work = partial(train_run, small("EMC2"), tmp_path, progress=False)
    deaths = 0
    while ended(work, kill_at(STEP, "__call__", 6)) == signal.SIGKILL:
        deaths += 1
    assert deaths >= 3
    assert same(outcome(tmp_path), whole("EMC2")[0])


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_ends_with_the_same_weights_after_a_kill(precision, tmp_path):
    config = small("EMC2", training__precision=precision, optimiser__clip=1.0)
    train_run(config, tmp_path / "whole", progress=False)
    work = partial(train_run, config, tmp_path / "killed", progress=False)
    assert ended(work, kill_at(STEP, "__call__", 11)) == signal.SIGKILL
    work()
    assert same(outcome(tmp_path / "killed"), outcome(tmp_path / "whole"))


def test_a_run_of_a_price_spends_no_more_after_a_kill(tmp_path):
    """At this temperature chains stay, so that steps have different prices."""
    config = small("EMC2", training__budget="price", loss__temperature=0.002)
    train_run(config, tmp_path / "whole", progress=False)
    work = partial(train_run, config, tmp_path / "killed", progress=False)
    assert ended(work, kill_at(STEP, "__call__", 10)) == signal.SIGKILL
    work()
    assert same(outcome(tmp_path / "killed"), outcome(tmp_path / "whole"))
    assert outcome(tmp_path / "whole")["step"] < 18


def test_sigterm_and_sigint_lose_nothing(tmp_path, whole):
    """Both signals end the run after the present step, with a checkpoint of this step."""
    work = partial(train_run, small("EMC2"), tmp_path, progress=False)

    ended(work, partial(signal_at, STEP, "__call__", 6, signal.SIGTERM))
    assert torch.load(tmp_path / "last.pt", weights_only=True)["step"] == 6
    ended(work, partial(signal_at, STEP, "__call__", 4, signal.SIGINT))
    assert torch.load(tmp_path / "last.pt", weights_only=True)["step"] == 10
    work()
    assert same(outcome(tmp_path), whole("EMC2")[0])
