"""A step's profile: the same step, its phases apart, and nothing left behind."""

import time

import pytest
import torch

from emc2_lite.laboratory import median_profile, step_profile
from emc2_lite.laboratory.profile import PHASES
from emc2_lite.losses import EMC2Loss, NTXentLoss
from emc2_lite.training.loop import TrainingStep, views_of_epoch
from emc2_lite.vision import DigitEncoder, DigitViews, load_digits

VIEWS = DigitViews(load_digits("train").images[:40])
BATCHES = [(torch.arange(8) + 8 * (step % 5), views_of_epoch(step // 5, torch.arange(8))) for step in range(15)]


def training_step(criterion):
    torch.manual_seed(0)
    encoder = DigitEncoder()
    optimiser = torch.optim.Adam(encoder.parameters(), 1e-3)
    return TrainingStep(encoder, VIEWS, criterion, optimiser, torch.Generator().manual_seed(0))


def parts(step):
    """All that a step has but what it is there to change."""
    return {name: value for name, value in vars(step).items() if name != "embeddings"}


def test_a_profiled_step_is_the_step():
    plain, profiled = training_step(EMC2Loss(40, 0.07)), training_step(EMC2Loss(40, 0.07))
    before = parts(profiled)
    for index, view in BATCHES:
        plain(index, view)
        step_profile(profiled, index, view)
    assert parts(profiled) == before
    for one, other in zip(plain.encoder.parameters(), profiled.encoder.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("criterion", [NTXentLoss(0.07), EMC2Loss(40, 0.002)])
def test_phases_add_up_and_views_are_encoded_again_where_they_are(criterion):
    step = training_step(criterion)
    step(*BATCHES[0])  # the first step may encode views to see that they come out the same
    for index, view in BATCHES:
        started = time.perf_counter()
        seconds = step_profile(step, index, view)
        taken = time.perf_counter() - started
        assert tuple(seconds) == PHASES and sum(seconds.values()) <= taken
        again = getattr(criterion.stats, "views_encoded", 0) > 0
        assert all((seconds[phase] > 0) == (again or "again" not in phase) for phase in PHASES)
    assert again == isinstance(criterion, EMC2Loss)


def test_a_phase_holds_the_time_of_its_work():
    """The views sleep for 20 ms."""
    step = training_step(NTXentLoss(0.07))

    def slow(index, view):
        time.sleep(0.02)
        return VIEWS(index, view)

    step.views = slow
    assert median_profile(step, BATCHES[:5])["views"] >= 0.02


def test_a_refused_step_leaves_nothing_behind():
    step = training_step(NTXentLoss(0.07))
    before = parts(step)
    with pytest.raises(ValueError, match="more than once"):
        step_profile(step, torch.zeros(8, dtype=torch.int64), BATCHES[0][1])
    assert parts(step) == before and "step" not in vars(step.optimiser)
