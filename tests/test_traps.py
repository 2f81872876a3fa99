"""Mistakes of public implementations, each put into a plain reference: the library agrees with the right reference.

The reference with the mistake must differ clearly on the same inputs, or the test would prove nothing.
"""

import itertools
import math

import pytest
import reference
import torch
from trials import Encoder, call, draws, gradient_of, random_visit

from emc2_lite.losses import (
    DCLLoss,
    EMC2Loss,
    NegativeCacheLoss,
    NTXentLoss,
    SogCLRLoss,
    global_contrastive_loss,
)


def assert_right_and_not_trapped(found, right, trapped, clearly=0.05):
    """The library's result equals the right one, and the trapped one is off by more than `clearly` of its length."""
    torch.testing.assert_close(found, right, rtol=1e-9, atol=1e-11)
    assert not (trapped - right).norm() <= clearly * right.norm()  # NaN and infinity differ, too


def stacked_gradients(losses, table):
    return torch.stack([torch.autograd.grad(loss, table, retain_graph=True)[0] for loss in losses])


EMC2_TRAPS = [
    ("one step fewer than the divisor", "encoded"),
    ("burn-in subtracted twice", "encoded"),
    ("index -1 as the last column", "encoded"),
    ("a score that is never refreshed", "encoded"),
    ("one chain for both views", "encoded"),
    ("mass dropped without renormalising", "dropped"),
]


@pytest.mark.parametrize(("trap", "held"), EMC2_TRAPS, ids=[trap for trap, _ in EMC2_TRAPS])
def test_emc2(trap, held):
    """20 visits while the weights move; the gradients of all of them together, from the same random numbers."""
    samples, b, temperature = 6, 3, 0.1
    start, drift = reference.unit_vectors(samples, 2, 3), reference.unit_vectors(samples, 2, 3, seed=1)
    criterion, generator = EMC2Loss(samples, temperature, held=held).double(), torch.Generator().manual_seed(0)
    gradients, chains = {"library": [], None: [], trap: []}, {None: {}, trap: {}}
    for step in range(20):
        table = torch.nn.functional.normalize(start + 0.1 * step * drift, dim=-1).requires_grad_()
        index, view = random_visit(samples, 2, b, generator)
        replay = generator.clone_state()
        losses = {"library": call(criterion, table, index, view, Encoder(table), generator)}
        numbers = draws(b, replay, held)
        for which in (None, trap):
            settings = {"temperature": temperature, "held": held, "kernel": "metropolis", "trap": which}
            losses[which] = reference.emc2(chains[which], table, index, view, numbers, **settings)[0]
        for which, loss in losses.items():
            gradients[which].append(torch.autograd.grad(loss, table, retain_graph=True)[0])
    assert_right_and_not_trapped(*(torch.stack(gradients[which]) for which in ("library", None, trap)))


def in_batch_loss(z1, z2, temperature, *, positive_in_sum, positives_flagged_by_zero=False, raw=None):
    """DCL or NT-Xent from a matrix of scores in which own views are set to 0; `raw`: the dtype of exponentials."""
    rows, b = torch.cat((z1, z2)), len(z1)
    scores = rows @ rows.T / temperature
    own = torch.eye(b, dtype=torch.bool).repeat(2, 2)
    positive = scores.diagonal(b).repeat(2)
    excluded = scores.masked_fill(own, 0) == 0 if positives_flagged_by_zero else own
    if raw is None:
        log_sum = scores.masked_fill(excluded, -math.inf).logsumexp(dim=1)
    else:
        log_sum = scores.to(raw).exp().masked_fill(excluded, 0).sum(dim=1).log().double()
    if positive_in_sum:
        log_sum = torch.logaddexp(log_sum, positive)
    return (log_sum - positive).mean()


@pytest.mark.parametrize("loss", [NTXentLoss, DCLLoss])
def test_positives_flagged_by_a_score_of_zero(loss):
    """Negatives at right angles have score 0: the mistake takes them for positives and leaves them out of the sum."""
    table = reference.unit_vectors(4, 2, 6)
    table[0, :, 3:], table[1:, :, :3] = 0, 0
    table = torch.nn.functional.normalize(table, dim=-1).requires_grad_()
    found = gradient_of(loss(0.5), table, torch.arange(4))
    right, trapped = (
        torch.autograd.grad(
            in_batch_loss(*table.unbind(1), 0.5, positive_in_sum=loss is NTXentLoss, positives_flagged_by_zero=flagged),
            table,
        )[0]
        for flagged in (False, True)
    )
    assert_right_and_not_trapped(found, right, trapped.nan_to_num())


