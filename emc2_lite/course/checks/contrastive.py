"""Exercises of chapter 01."""

import math

import torch
from torch.nn import functional as F

from emc2_lite.course.exercise import Exercise


def _normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _batch_logits(h1, h2, temperature):
    z = F.normalize(torch.cat((h1, h2)), dim=1)
    return z @ z.T / temperature


def _multiplied(h1, h2, temperature):
    return _batch_logits(h1, h2, 1 / temperature)


def _not_divided(h1, h2, temperature):
    return _batch_logits(h1, h2, 1.0)


def _not_normalised(h1, h2, temperature):
    h = torch.cat((h1, h2))
    return h @ h.T / temperature


def _columns_normalised(h1, h2, temperature):
    z = F.normalize(torch.cat((h1, h2)), dim=0)
    return z @ z.T / temperature


def _scaled_before(h1, h2, temperature):
    return _batch_logits(h1, h2, temperature**2)


def _between_views_only(h1, h2, temperature):
    return F.normalize(h1, dim=1) @ F.normalize(h2, dim=1).T / temperature


def _alternating(h1, h2, temperature):
    z = F.normalize(torch.stack((h1, h2), dim=1).flatten(0, 1), dim=1)
    return z @ z.T / temperature


batch_logits = Exercise(
    "batch_logits",
    _batch_logits,
    cases=[
        (_normal(0, 2, 3), _normal(1, 2, 3), 0.5),
        (_normal(2, 3, 4) * 5, _normal(3, 3, 4) / 5, 0.07),
        (_normal(4, 4, 2), _normal(5, 4, 2), 2.0),
    ],
    mistakes={
        "The similarity is divided by the temperature, not multiplied": _multiplied,
        "The temperature is missing": _not_divided,
        "The embeddings need length 1: normalise each row first": _not_normalised,
        "Each row needs length 1 (dim=1); this gives length 1 to each column": _columns_normalised,
        "Both factors carry the temperature, so it counts twice: divide the product once": _scaled_before,
        "All 2b rows meet all 2b rows: stack the two views before the product": _between_views_only,
        "The rows are in another order: first all of h1, then all of h2": _alternating,
    },
)


def _paired_nt_xent(z, temperature):
    logits = (z @ z.T / temperature).fill_diagonal_(-math.inf)
    return F.cross_entropy(logits, torch.arange(len(z)) ^ 1)


