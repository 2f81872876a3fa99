"""Price: every view that passes through the encoder counts, and a budget ends a run and its learning rate."""

from itertools import islice
from types import SimpleNamespace

import pytest
import torch

from emc2_lite.laboratory import step_price, training_curve, visit_price
from emc2_lite.laboratory.training import priced_steps
from emc2_lite.losses import METHODS, DCLLoss, EMC2Loss, NTXentLoss, make_criterion
from emc2_lite.vision import DigitEncoder, DigitViews, load_digits

SAMPLES = 40
ENCODE_NOTHING = ("EMC2 dropped", "EMC2 remembered, reencode=0")
VIEWS = DigitViews(load_digits("train").images[:SAMPLES])


class Counting(DigitEncoder):
    """Counts encodings: 1 for a view without gradient, 3 for one that a backward pass follows."""

    def __init__(self):
        torch.manual_seed(1)
        super().__init__(8)
        self.encodings = 0

    def forward(self, images):
        self.encodings += len(images) * (3 if torch.is_grad_enabled() else 1)
        return super().forward(images)


def sgd(encoder, rate=0.05):
    return torch.optim.SGD(encoder.parameters(), rate)


@pytest.mark.parametrize("method", METHODS)
def test_the_price_of_a_step_is_what_passes_through_the_encoder(method):
    """At a temperature at which the untrained encoder's chains stay often, so that views are encoded in both ways."""
    encoder, spent = Counting(), 0
    criterion = make_criterion(method, num_samples=SAMPLES, dim=8, temperature=0.002)
    criterion.encode_checked = True  # the two encodings of the check are no part of the price
    for priced, stats in islice(priced_steps(encoder, VIEWS, criterion, sgd(encoder, 0.0), batch_size=4), 60):
        spent += step_price(stats, 4)
        assert priced == spent == encoder.encodings
    assert (spent > 60 * 24) == (method.startswith(("cache", "EMC2")) and method not in ENCODE_NOTHING)


def test_a_step_is_six_encodings_a_sample_and_views_encoded_again_one_or_three():
    assert step_price(SimpleNamespace(loss=0.0), 32) == 192
    assert step_price(SimpleNamespace(views_encoded=10, views_encoded_with_gradient=0), 32) == 192 + 10
    assert step_price(SimpleNamespace(views_encoded=10, views_encoded_with_gradient=10), 32) == 192 + 30
    assert step_price(SimpleNamespace(views_encoded=10, views_encoded_with_gradient=4), 32) == 192 + 6 + 12


def test_a_visit_to_all_samples_costs_the_steps_of_an_epoch():
    assert visit_price(40) == 10 * step_price(None, 4) == step_price(None, 40)


@pytest.mark.parametrize("criterion", [NTXentLoss(0.2), EMC2Loss(SAMPLES, 0.002)], ids=["NT-Xent", "EMC2"])
def test_the_learning_rate_falls_with_the_price_spent(criterion):
    encoder = Counting()
    optimiser, budget = sgd(encoder, 0.5), 1000
    for spent, _ in islice(priced_steps(encoder, VIEWS, criterion, optimiser, batch_size=4, budget=budget), 50):
        assert optimiser.param_groups[0]["lr"] == pytest.approx(0.5 * max(1 - spent / budget, 0), abs=1e-12)
    assert spent > budget


def test_without_a_budget_the_learning_rate_stays():
    encoder = Counting()
    optimiser = sgd(encoder)
    list(islice(priced_steps(encoder, VIEWS, DCLLoss(0.2), optimiser, batch_size=4), 5))
    assert optimiser.param_groups[0]["lr"] == 0.05


def test_a_curve_by_price_measures_before_the_first_step_that_finds_the_checkpoint_spent():
    """The price of each step is known from the stats; checkpoint 0 stands before the first step."""
    checkpoints = [0, 300, 301, 700, 1500]
    encoder = Counting()
    curve = training_curve(
        encoder, VIEWS, EMC2Loss(SAMPLES, 0.002), batch_size=4, checkpoints=checkpoints, by="price",
        optimiser=sgd(encoder),
    )  # fmt: skip
    spent = torch.tensor([0] + [step_price(stats, 4) for stats in curve.stats]).cumsum(0)
    steps = sorted({int((spent >= checkpoint).nonzero()[0]) for checkpoint in checkpoints})
    assert curve.steps.tolist() == steps and len(steps) == 4  # 300 and 301 share a measurement
    assert curve.price.tolist() == spent[steps].tolist()
    assert len(curve.stats) == steps[-1] + 1  # a last step, to measure its gradient
    assert curve.price[-1] - 1500 < max(step_price(stats, 4) for stats in curve.stats)


def test_by_steps_a_curve_has_its_price_and_its_learning_rate_too():
    encoder = Counting()
    optimiser = sgd(encoder)
    curve = training_curve(encoder, VIEWS, NTXentLoss(0.2), batch_size=4, checkpoints=[0, 3, 7], optimiser=optimiser)
    assert curve.price.tolist() == [0, 72, 168]
    assert optimiser.param_groups[0]["lr"] == 0.05


def test_at_equal_price_a_loss_that_encodes_nothing_again_has_its_run_by_steps():
    """1 - spent / budget is then 1 - step / steps, torch's linear schedule."""
    ends = []
    for by, checkpoints in (("price", [0, 480]), ("steps", [0, 20])):
        encoder = Counting()
        optimiser = torch.optim.Adam(encoder.parameters(), 1e-2)
        decay = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, 20)
        after_step = {"after_step": decay.step} if by == "steps" else {}
        settings = {"batch_size": 4, "optimiser": optimiser, "checkpoints": checkpoints, "by": by, **after_step}
        ends.append(training_curve(encoder, VIEWS, DCLLoss(0.2), **settings).loss[-1].item())
    assert ends[0] == pytest.approx(ends[1], rel=1e-4)
