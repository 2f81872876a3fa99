"""Exercises of chapter 09; in the mistakes: gradients g, rank r of k, n samples, images i, captions c."""

import torch
from torch import Tensor
from torch.nn import functional as F

from emc2_lite.course.checks import wrong_temperatures
from emc2_lite.course.exercise import Exercise


def _part(whole: Tensor, rank: int, size: int) -> Tensor:
    return whole.chunk(size)[rank]


def _gradients(size: int, n: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2 * size * n, 3, generator=generator) for _ in range(size)]


gathered_gradient = Exercise(
    "gathered_gradient",
    lambda gradients, rank: _part(torch.stack(gradients).sum(0), rank, len(gradients)),
    cases=[(_gradients(size, n, size), rank) for size, n, rank in ((2, 3, 1), (4, 2, 2), (3, 1, 0), (1, 4, 0))],
    mistakes={
        "This is what the process makes of its own rows: add what all others make of them": (
            lambda g, r: _part(g[r], r, len(g))
        ),
        "This is the mean over processes: the gradient of a gathered row is the sum": (
            lambda g, r: _part(torch.stack(g).mean(0), r, len(g))
        ),
        "These are the rows of all processes: cut out those of this one": lambda g, r: sum(g),
        "These are the rows of process 0: cut out those of this one": lambda g, r: _part(
            torch.stack(g).sum(0), 0, len(g)
        ),
        "This process's own part is missing from the sum": (
            lambda g, r: _part(torch.stack(g).sum(0) - g[r], r, len(g))
        ),
        "This adds the parts of one process's gradient: add the same rows of every process's": (
            lambda g, r: sum(_part(g[r], p, len(g)) for p in range(len(g)))
        ),
    },
)


def _positives(n: int, rank: int, size: int) -> Tensor:
    own = rank * n + torch.arange(n)
    return torch.cat((own + n * size, own))


positive_columns = Exercise(
    "positive_columns",
    _positives,
    cases=[(2, 1, 2), (3, 0, 2), (1, 2, 4), (4, 3, 4), (5, 0, 1)],
    mistakes={
        "These are the positives of process 0: this process's samples begin at column rank * n": (
            lambda n, r, k: _positives(n, 0, k)
        ),
        "The second views begin at column n * size, after the first views of all processes": (
            lambda n, r, k: torch.cat((r * n + torch.arange(n) + n, r * n + torch.arange(n)))
        ),
        "These are the columns of the rows themselves: the positive is the other view": (
            lambda n, r, k: _positives(n, r, k).roll(n)
        ),
        "These are the positives of the first views: add those of the second": lambda n, r, k: _positives(n, r, k)[:n],
        "These are the positives of the second views: begin with those of the first": (
            lambda n, r, k: _positives(n, r, k)[n:]
        ),
        "Here each process's two views lie side by side: all first views come before all second ones": (
            lambda n, r, k: 2 * r * n + torch.arange(2 * n).roll(n)
        ),
    },
)


def _one_side(anchors: Tensor, others: Tensor, temperature: float) -> Tensor:
    return F.cross_entropy(anchors @ others.T / temperature, torch.arange(len(anchors)))


def _clip(images: Tensor, captions: Tensor, temperature: float) -> Tensor:
    return (_one_side(images, captions, temperature) + _one_side(captions, images, temperature)) / 2


def _pairs(count: int, seed: int, temperature: float) -> tuple[Tensor, Tensor, float]:
    generator = torch.Generator().manual_seed(seed)
    images, captions = (torch.randn(count, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    return F.normalize(images, dim=1), F.normalize(captions + 0.5 * images, dim=1), temperature


def _without_positives(anchors: Tensor, others: Tensor, temperature: float) -> Tensor:
    scores = anchors @ others.T / temperature
    negatives = scores.masked_fill(torch.eye(len(scores), dtype=torch.bool), -torch.inf)
    return (negatives.logsumexp(1) - scores.diag()).mean()


clip_loss = Exercise(
    "clip_loss",
    _clip,
    cases=[_pairs(5, 0, 0.1), _pairs(8, 1, 0.5), _pairs(2, 2, 1.0), _pairs(6, 3, 0.01)],
    mistakes={
        "Only the images are anchors here: the captions are anchors too": _one_side,
        "Only the captions are anchors here: the images are anchors too": lambda i, c, t: _one_side(c, i, t),
        "This is the sum of both sides: take their mean": lambda i, c, t: 2 * _clip(i, c, t),
        "The pair itself is missing from the sums: CLIP's loss counts it, DCL's does not": (
            lambda i, c, t: (_without_positives(i, c, t) + _without_positives(c, i, t)) / 2
        ),
        "Here images are pushed from images: an image's negatives are captions": (
            lambda i, c, t: (_one_side(i, i, t) + _one_side(c, c, t)) / 2
        ),
        "This sums over the batch: take the mean": lambda i, c, t: len(i) * _clip(i, c, t),
        **wrong_temperatures(_clip),
    },
)