@pytest.mark.parametrize(("dtype", "temperature"), [(torch.float16, 0.07), (torch.float32, 0.01)])
@pytest.mark.parametrize("loss", [NTXentLoss, DCLLoss])
def test_raw_exponentials_in_low_precision(loss, dtype, temperature):
    """e^14 overflows float16, e^100 overflows float32. Samples 0 and 1 are alike, so sums are large."""
    table = reference.unit_vectors(5, 2, 4).to(dtype)
    table[1] = table[0]
    z1, z2 = table.unbind(1)
    found = loss(temperature)(z1, z2, torch.arange(5)).item()
    positive_in_sum = loss is NTXentLoss
    right = in_batch_loss(z1.double(), z2.double(), temperature, positive_in_sum=positive_in_sum).item()
    trapped = in_batch_loss(z1.double(), z2.double(), temperature, positive_in_sum=positive_in_sum, raw=dtype).item()
    assert found == pytest.approx(right, rel=1e-5)
    assert math.isinf(trapped)


def test_sogclr_first_visit_of_the_batch_instead_of_the_chain():
    """New samples come beside known ones: with the mistake their averages start at gamma times the right value."""
    samples, temperature, gamma = 8, 0.2, 0.5
    table, generator = reference.unit_vectors(samples, 2, 3).requires_grad_(), torch.Generator().manual_seed(0)
    criterion, kinds = SogCLRLoss(samples, temperature, gamma).double(), ("of a chain", "of the batch")
    averages, losses = {kind: {} for kind in kinds}, {kind: [] for kind in ("library", *kinds)}
    for _ in range(5):
        index, _ = random_visit(samples, 2, 3, generator)
        losses["library"].append(call(criterion, table, index))
        for kind in kinds:
            losses[kind].append(
                reference.sogclr(
                    averages[kind],
                    *table[index].unbind(1),
                    index,
                    temperature=temperature,
                    gamma=gamma,
                    first_visit=kind,
                )[0]
            )
    assert_right_and_not_trapped(*(stacked_gradients(losses[kind], table) for kind in ("library", *kinds)))


@pytest.mark.parametrize("temperature", [0.07, 0.2])
def test_a_gradient_scaled_by_two_over_beta(temperature):
    """2 / beta = 2 temperature. With the whole set as batch, a first visit has the exact gradient, in full."""
    table = reference.unit_vectors(6, 2, 3).requires_grad_()
    exact = reference.global_gradient(table.detach(), temperature)
    for criterion in (DCLLoss(temperature), SogCLRLoss(6, temperature)):
        found = gradient_of(criterion, table, torch.arange(6))
        assert_right_and_not_trapped(found, exact, 2 * temperature * exact)


def cache_gradient(table, index, temperature, weight, positive_with_itself=False):
    """Mean over rows of -grad l(r, positive) + sum_k weight(r, k) grad l(r, k), by autograd of a plain sum."""
    terms = []
    for i, v in itertools.product(index, range(2)):
        positive = table[i, v] if positive_with_itself else table[i, 1 - v]
        terms.append(-(table[i, v] @ positive) / temperature)
        for j, u in itertools.product(range(len(table)), range(2)):
            if j != i:
                terms.append(weight((i, v), (j, u)) * (table[i, v] @ table[j, u]) / temperature)
    return torch.autograd.grad(sum(terms) / (2 * len(index)), table)[0]


def full_cache(table, temperature, num_negatives):
    criterion = NegativeCacheLoss(*table.shape[::2], temperature, refresh=0, num_negatives=num_negatives).double()
    criterion.cache.copy_(table.detach())
    criterion.cache_view.copy_(torch.arange(2).expand(len(table), 2))
    return criterion


