"""Optimisers follow their formulas step by step, and a resumed run continues to the last bit."""

import io
import math

import pytest
import torch
from runs import weights
from torch import nn

from emc2_lite.training.optimisers import LARS, make_optimiser, warmup_cosine

SETTINGS = {"learning_rate": 0.1, "weight_decay": 0.01, "momentum": 0.8}


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 5), nn.GroupNorm(1, 5), nn.Tanh(), nn.Linear(5, 2))


def train(model, optimiser, steps, schedule=None, start=0):
    """Steps `start` to `steps`, each on its own data."""
    for step in range(start, steps):
        generator = torch.Generator().manual_seed(step)
        optimiser.zero_grad()
        model(torch.randn(4, 3, generator=generator).to(weights(model))).square().mean().backward()
        optimiser.step()
        if schedule is not None:
            schedule.step()


def lars_by_hand(weight, gradients, lr, weight_decay, momentum, trust):
    """The formula in plain Python on one tensor, after the given gradients."""
    w, v = weight.tolist(), [0.0] * len(weight)
    for gradient in gradients:
        d = [g + weight_decay * x for g, x in zip(gradient.tolist(), w, strict=True)]
        lengths = math.hypot(*w), math.hypot(*d)
        ratio = trust * lengths[0] / lengths[1] if min(lengths) > 0 else 1.0
        v = [momentum * a + ratio * b for a, b in zip(v, d, strict=True)]
        w = [x - lr * a for x, a in zip(w, v, strict=True)]
    return torch.tensor(w, dtype=torch.float64)


def after_steps(weight, gradients, **settings):
    parameter = nn.Parameter(weight.clone())
    optimiser = LARS([parameter], **settings)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimiser.step()
    return parameter.detach()


@pytest.fixture
def numbers():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 6, dtype=torch.float64, generator=generator), 3 * torch.randn(
        8, 2, 6, dtype=torch.float64, generator=generator
    )


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("trust", [0.001, 0.5])
def test_lars_is_its_formula(numbers, weight_decay, momentum, trust):
    weight, gradients = numbers
    came = after_steps(weight, gradients, lr=0.7, weight_decay=weight_decay, momentum=momentum, trust_coefficient=trust)
    expected = lars_by_hand(weight.flatten(), gradients.flatten(1), 0.7, weight_decay, momentum, trust)
    torch.testing.assert_close(came.flatten(), expected, rtol=1e-12, atol=1e-12)


def test_lars_defaults_are_those_of_the_papers_run(numbers):
    weight, gradients = numbers
    expected = lars_by_hand(weight.flatten(), gradients.flatten(1), 1.2, 0.0, 0.9, 0.001)
    torch.testing.assert_close(after_steps(weight, gradients, lr=1.2).flatten(), expected, rtol=1e-12, atol=1e-12)


