"""Exercises of chapter 01; in the mistakes: similarities s, temperature t."""

import math
from functools import partial

import torch
from torch.nn import functional as F

from emc2_lite.course.checks import wrong_temperatures
from emc2_lite.course.exercise import Exercise
from emc2_lite.losses import DCLLoss, NTXentLoss


def _normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _products(rows):
    return rows @ rows.T


def _batch_logits(h1, h2, temperature, dim=1):
    return _products(F.normalize(torch.cat((h1, h2)), dim=dim)) / temperature


batch_logits = Exercise(
    "batch_logits",
    _batch_logits,
    cases=[
        (_normal(0, 2, 3), _normal(1, 2, 3), 0.5),
        (_normal(2, 3, 4) * 5, _normal(3, 3, 4) / 5, 0.07),
        (_normal(4, 4, 2), _normal(5, 4, 2), 2.0),
    ],
    mistakes={
        **wrong_temperatures(_batch_logits),
        "The embeddings need length 1: normalise each row first": lambda h1, h2, t: _products(torch.cat((h1, h2))) / t,
        "This gives length 1 to each column: each row needs length 1 (dim=1)": partial(_batch_logits, dim=0),
        "Both factors are divided by the temperature: divide once": lambda h1, h2, t: _batch_logits(h1, h2, t**2),
        "The result has 2b rows and 2b columns: stack the two views before the product": (
            lambda h1, h2, t: F.normalize(h1, dim=1) @ F.normalize(h2, dim=1).T / t
        ),
        "The rows are in the wrong order: first all of h1, then all of h2": (
            lambda h1, h2, t: _products(F.normalize(torch.stack((h1, h2), dim=1).flatten(0, 1), dim=1)) / t
        ),
    },
)


def _nt_xent(z, temperature, own_score=-math.inf, rows=slice(None)):
    """NT-Xent of the anchors `rows`, where rows 2i and 2i + 1 belong together; each row has `own_score` with itself."""
    logits = (_products(z) / temperature).fill_diagonal_(own_score)
    return F.cross_entropy(logits[rows], (torch.arange(len(z)) ^ 1)[rows])


def _other_view_only(z, temperature):
    logits, rows = z[::2] @ z[1::2].T / temperature, torch.arange(len(z) // 2)
    return (F.cross_entropy(logits, rows) + F.cross_entropy(logits.T, rows)) / 2


paired_nt_xent = Exercise(
    "paired_nt_xent",
    _nt_xent,
    cases=[
        (F.normalize(_normal(0, 4, 3), dim=1), 0.5),
        (F.normalize(_normal(1, 10, 4), dim=1), 0.07),
        (F.normalize(_normal(2, 8, 2), dim=1), 2.0),
        # a simplex, where a score of -10 is no minus infinity
        (F.normalize((torch.eye(4).double() - 1 / 4) / (3 / 4) ** 0.5 + 0.01 * _normal(3, 4, 4), dim=1), 0.06),
    ],
    mistakes={
        "Rows i and i + b are partners in the chapter's layout; here rows 2i and 2i + 1 belong together": (
            lambda z, t: NTXentLoss(t)(*z.chunk(2), torch.arange(len(z) // 2))
        ),
        "Each row's score with itself is in its sum: leave it out": lambda z, t: _nt_xent(z, t, own_score=1 / t),
        "A score of 0 still counts in a sum, as exp(0) = 1: set each row's score with itself to minus infinity": (
            lambda z, t: _nt_xent(z, t, own_score=0)
        ),
        "The positive is missing from the sum: NT-Xent includes it": (
            lambda z, t: DCLLoss(t)(z[::2], z[1::2], torch.arange(len(z) // 2))
        ),
        "Only the even rows are anchors: every row must be an anchor once": partial(_nt_xent, rows=slice(0, None, 2)),
        "This is the sum over the rows: the loss is their mean": lambda z, t: _nt_xent(z, t) * len(z),
        "The sign is wrong: the loss is the negative logarithm of a share": lambda z, t: -_nt_xent(z, t),
        "The sum has only the rows of the other view: it needs every row except the anchor": _other_view_only,
        **wrong_temperatures(_nt_xent),
    },
)


def _entropy(similarities, temperature):
    log_shares = (similarities / temperature).log_softmax(0)
    return -(log_shares.exp() * log_shares).sum()


def _effective_negatives(similarities, temperature):
    return _entropy(similarities, temperature).exp()


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
        "This is the entropy: the effective number is its exponential": _entropy,
        "This is the entropy in bits: take it in nats, then its exponential": lambda s, t: _entropy(s, t) / math.log(2),
        "The entropy is in bits, but exp needs nats: use one base": lambda s, t: (_entropy(s, t) / math.log(2)).exp(),
        "This is 1 / (largest share): take exp of the entropy": lambda s, t: 1 / (s / t).softmax(0).max(),
        "This is 1 / (sum of squared shares): take exp of the entropy": lambda s, t: (s / t).softmax(0).norm() ** -2,
        "Where a share rounds to 0, 0 times log 0 is not a number: take log_softmax instead of log": (
            lambda s, t: (-(s / t).softmax(0) * (s / t).softmax(0).log()).sum().exp()
        ),
        "exp of 475 is infinite in float32: softmax and log_softmax subtract the largest score first": (
            lambda s, t: torch.special.entr((s / t).exp() / (s / t).exp().sum()).sum().exp()
        ),
        "The minus sign is missing: the entropy is -sum of p log p": lambda s, t: 1 / _effective_negatives(s, t),
        **wrong_temperatures(_effective_negatives),
    },
)