def test_a_cache_whose_positives_are_scored_with_themselves():
    """<q, q> = 1 for every normalised q, so nothing attracts. At temperature 0.01 each draw is all but certain."""
    temperature, index = 0.01, torch.arange(2)
    table = torch.tensor([[[1, 0, 0, 0], [0.6, 0.8, 0, 0]], [[0.8, 0, 0.6, 0], [-0.6, 0, 0, 0.8]]], dtype=torch.float64)
    criterion = full_cache(table.requires_grad_(), temperature, num_negatives=1)

    def weight(r, k):
        nearer = (table[r] @ (table[k] - table[k[0], 1 - k[1]])).item() / temperature
        assert abs(nearer) > 20  # nats
        return float(nearer > 0)

    found = gradient_of(criterion, table, index, generator=torch.Generator().manual_seed(0))
    right = cache_gradient(table, index.tolist(), temperature, weight)
    trapped = cache_gradient(table, index.tolist(), temperature, weight, positive_with_itself=True)
    assert_right_and_not_trapped(found, right, trapped)


def test_a_cache_that_draws_several_negatives_without_replacement_and_weighs_them_alike():
    """Every row has one view that is all but certain: drawn 3 times it weighs 1; without replacement 3 weigh 1/3."""
    temperature, table = 0.002, reference.unit_vectors(5, 2, 4).requires_grad_()
    index = [3, 1]
    nearest = {}
    for r in itertools.product(index, range(2)):
        negatives = [k for k in itertools.product(range(5), range(2)) if k[0] != r[0]]
        nearest[r] = sorted(negatives, key=lambda k, r=r: -(table[r] @ table[k]).item())
        first, second = ((table[r] @ table[k]).item() for k in nearest[r][:2])
        assert first - second > 0.03  # 15 nats
    right = cache_gradient(table, index, temperature, lambda r, k: float(k == nearest[r][0]))
    trapped = cache_gradient(table, index, temperature, lambda r, k: float(k in nearest[r][:3]) / 3)
    criterion = full_cache(table, temperature, num_negatives=3)
    found = gradient_of(criterion, table, torch.tensor(index), generator=torch.Generator().manual_seed(0))
    assert_right_and_not_trapped(found, right, trapped)


class PlainSogCLR(torch.nn.Module):
    """SogCLR with its averages in a buffer or, the mistake, in an attribute that state_dict does not have."""

    def __init__(self, buffered):
        super().__init__()
        log_u = torch.full((6, 2), -math.inf, dtype=torch.float64)
        if buffered:
            self.register_buffer("log_u", log_u)
        else:
            self.log_u = log_u

    def forward(self, z1, z2, index, *_):
        averages = {
            (i, slot): math.exp(self.log_u[i, slot].item())
            for i, slot in itertools.product(range(6), range(2))
            if self.log_u[i, slot] > -math.inf
        }
        loss = reference.sogclr(averages, z1, z2, index, temperature=0.2, gamma=0.5)[0]
        for chain, average in averages.items():
            self.log_u[chain] = math.log(average)
        return loss


def test_a_state_that_is_not_a_buffer_is_lost():
    """The gradient of a fourth visit, by a new loss with the state_dict after three visits."""
    table = reference.unit_vectors(6, 2, 3).requires_grad_()

    def resumed(make):
        before, after, generator = make(), make(), torch.Generator().manual_seed(0)
        for _ in range(3):
            call(before, table, random_visit(6, 2, 4, generator)[0])
        after.load_state_dict(before.state_dict())
        index, _ = random_visit(6, 2, 4, generator)
        return gradient_of(after, table, index)

    found = resumed(lambda: SogCLRLoss(6, 0.2, gamma=0.5).double())
    assert_right_and_not_trapped(
        found, *(resumed(lambda buffered=buffered: PlainSogCLR(buffered)) for buffered in (True, False)), clearly=0.02
    )


@pytest.mark.parametrize("trap", ["beta squared", "positive in the denominator"])
def test_a_wrong_exact_gradient(trap):
    """Squared: embeddings scaled by beta before the product, so that scores are beta^2 <., .> and not beta <., .>."""
    temperature, table = 0.2, reference.unit_vectors(6, 2, 3)
    table[:, 1] = torch.nn.functional.normalize(table[:, 0] + 0.5 * table[:, 1], dim=-1)
    table.requires_grad_()
    found, right = (
        torch.autograd.grad(loss(table, temperature), table)[0]
        for loss in (global_contrastive_loss, reference.global_loss)
    )
    squared = trap == "beta squared"
    wrong = reference.global_loss(table, temperature**2 if squared else temperature, include_positive=not squared)
    assert_right_and_not_trapped(found, right, torch.autograd.grad(wrong, table)[0])