def _wrong_partner(z, temperature):
    logits = (z @ z.T / temperature).fill_diagonal_(-math.inf)
    return F.cross_entropy(logits, torch.arange(len(z)).roll(len(z) // 2))


def _own_row_in_the_sum(z, temperature):
    return F.cross_entropy(z @ z.T / temperature, torch.arange(len(z)) ^ 1)


def _positive_not_in_the_sum(z, temperature):
    logits = z @ z.T / temperature
    rows = torch.arange(len(z))
    positive = logits[rows, rows ^ 1]
    own = (rows[:, None] // 2) == (rows // 2)
    return (logits.masked_fill(own, -math.inf).logsumexp(1) - positive).mean()


def _even_rows_only(z, temperature):
    logits = (z @ z.T / temperature).fill_diagonal_(-math.inf)
    return F.cross_entropy(logits[::2], torch.arange(1, len(z), 2))


def _own_score_zero(z, temperature):
    return F.cross_entropy((z @ z.T / temperature).fill_diagonal_(0), torch.arange(len(z)) ^ 1)


def _simplex(dim):
    """As many vectors as dim, of length 1, each with the similarity -1 / (dim - 1) to all others."""
    return F.normalize(torch.eye(dim, dtype=torch.float64) - 1 / dim, dim=1)


def _sum_of_rows(z, temperature):
    return _paired_nt_xent(z, temperature) * len(z)


def _times_temperature(z, temperature):
    return _paired_nt_xent(z, 1 / temperature)


def _sign_turned(z, temperature):
    return -_paired_nt_xent(z, temperature)


def _other_view_only(z, temperature):
    first, second = z[::2], z[1::2]
    logits = first @ second.T / temperature
    rows = torch.arange(len(first))
    return (F.cross_entropy(logits, rows) + F.cross_entropy(logits.T, rows)) / 2


paired_nt_xent = Exercise(
    "paired_nt_xent",
    _paired_nt_xent,
    cases=[
        (F.normalize(_normal(0, 4, 3), dim=1), 0.5),
        (F.normalize(_normal(1, 10, 4), dim=1), 0.07),
        (F.normalize(_normal(2, 8, 2), dim=1), 2.0),
        (F.normalize(_simplex(4) + 0.01 * _normal(3, 4, 4), dim=1), 0.06),  # where -10 is no minus infinity
    ],
    mistakes={
        "The partners are those of the chapter's layout; here rows 2i and 2i + 1 belong together": _wrong_partner,
        "Each row's score with itself is in its sum: leave the diagonal out": _own_row_in_the_sum,
        "A score of 0 still counts in a sum, as exp(0) = 1: give each row's score with itself minus infinity": (
            _own_score_zero
        ),
        "The positive is missing from the sum; NT-Xent has it in": _positive_not_in_the_sum,
        "Only the even rows are counted; every view takes its turn as the anchor": _even_rows_only,
        "The rows are added up; the loss is their mean": _sum_of_rows,
        "The similarity is divided by the temperature, not multiplied": _times_temperature,
        "The sign is turned: a loss is the negative logarithm of a share": _sign_turned,
        "Only the other view number is in the sum; all rows but the own one belong there": _other_view_only,
    },
)


def _effective_negatives(similarities, temperature):
    log_shares = (similarities / temperature).log_softmax(0)
    return (-(log_shares.exp() * log_shares).sum()).exp()


def _entropy(similarities, temperature):
    return _effective_negatives(similarities, temperature).log()


def _entropy_in_bits(similarities, temperature):
    return _entropy(similarities, temperature) / math.log(2)


def _bits_and_e(similarities, temperature):
    return _entropy_in_bits(similarities, temperature).exp()


def _one_over_the_largest(similarities, temperature):
    return 1 / (similarities / temperature).softmax(0).max()


def _one_over_squares(similarities, temperature):
    return 1 / (similarities / temperature).softmax(0).square().sum()


def _nothing_times_infinity(similarities, temperature):
    shares = (similarities / temperature).softmax(0)
    return (-(shares * shares.log()).sum()).exp()


def _raw_exponentials(similarities, temperature):
    exponentials = (similarities / temperature).exp()
    shares = exponentials / exponentials.sum()
    return (-torch.xlogy(shares, shares).sum()).exp()


def _without_temperature(similarities, temperature):
    return _effective_negatives(similarities, 1.0)


def _sign_lost(similarities, temperature):
    return 1 / _effective_negatives(similarities, temperature)


effective_negatives = Exercise(
    "effective_negatives",
    _effective_negatives,
    cases=[
        (torch.tensor([0.9, 0.7, 0.2, -0.1, -0.5], dtype=torch.float64), 0.2),
        (torch.full((8,), 0.3, dtype=torch.float64), 0.07),
        (torch.tensor([0.8, 0.75, 0.6, 0.0], dtype=torch.float64), 1.0),
        (torch.tensor([0.95, 0.9, -0.4, -0.9], dtype=torch.float64), 0.002),
        (torch.tensor([-0.4, 0.95, -0.9, 0.949]), 0.002),
        (torch.tensor([0.6]), 0.07),
    ],
    mistakes={
        "This is the entropy; the effective number is its exponential": _entropy,
        "This is the entropy in bits; take it in nats and exponentiate": _entropy_in_bits,
        "The entropy is in bits but the exponential is that of nats: use one base for both": _bits_and_e,
        "This is one over the largest share, another measure; take exp of the entropy": _one_over_the_largest,
        "This is one over the sum of squared shares, another measure; take exp of the entropy": _one_over_squares,
        "Where a share rounds to 0, 0 times log 0 is not a number: take log_softmax instead of log": (
            _nothing_times_infinity
        ),
        "exp of 475 is infinite in float32: softmax and log_softmax subtract the largest score first": (
            _raw_exponentials
        ),
        "The temperature is missing": _without_temperature,
        "The sign of the entropy is lost: -sum of p log p is not negative": _sign_lost,
    },
)
