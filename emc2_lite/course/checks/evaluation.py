"""Exercises of chapter 08; in the mistakes: cosines c, temperature t, k successes of n."""

import math

import torch

from emc2_lite.course.exercise import Exercise
from emc2_lite.evaluation import wilson

score_interval = Exercise(
    "score_interval",
    lambda successes, count: wilson(successes, count)[1:],
    cases=[(350, 360), (10, 10), (0, 20), (5, 10), (7800, 8000)],
    tolerance=2e-5,  # the library has more digits of 1.96
    mistakes={
        "This is p -+ 1.96 standard errors: it leaves [0, 1], and is a single point at 10 of 10": (
            lambda k, n: tuple(k / n + z * (k / n * (1 - k / n) / n) ** 0.5 for z in (-1.96, 1.96))
        ),
        "Divide by 1 + z^2 / n at the end": lambda k, n: tuple(x * (1 + 1.96**2 / n) for x in wilson(k, n)[1:]),
        "With z = 1 the interval covers 68 %: 95 % needs z = 1.96": lambda k, n: wilson(k, n, math.erf(0.5**0.5))[1:],
    },
)


def _vote(cosines, labels, temperature):
    return labels.bincount(((cosines - cosines.max()) / temperature).exp()).argmax()


def _overflowing(cosines, labels, temperature):
    return labels.bincount((cosines / temperature).exp()).argmax()


vote = Exercise(
    "vote",
    _vote,
    cases=[
        *((torch.tensor([0.99, 0.8, 0.8, 0.8, 0.7]), torch.tensor([2, 0, 0, 0, 1]), t) for t in (0.07, 1.0)),
        (torch.tensor([0.9, 0.85, 0.5, 0.5, 0.5]), torch.tensor([1, 1, 0, 0, 0]), 0.1),
        (torch.tensor([0.999, 0.9985, 0.9984]), torch.tensor([0, 1, 1]), 0.01),
        (torch.tensor([0.6, 0.5]), torch.tensor([1, 0]), 0.001),
        (torch.tensor([0.9, 0.89, 0.88, 0.87, 0.87]), torch.tensor([1, 7, 3, 5, 5]), 0.07),
        (torch.tensor([0.5, 0.5, 0.9, 0.5, 0.85]), torch.tensor([4, 4, 12, 4, 12]), 0.1),
        (torch.tensor([-0.2, -0.3, -0.3]), torch.tensor([9, 2, 2]), 0.5),
        (torch.tensor([0.99, 0.98, 0.98]), torch.tensor([7, 3, 3]), 0.001),
        *((torch.tensor([0.9501, 0.95, 0.95]), torch.tensor(labels), 0.001) for labels in ([2, 5, 5], [5, 2, 2])),
        (torch.tensor([-0.1, -0.6]), torch.tensor([8, 3]), 0.07),
        (torch.tensor([0.8]), torch.tensor([6]), 0.07),
    ],
    mistakes={
        "Every neighbour has the same weight here: weigh each by exp(cosine / temperature)": (
            lambda c, labels, t: labels.bincount().argmax()
        ),
        "Only the nearest neighbour votes: let every neighbour vote": lambda c, labels, t: labels[c.argmax()],
        "This weighs by exp(cosine): divide by the temperature first": lambda c, labels, t: _vote(c, labels, 1.0),
        "exp of a large number is infinite: subtract the largest cosine first, the winner stays the same": _overflowing,
        "exp of 950 is infinite in float64 too: subtract the largest cosine first, the winner stays the same": (
            lambda c, labels, t: _overflowing(c.double(), labels, t)
        ),
        "This is the winner's place in the list of the classes that occur: return the class itself": (
            lambda c, labels, t: _vote(c, labels.unique(return_inverse=True)[1], t)
        ),
    },
)


def _mean(a, b):
    return (a.double() - b.double()).mean()


def _reach(a, b, correction=1):
    return 1.96 * (a.double() - b.double()).std(correction=correction) / len(a) ** 0.5


def _right(share, count, seed):
    return torch.rand(count, generator=torch.Generator().manual_seed(seed)) < share


_A = _right(0.9, 300, 0)
paired_difference = Exercise(
    "paired_difference",
    lambda a, b: (_mean(a, b), _reach(a, b)),
    also_right=[lambda a, b: (_mean(a, b), _reach(a, b, correction=0))],  # the text leaves open which deviation
    cases=[
        (_A, _A ^ _right(0.05, 300, 1)),
        (_right(0.7, 50, 2), _right(0.5, 50, 3)),
        (_right(0.5, 50, 3), _right(0.7, 50, 2)),
        (_A, _A),
        (torch.tensor([True, True, False, True]), torch.tensor([True, False, False, False])),
    ],
    mistakes={
        "This adds the errors of two test sets, but both encoders saw the same images: take differences first": (
            lambda a, b: (_mean(a, b), 1.96 * ((a.double().var() + b.double().var()) / len(a)) ** 0.5)
        ),
        "This is the spread of single images: divide by the square root of their number": (
            lambda a, b: (_mean(a, b), _reach(a, b) * len(a) ** 0.5)
        ),
        "This is the second minus the first: take the first minus the second": lambda a, b: (_mean(b, a), _reach(a, b)),
        "The sign says which encoder is better: take no absolute value": lambda a, b: (_mean(a, b).abs(), _reach(a, b)),
        "This counts the images on which the two differ: the first minus the second keeps the sign": (
            lambda a, b: ((a ^ b).double().mean(), _reach(a, b))
        ),
        "This is one standard error: 95 % reaches 1.96 of them": lambda a, b: (_mean(a, b), _reach(a, b) / 1.96),
    },
)
