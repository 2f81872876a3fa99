"""DCL treats the batch as the dataset; its expected weights, and so its bias, are known exactly.

test_nt_xent.py has the tests that DCL shares with NT-Xent.
"""

import itertools
import math

import pytest
import reference
import torch
from trials import gradient_of

from emc2_lite.losses import DCLLoss, NTXentLoss

SAMPLES, B = 5, 3


def scores_of_rows(table, temperature):
    """l(r, k) for all pairs of views ((i, v), (j, u)), each a float."""
    names = list(itertools.product(range(len(table)), range(2)))
    return {r: {k: (table[r] @ table[k]).item() / temperature for k in names if k != r} for r in names}


def batches_with(r, samples, b):
    """The equally likely companions of row r in a batch: all sets of b - 1 other samples, as lists of their views."""
    others = itertools.combinations([j for j in range(samples) if j != r[0]], b - 1)
    return [[(j, u) for j in batch for u in range(2)] for batch in others]


def mean_gradient_over_all_batches(criterion, table, b):
    batches = [torch.tensor(batch) for batch in itertools.combinations(range(len(table)), b)]
    return torch.stack([gradient_of(criterion, table, batch) for batch in batches]).mean(dim=0)


def test_the_positive_pulls_with_one_and_the_negatives_push_with_shares_of_one():
    """No autograd: the gradient's forces are -1 for the positive and the softmax over the row's negatives."""
    b, temperature = 4, 0.2
    table = reference.unit_vectors(b, 2, 3).requires_grad_()
    scores = scores_of_rows(table.detach(), temperature)

    def share(r, k):
        return math.exp(scores[r][k]) / sum(math.exp(scores[r][j]) for j in scores[r] if j[0] != r[0])

    expected = reference.weighted_gradient(table.detach(), temperature, share)
    found = gradient_of(DCLLoss(temperature), table, torch.arange(b))
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("with_positive", [False, True], ids=["DCL", "NT-Xent"])
@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_expected_weights_are_those_of_the_docstring(temperature, with_positive):
    """E w(r, k) = p_r(k) E[g(r) / g_batch(r) | k in the batch], by enumeration of all batches; 5 samples, b = 3.

    NT-Xent has the positive in its sum, and pulls it with the expected sum of these weights.
    """
    table = reference.unit_vectors(SAMPLES, 2, 4, seed=1).requires_grad_()
    scores = scores_of_rows(table.detach(), temperature)

    def positive(r):
        return math.exp(scores[r][r[0], 1 - r[1]]) if with_positive else 0.0

    def weight(r, k):
        everything = sum(math.exp(scores[r][j]) for j in scores[r] if j[0] != r[0])
        g = everything / (2 * SAMPLES - 2)
        ratios = [
            (2 * B - 2) * g / (positive(r) + sum(math.exp(scores[r][j]) for j in batch))
            for batch in batches_with(r, SAMPLES, B)
            if k in batch
        ]
        return math.exp(scores[r][k]) / everything * sum(ratios) / len(ratios)

    def pull(r):
        return sum(weight(r, k) for k in scores[r] if k[0] != r[0]) if with_positive else 1.0

    expected = reference.weighted_gradient(table.detach(), temperature, weight, pull)
    criterion = NTXentLoss(temperature) if with_positive else DCLLoss(temperature)
    found = mean_gradient_over_all_batches(criterion, table, B)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_bias_falls_with_the_batch_and_is_gone_when_the_batch_is_the_set():
    """Exact mean gradients of DCL over all batches of 6 samples at temperature 0.2, against the exact gradient."""
    table = reference.unit_vectors(6, 2, 4, seed=1).requires_grad_()
    exact = reference.global_gradient(table.detach(), 0.2)
    errors = []
    for b in (2, 3, 4, 5, 6):
        found = mean_gradient_over_all_batches(DCLLoss(0.2), table, b)
        errors.append(((found - exact).norm() / exact.norm()).item())
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.2 and errors[-1] < 1e-12
