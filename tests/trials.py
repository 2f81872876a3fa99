"""What the tests of the losses share: losses by name, random visits, an encoder with notes, statistical statements."""

import math

import torch
from scipy.stats import chi2

from emc2_lite.losses import make_criterion, random_proposals


def make(method, **settings):
    """A function (num_samples, dim, temperature) -> a new loss."""

    def made(num_samples, dim, temperature):
        return make_criterion(method, num_samples=num_samples, dim=dim, temperature=temperature, **settings)

    return made


LOSSES = {name: make(name) for name in ("NT-Xent", "DCL", "SogCLR", "EMC2")}
LOSSES |= {name: make(name) for name in ("EMC2 without refresh", "EMC2 stored", "EMC2 multiproposal")}
LOSSES["cache"] = make("cache", refresh=0.1, num_negatives=2)


class Encoder:
    """Looks views up in a table, and notes its calls in `asked`: (pairs, with gradient?) each."""

    def __init__(self, table):
        self.table, self.asked = table, []

    def __call__(self, index, view):
        self.asked.append((list(zip(index.tolist(), view.tolist(), strict=True)), torch.is_grad_enabled()))
        return self.table[index, view]


def random_visit(num_samples, num_views, b, generator):
    index = torch.randperm(num_samples, generator=generator)[:b]
    return index, torch.stack([torch.randperm(num_views, generator=generator)[:2] for _ in range(b)], dim=1)


def without_compiled_code(monkeypatch):
    """Compute as on devices that compiled code does not serve."""
    monkeypatch.setattr("emc2_lite.kernels.compiles_for", lambda device: False)


def proposals(b, generator):
    """Candidate orders and uniforms, as an EMC2 loss of 2b rows in float64 draws them."""
    return random_proposals(b, torch.empty(0, dtype=torch.float64), generator)


def call(criterion, table, index, view=None, encode=None, generator=None):
    """Call a loss on two stored views, 0 and 1 if not given, of the named samples of a table (N, V, d)."""
    first, second = (0, 1) if view is None else view
    encode = Encoder(table) if encode is None else encode
    return criterion(table[index, first], table[index, second], index, view, encode, generator)


def gradient_of(criterion, table, index, view=None, encode=None, generator=None):
    return torch.autograd.grad(call(criterion, table, index, view, encode, generator), table)[0]


def assert_multinomial(draws, probabilities, false_alarm_rate=1e-5):
    """Chi-square with expected counts of 5 and less pooled."""
    expected = len(draws) * probabilities
    observed = torch.bincount(draws, minlength=len(expected)).double()
    few = expected < 5
    if few.any():
        expected = torch.cat((expected[~few], expected[few].sum()[None] + 1e-9))
        observed = torch.cat((observed[~few], observed[few].sum()[None]))
    statistic = ((observed - expected).square() / expected).sum().item()
    assert statistic < chi2.isf(false_alarm_rate, len(expected) - 1)


def assert_mean(values, expected, precision):
    """Every coordinate of the mean of independent values (n, ...) is within 6 standard errors of the expected one.

    False-alarm rate below 2e-9 a coordinate. The errors together must be under `precision` times the expected norm, or
    the statement would be empty.
    """
    standard_error = values.std(dim=0) / math.sqrt(len(values))
    assert standard_error.norm() < precision * expected.norm()
    assert ((values.mean(dim=0) - expected).abs() <= 6 * standard_error + 1e-12).all()