def test_lars_step_does_not_depend_on_the_gradients_length(numbers):
    weight, gradients = numbers
    torch.testing.assert_close(
        after_steps(weight, 1e6 * gradients, lr=1.0), after_steps(weight, gradients, lr=1.0), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("shape", [(12,), ()])
def test_lars_treats_biases_and_scales_as_plain_momentum_without_decay(shape):
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(shape, generator=generator)
    gradients = torch.randn(5, *shape, generator=generator)
    plain = nn.Parameter(weight.clone())
    sgd = torch.optim.SGD([plain], 0.1, momentum=0.9)
    for gradient in gradients:
        plain.grad = gradient.clone()
        sgd.step()
    torch.testing.assert_close(after_steps(weight, gradients, lr=0.1, weight_decay=0.5), plain.detach())


def test_lars_moves_a_zero_weight_by_its_gradient():
    """A convolution that starts at 0 must leave it."""
    gradient = torch.tensor([[3.0, 4.0]])
    torch.testing.assert_close(after_steps(torch.zeros(1, 2), [gradient], lr=0.1), -0.1 * gradient)


def test_lars_does_not_move_a_weight_with_zero_gradient():
    weight = torch.ones(2, 2)
    assert torch.equal(after_steps(weight, [torch.zeros(2, 2)], lr=0.1), weight)


def test_lars_skips_parameters_without_gradient():
    used, unused = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    optimiser = LARS([used, unused], 0.1, weight_decay=0.1)
    used.grad = torch.ones(2, 2)
    optimiser.step()
    assert (unused == 1).all()
    assert (used < 1).all()


def test_lars_calls_a_closure_with_gradient():
    weight = nn.Parameter(torch.ones(2, 2))
    optimiser = LARS([weight], 0.1)

    def closure():
        loss = weight.square().sum()
        loss.backward()
        return loss

    assert optimiser.step(closure) == 4
    assert (weight < 1).all()


def test_lars_groups_have_their_own_rates():
    slow, fast = nn.Parameter(torch.ones(1, 2)), nn.Parameter(torch.ones(1, 2))
    optimiser = LARS([{"params": [slow]}, {"params": [fast], "lr": 0.5}], 0.1)
    slow.grad, fast.grad = torch.ones(1, 2), torch.ones(1, 2)
    optimiser.step()
    torch.testing.assert_close(1 - fast, 5 * (1 - slow))


def test_lars_lowers_a_loss():
    model = network()
    inputs = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    optimiser = LARS(model.parameters(), 0.5, trust_coefficient=0.02)
    losses = []
    for _ in range(100):
        optimiser.zero_grad()
        losses.append(model(inputs).square().mean())
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("name", ["adam", "sgd", "lars"])
def test_a_resumed_run_continues_to_the_last_bit(name):
    """All states pass through a file that is loaded with weights_only, like a checkpoint."""

    def start(seed):
        model = network(seed)
        optimiser = make_optimiser(name, model, **SETTINGS)
        return model, optimiser, warmup_cosine(optimiser, warmup_steps=4, total_steps=12)

    whole = start(0)
    train(whole[0], whole[1], 10, whole[2])
    first = start(0)
    train(first[0], first[1], 6, first[2])
    file = io.BytesIO()
    torch.save([part.state_dict() for part in first], file)
    file.seek(0)
    second = start(1)
    for part, state in zip(second, torch.load(file, weights_only=True), strict=True):
        part.load_state_dict(state)
    train(second[0], second[1], 10, second[2], start=6)
    assert torch.equal(weights(second[0]), weights(whole[0]))
    assert second[2].get_last_lr() == whole[2].get_last_lr()


def two_steps(name):
    """A weight of 2 after two steps, each with gradient 0.5."""
    model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    nn.init.constant_(model.weight, 2.0)
    optimiser = make_optimiser(name, model, **SETTINGS)
    for _ in range(2):
        model.weight.grad = torch.full((1, 1), 0.5, dtype=torch.float64)
        optimiser.step()
    return model.weight.item()


def test_sgd_adds_the_decay_to_the_gradient():
    """By hand, two steps: d = 0.5 + 0.01 w; v = 0.8 v + d; w = w - 0.1 v."""
    w, v = 2.0, 0.0
    for _ in range(2):
        v = 0.8 * v + 0.5 + 0.01 * w
        w -= 0.1 * v
    assert two_steps("sgd") == pytest.approx(w, rel=1e-12)


def test_adam_adds_the_decay_to_the_gradient():
    """Coupled: with decay 1 and w = 2 the gradient -2.5 + 1 * 2 keeps its sign, and the step its size, the rate."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 2.0)
    optimiser = make_optimiser("adam", model, learning_rate=0.1, weight_decay=1.0, momentum=0.9)
    model.weight.grad = torch.full((1, 1), -2.5)
    optimiser.step()
    assert model.weight.item() == pytest.approx(2.1)  # decoupled decay would give 2 - 0.2 + 0.1


def test_lars_uses_the_given_momentum_and_decay():
    expected = lars_by_hand(torch.tensor([2.0]).double(), torch.full((2, 1), 0.5), 0.1, 0.01, 0.8, 0.001)
    assert two_steps("lars") == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("name", ["adam", "sgd", "lars"])
def test_an_optimiser_has_every_parameter(name):
    model = network()
    before = weights(model).clone()
    train(model, make_optimiser(name, model, **SETTINGS), 2)
    assert (weights(model) != before).float().mean() > 0.99


def test_the_papers_runs():
    """Settings of STL-10, ImageNet-100 and the gradient-error experiment."""
    model = network()
    stl10 = make_optimiser("adam", model, learning_rate=1e-4, weight_decay=1e-4, momentum=0.9)
    assert type(stl10) is torch.optim.Adam
    assert (stl10.defaults["lr"], stl10.defaults["weight_decay"], stl10.defaults["betas"]) == (1e-4, 1e-4, (0.9, 0.999))
    assert not stl10.defaults.get("decoupled_weight_decay")  # torch 2.6 has no such choice
    imagenet = make_optimiser("lars", model, learning_rate=1.2, weight_decay=1e-6, momentum=0.9)
    assert imagenet.defaults == {"lr": 1.2, "weight_decay": 1e-6, "momentum": 0.9, "trust_coefficient": 0.001}
    gradient_error = make_optimiser("sgd", model, learning_rate=1e-3, weight_decay=1e-4, momentum=0.0)
    chosen = {key: gradient_error.defaults[key] for key in ("lr", "weight_decay", "momentum", "nesterov", "dampening")}
    assert chosen == {"lr": 1e-3, "weight_decay": 1e-4, "momentum": 0.0, "nesterov": False, "dampening": 0}


def rates(steps, **settings):
    """The rates of steps 0, 1, ... for a full rate of 2."""
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 2.0)
    schedule = warmup_cosine(optimiser, **settings)
    taken = []
    for _ in range(steps):
        taken.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    return taken


def test_the_rate_rises_linearly_and_falls_along_a_cosine():
    taken = rates(53, warmup_steps=10, total_steps=50)
    assert taken[:10] == pytest.approx([0.2 * t for t in range(1, 11)])
    assert taken[9] == taken[10] == 2.0
    assert taken[30] == pytest.approx(1.0)  # half-way between 10 and 50
    assert taken[20] == pytest.approx(1 + math.cos(math.pi / 4))
    assert taken[49] == pytest.approx(1 - math.cos(math.pi / 40))
    assert taken[50:] == [0.0, 0.0, 0.0]


def test_without_warmup_the_first_rate_is_the_full_rate():
    assert rates(3, warmup_steps=0, total_steps=2) == pytest.approx([2.0, 1.0, 0.0])


def test_a_run_can_be_all_warmup():
    assert rates(5, warmup_steps=4, total_steps=4) == [0.5, 1.0, 1.5, 2.0, 0.0]


def test_every_group_keeps_its_share_of_the_rate():
    slow, fast = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    optimiser = torch.optim.SGD([{"params": [slow]}, {"params": [fast], "lr": 0.8}], 0.1)
    warmup_cosine(optimiser, warmup_steps=4, total_steps=8)
    assert [group["lr"] for group in optimiser.param_groups] == pytest.approx([0.025, 0.2])


def made(name, **changes):
    return make_optimiser(name, network(), **{**SETTINGS, **changes})


REFUSALS = {
    "name is 'adamw': use one of adam, sgd, lars.": lambda: made("adamw"),
    "learning_rate is 0: it must be a number above 0.": lambda: made("adam", learning_rate=0),
    "learning_rate is nan: it must be a number above 0.": lambda: made("sgd", learning_rate=math.nan),
    "weight_decay is -1: it must be a number of 0 or more.": lambda: made("adam", weight_decay=-1),
    "momentum is 1: it must be a number from 0, and below 1.": lambda: made("sgd", momentum=1),
    "lr is inf: it must be a number above 0.": lambda: LARS(network().parameters(), math.inf),
    "weight_decay is inf: it must be": lambda: LARS(network().parameters(), 1.0, math.inf),
    "momentum is -0.1: it must be": lambda: LARS(network().parameters(), 1.0, momentum=-0.1),
    "trust_coefficient is 0: it must be": lambda: LARS(network().parameters(), 1.0, trust_coefficient=0),
    "trust_coefficient is inf": lambda: LARS(network().parameters(), 1.0, trust_coefficient=math.inf),
    "The warm-up has 5 steps and the run 4": lambda: rates(0, warmup_steps=5, total_steps=4),
    "The warm-up has -1 steps": lambda: rates(0, warmup_steps=-1, total_steps=4),
    "The warm-up has 0 steps and the run 0": lambda: rates(0, warmup_steps=0, total_steps=0),
}


@pytest.mark.parametrize(("sentence", "call"), REFUSALS.items(), ids=REFUSALS)
def test_bad_settings_are_refused_in_one_sentence(sentence, call):
    with pytest.raises(ValueError) as refusal:
        call()
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)
