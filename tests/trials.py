"""What the tests of the losses share: losses by name, random visits, an encoder with notes, statistical statements."""

import math

import pytest
import reference
import torch
from scipy.stats import chi2

from emc2_lite.losses import make_criterion, random_proposals
from emc2_lite.sampling import random_uniforms


def make(method, **settings):
    """A function (num_samples, dim, temperature) -> a new loss."""

    def made(num_samples, dim, temperature):
        return make_criterion(method, num_samples=num_samples, dim=dim, temperature=temperature, **settings)

    return made


EMC2 = ("EMC2", "EMC2 remembered", "EMC2 stale", "EMC2 dropped", "EMC2 multiproposal", "EMC2 multiproposal remembered")
LOSSES = {name: make(name) for name in ("NT-Xent", "DCL", "SogCLR", *EMC2)}
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


def draws(b, generator, held="encoded", kernel="metropolis"):
    """The random numbers of a call of an EMC2 loss, as it draws them for 2b rows in float64.

    Candidate orders and uniforms, or those of the exchange, the halves and the move; coins for the carried-over views.
    """

    def uniforms(*shape):
        return random_uniforms(shape, torch.float64, torch.device("cpu"), generator)

    if kernel == "multiproposal":
        *numbers, _ = (uniforms(2 * b, columns) for columns in (1 + 2 * b, b, 1 + 2 * b, 1 + 2 * b))
    else:
        numbers = random_proposals(b, torch.empty(0, dtype=torch.float64), generator)
    return *numbers, uniforms(2 * b) if held == "remembered" or kernel == "multiproposal" else None


def assert_visits_are_those_of_the_method(criterion):
    """60 visits while the weights move, replayed by a plain loop from the same random numbers.

    Weights (through value and gradient), state and price; `criterion` is an EMC2 loss of 9 samples in float64, d = 3.
    """
    samples, views, b = 9, 3, 4
    start, drift = (reference.unit_vectors(samples, views, 3, seed=seed) for seed in range(2))
    how = {"held": criterion.held, "kernel": criterion.kernel}
    settings = how | {"temperature": criterion.temperature, "burn_in": criterion.burn_in}
    generator, chains, visits_with_a_carried_over_term = torch.Generator().manual_seed(0), {}, 0
    for visit in range(60):
        table = torch.nn.functional.normalize(start + 0.1 * visit * drift, dim=-1).requires_grad_()
        (index, view), encoder = random_visit(samples, views, b, generator), Encoder(table)
        numbers = draws(b, generator.clone_state(), **how)
        loss = call(criterion, table, index, view, encoder, generator)
        plain, weights, scored, encoded = reference.emc2(
            chains, table, index, view, numbers, reencode=criterion.reencode, **settings
        )
        torch.testing.assert_close(loss, plain, rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(
            torch.autograd.grad(loss, table), torch.autograd.grad(plain, table), rtol=1e-10, atol=1e-12
        )
        for (sample, slot), chain in chains.items():
            assert (criterion.chain_index[sample, slot], criterion.chain_view[sample, slot]) == chain.view
            assert criterion.chain_score[sample, slot].item() == pytest.approx(chain.score, abs=1e-11)
            assert chain.view[0] != sample
            if criterion.held == "remembered":
                torch.testing.assert_close(criterion.chain_embedding[sample, slot], chain.embedding)
        carried = [weight for _, weight in weights]
        visits_with_a_carried_over_term += any(carried)
        stats = criterion.stats
        assert stats.carried_over_share.item() == pytest.approx(sum(w > 0 for w in carried) / (2 * b))
        assert (stats.views_encoded, stats.views_encoded_with_gradient) == (len(scored) + len(encoded), len(encoded))
        assert [(sorted(pairs), grad) for pairs, grad in encoder.asked] == [
            (sorted(pairs), grad) for pairs, grad in ((scored, False), (encoded, True)) if pairs
        ]
    assert visits_with_a_carried_over_term > 20


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
