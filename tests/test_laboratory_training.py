"""training_curve measures the exact loss and gradient at the weights of each checkpoint."""

import copy

import pytest
import torch

from emc2_lite.laboratory import training_curve
from emc2_lite.losses import DCLLoss, EMC2Loss, NTXentLoss, global_contrastive_loss
from emc2_lite.training import train
from emc2_lite.vision import DigitEncoder, DigitViews, load_digits

VIEWS = DigitViews(load_digits("train").images[:12])
CRITERIA = {"NT-Xent": lambda: NTXentLoss(0.2), "EMC2": lambda: EMC2Loss(12, 0.2)}


def new_encoder():
    torch.manual_seed(1)
    return DigitEncoder(8)


def sgd(encoder, rate=0.05, **settings):
    return torch.optim.SGD(encoder.parameters(), rate, **settings)


def flat(tensors):
    return torch.cat([tensor.detach().flatten() for tensor in tensors]).clone()


def loss_and_gradient(encoder):
    """The exact loss of all views and its gradient in the weights, straight through the encoder."""
    index = torch.arange(12)
    z = torch.stack([encoder(VIEWS(index, torch.full_like(index, v))) for v in (0, 1)], dim=1)
    loss = global_contrastive_loss(z, 0.2)
    return loss.item(), flat(torch.autograd.grad(loss, list(encoder.parameters())))


def curve(criterion, encoder=None, **settings):
    encoder = encoder or new_encoder()
    settings = {"batch_size": 4, "checkpoints": [0, 3, 7], "optimiser": sgd(encoder), "seed": 5} | settings
    return training_curve(encoder, VIEWS, criterion, **settings)


@pytest.mark.parametrize("make", CRITERIA.values(), ids=CRITERIA)
def test_a_curve_equals_autograd_at_each_checkpoint(make):
    """The same run, step by step: before step k the weights have seen k updates, and step k takes the gradient g."""
    encoder, expected = new_encoder(), []

    def measure(step):
        if step in (0, 3, 7):
            taken = flat(p.grad for p in encoder.parameters())
            loss, exact = loss_and_gradient(encoder)
            expected.append([step, 24 * step, loss, exact.square().sum().item(), (taken - exact).square().sum().item()])

    settings = {"batch_size": 4, "optimiser": sgd(encoder, weight_decay=0.1), "fixed_views": True, "seed": 5}
    train(encoder, VIEWS, make(), steps=8, on_gradient=measure, **settings)
    measured = new_encoder()
    result = curve(make(), measured, optimiser=sgd(measured, weight_decay=0.1))
    torch.testing.assert_close(
        torch.stack(result[:5], dim=1), torch.tensor(expected, dtype=torch.float64), rtol=1e-4, atol=0
    )
    assert result.squared_error.min() > 0.01 * result.squared_norm.max()
    assert len(result.stats) == 8
    assert torch.equal(flat(measured.parameters()), flat(encoder.parameters()))  # measuring changes nothing


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_a_checkpoint_is_its_number_of_updates_after_the_start(steps):
    encoder = new_encoder()
    train(encoder, VIEWS, NTXentLoss(0.2), steps=steps, batch_size=4, optimiser=sgd(encoder), fixed_views=True, seed=5)
    loss, exact = loss_and_gradient(encoder)
    result = curve(NTXentLoss(0.2), checkpoints=[steps])
    assert result.steps.tolist() == [steps]
    assert result.loss.item() == pytest.approx(loss, rel=1e-6)
    assert result.squared_norm.item() == pytest.approx(exact.square().sum().item(), rel=1e-4)


def test_with_the_whole_set_as_the_batch_every_step_takes_the_exact_gradient():
    result = curve(DCLLoss(0.2), batch_size=12, checkpoints=[0, 1, 10, 60])
    assert result.squared_norm.min() > 1e-4
    assert (result.squared_error < 1e-8 * result.squared_norm).all()
    assert result.loss[1] < result.loss[0]


def test_the_learning_rate_follows_a_schedule_of_the_steps():
    encoder, rates = new_encoder(), []
    optimiser = sgd(encoder, 1.0)
    decay = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, 4)

    def after_step():
        rates.append(optimiser.param_groups[0]["lr"])
        decay.step()

    result = curve(
        DCLLoss(0.2), encoder, batch_size=12, optimiser=optimiser, checkpoints=[0, 4, 6], after_step=after_step
    )
    assert rates == pytest.approx([1, 0.75, 0.5, 0.25, 0, 0, 0])
    assert result.loss[0] > result.loss[1]
    assert result.loss[1] == result.loss[2]  # the rate is 0 from step 4 on


def test_on_gradient_comes_before_the_update_and_after_step_comes_after_it():
    encoder = new_encoder()
    gradients, states = [], [flat(encoder.parameters())]

    def on_gradient(step):
        gradient = flat(p.grad for p in encoder.parameters())
        assert gradient.norm() > 0
        assert torch.equal(flat(encoder.parameters()), states[-1])
        gradients.append((step, gradient))

    def after_step():
        states.append(flat(encoder.parameters()))
        torch.testing.assert_close(states[-1], states[-2] - 0.05 * gradients[-1][1])

    train(
        encoder, VIEWS, NTXentLoss(0.2), steps=4, batch_size=4, optimiser=sgd(encoder),
        on_gradient=on_gradient, after_step=after_step,
    )  # fmt: skip
    assert [step for step, _ in gradients] == [0, 1, 2, 3]
    assert len(states) == 5


def end(rate=None, **settings):
    """The weights after 5 steps; with a rate, the optimiser is Adam with this rate."""
    encoder = new_encoder()
    if rate is not None:
        settings["optimiser"] = torch.optim.Adam(encoder.parameters(), lr=rate)
    train(encoder, VIEWS, NTXentLoss(0.2), steps=5, batch_size=4, **settings)
    return flat(encoder.parameters())


def test_the_default_optimiser_is_adam_with_learning_rate_0_001():
    assert torch.equal(end(), end(rate=1e-3))
    assert torch.equal(end(learning_rate=5e-3), end(rate=5e-3))
    assert not torch.equal(end(), end(rate=5e-3))
    assert torch.equal(end(rate=0.0), flat(new_encoder().parameters()))
    assert torch.equal(end(rate=2e-3, learning_rate=1.0), end(rate=2e-3))


def test_frozen_weights_are_left_out_of_the_norms():
    encoder = new_encoder()
    encoder.trunk.requires_grad_(False)
    _, exact = loss_and_gradient(copy.deepcopy(encoder).requires_grad_())
    projector_gradient = exact[-sum(p.numel() for p in encoder.projector.parameters()) :]
    result = curve(NTXentLoss(0.2), encoder, checkpoints=[0])
    assert result.squared_norm.item() == pytest.approx(projector_gradient.square().sum().item(), rel=1e-4)


@pytest.mark.parametrize(
    ("checkpoints", "sentence"),
    [
        ([], "checkpoints is []: it must be a list of at least 1 value."),
        ([3, 2], "checkpoints is [3, 2]: its numbers must grow from one to the next."),
        ([2, 2], "checkpoints is [2, 2]: its numbers must grow from one to the next."),
        ([-1, 3], "checkpoints holds -1: it must be a whole number from 0 to 1,000,000,000."),
    ],
)
def test_checkpoints_that_do_not_increase_are_refused(checkpoints, sentence):
    with pytest.raises(ValueError) as refusal:
        curve(NTXentLoss(0.2), checkpoints=checkpoints)
    assert str(refusal.value) == sentence
