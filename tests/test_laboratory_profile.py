"""A step's profile: the step itself, the seconds of its phases, and the profiler marks restored."""

import time
from types import SimpleNamespace

import pytest
import torch

from emc2_lite.laboratory import median_profile, step_profile
from emc2_lite.laboratory.profile import PHASES
from emc2_lite.losses import EMC2Loss, NTXentLoss
from emc2_lite.training import loop
from emc2_lite.training.loop import TrainingStep, views_of_epoch
from emc2_lite.vision import DigitEncoder, DigitViews, load_digits

VIEWS = DigitViews(load_digits("train").images[:40])
BATCHES = [(torch.arange(8) + 8 * (step % 5), views_of_epoch(step // 5, torch.arange(8))) for step in range(15)]


def training_step(criterion):
    torch.manual_seed(0)
    encoder = DigitEncoder()
    optimiser = torch.optim.Adam(encoder.parameters(), 1e-3)
    return TrainingStep(encoder, VIEWS, criterion, optimiser, torch.Generator().manual_seed(0))


def test_a_profiled_step_changes_the_weights_as_a_plain_step():
    plain, profiled = training_step(EMC2Loss(40, 0.07)), training_step(EMC2Loss(40, 0.07))
    for index, view in BATCHES:
        plain(index, view)
        step_profile(profiled, index, view)
    for one, other in zip(plain.encoder.parameters(), profiled.encoder.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("criterion", [NTXentLoss(0.07), EMC2Loss(40, 0.002)])
def test_phases_add_up_and_only_emc2_encodes_views_again(criterion):
    step = training_step(criterion)
    step(*BATCHES[0])  # the first step checks `encode` on some views
    phases = steps = 0.0
    for index, view in BATCHES:
        started = time.perf_counter()
        seconds = step_profile(step, index, view)
        taken = time.perf_counter() - started
        assert tuple(seconds) == PHASES and sum(seconds.values()) <= taken
        phases, steps = phases + sum(seconds.values()), steps + taken
        again = getattr(criterion.stats, "views_encoded", 0) > 0
        assert all((seconds[phase] > 0) == (again or "again" not in phase) for phase in PHASES)
    assert phases > 0.8 * steps
    assert again == isinstance(criterion, EMC2Loss)


def test_a_phase_holds_the_time_of_its_work():
    """Making the views sleeps for 20 ms."""
    step = training_step(NTXentLoss(0.07))

    def slow(index, view):
        time.sleep(0.02)
        return VIEWS(index, view)

    step.views = SimpleNamespace(trusted=slow)
    assert median_profile(step, BATCHES[:5])["views"] >= 0.02


def test_a_refused_step_restores_the_marks():
    marks = loop.record_function
    with pytest.raises(ValueError, match="more than once"):
        step_profile(training_step(NTXentLoss(0.07)), torch.zeros(8, dtype=torch.int64), BATCHES[0][1])
    assert loop.record_function is marks
