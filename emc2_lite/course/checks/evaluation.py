"""Exercises of chapter 08."""

import torch

from emc2_lite.course.exercise import Exercise
from emc2_lite.evaluation import wilson


def _score_interval(successes, count):
    interval = wilson(successes, count)
    return interval.low, interval.high


def _with(z):
    def interval(successes, count):
        share = successes / count
        centre = share + z**2 / (2 * count)
        reach = z * (share * (1 - share) / count + z**2 / (4 * count**2)) ** 0.5
        return (centre - reach) / (1 + z**2 / count), (centre + reach) / (1 + z**2 / count)

    return interval


def _wald(successes, count):
    share = successes / count
    reach = 1.96 * (share * (1 - share) / count) ** 0.5
    return share - reach, share + reach


def _undivided(successes, count):
    share, z = successes / count, 1.96
    centre = share + z**2 / (2 * count)
    reach = z * (share * (1 - share) / count + z**2 / (4 * count**2)) ** 0.5
    return centre - reach, centre + reach


score_interval = Exercise(
    "score_interval",
    _score_interval,
    cases=[(350, 360), (10, 10), (0, 20), (5, 10), (7800, 8000)],
    tolerance=2e-5,  # the library has more digits of 1.96
    mistakes={
        "That is p -+ 1.96 standard errors: it leaves [0, 1], and is a single point at 10 of 10": _wald,
        "Divide by 1 + z^2 / n at the end": _undivided,
        "With z = 1 the interval holds in two cases of three; 95 % needs z = 1.96": _with(1.0),
    },
)


def _vote(cosines, labels, temperature):
    weights = ((cosines - cosines.max()) / temperature).exp()
    classes = int(labels.max()) + 1
    return torch.zeros(classes, dtype=weights.dtype).index_add(0, labels, weights).argmax()


def _overflowing(cosines, labels, temperature):
    weights = (cosines / temperature).exp()
    return torch.zeros(int(labels.max()) + 1, dtype=weights.dtype).index_add(0, labels, weights).argmax()


def _overflowing_in_float64(cosines, labels, temperature):
    return _overflowing(cosines.double(), labels, temperature)


def _place_of_the_class(cosines, labels, temperature):
    _, places = labels.unique(return_inverse=True)
    return _vote(cosines, places, temperature)


_NEAR = torch.tensor([0.99, 0.8, 0.8, 0.8, 0.7])
_OF = torch.tensor([2, 0, 0, 0, 1])
vote = Exercise(
    "vote",
    _vote,
    cases=[
        (_NEAR, _OF, 0.07),
        (_NEAR, _OF, 1.0),
        (torch.tensor([0.9, 0.85, 0.5, 0.5, 0.5]), torch.tensor([1, 1, 0, 0, 0]), 0.1),
        (torch.tensor([0.999, 0.9985, 0.9984]), torch.tensor([0, 1, 1]), 0.01),
        (torch.tensor([0.6, 0.5]), torch.tensor([1, 0]), 0.001),
        (torch.tensor([0.9, 0.89, 0.88, 0.87, 0.87]), torch.tensor([1, 7, 3, 5, 5]), 0.07),
        (torch.tensor([0.5, 0.5, 0.9, 0.5, 0.85]), torch.tensor([4, 4, 12, 4, 12]), 0.1),
        (torch.tensor([-0.2, -0.3, -0.3]), torch.tensor([9, 2, 2]), 0.5),
        (torch.tensor([0.99, 0.98, 0.98]), torch.tensor([7, 3, 3]), 0.001),
        (torch.tensor([0.9501, 0.95, 0.95]), torch.tensor([2, 5, 5]), 0.001),
        (torch.tensor([0.9501, 0.95, 0.95]), torch.tensor([5, 2, 2]), 0.001),
        (torch.tensor([-0.1, -0.6]), torch.tensor([8, 3]), 0.07),
        (torch.tensor([0.8]), torch.tensor([6]), 0.07),
    ],
    mistakes={
        "Every neighbour counts the same here: weigh each by exp(cosine / temperature)": (
            lambda cosines, labels, temperature: labels.bincount().argmax()
        ),
        "Only the nearest one is asked": lambda cosines, labels, temperature: labels[cosines.argmax()],
        "That weighs by exp(cosine): divide by the temperature first": (
            lambda cosines, labels, temperature: _vote(cosines, labels, 1.0)
        ),
        "exp of a large number is infinite: subtract the largest cosine first, the winner stays the same": _overflowing,
        "exp of 950 is infinite in float64 too: subtract the largest cosine first, the winner stays the same": (
            _overflowing_in_float64
        ),
        "That is the winner's place in the list of the classes that occur: return the class itself": (
            _place_of_the_class
        ),
    },
)


def _paired_difference(a, b, correction=1):
    difference = a.double() - b.double()
    reach = 1.96 * difference.std(correction=correction) / len(difference) ** 0.5
    return difference.mean(), reach


def _right(share, count, seed):
    return torch.rand(count, generator=torch.Generator().manual_seed(seed)) < share


_A = _right(0.9, 300, 0)
paired_difference = Exercise(
    "paired_difference",
    lambda a, b: _paired_difference(a, b),
    also_right=[lambda a, b: _paired_difference(a, b, correction=0)],  # the text leaves open which deviation
    cases=[
        (_A, _A ^ _right(0.05, 300, 1)),
        (_right(0.7, 50, 2), _right(0.5, 50, 3)),
        (_right(0.5, 50, 3), _right(0.7, 50, 2)),
        (_A, _A),
        (torch.tensor([True, True, False, True]), torch.tensor([True, False, False, False])),
    ],
    mistakes={
        "That adds up the errors of two test sets, and here both saw the same images: take differences first": (
            lambda a, b: (
                (a.double() - b.double()).mean(),
                1.96 * ((a.double().var() + b.double().var()) / len(a)) ** 0.5,
            )
        ),
        "That is the spread of single images: divide by the square root of their number": (
            lambda a, b: ((a.double() - b.double()).mean(), 1.96 * (a.double() - b.double()).std())
        ),
        "Which way round? The first minus the second": (
            lambda a, b: ((b.double() - a.double()).mean(), _paired_difference(a, b)[1])
        ),
        "The sign says which encoder is better: do not take absolute values": (
            lambda a, b: (_paired_difference(a, b)[0].abs(), _paired_difference(a, b)[1])
        ),
        "That counts the images on which the two differ: the first minus the second keeps the sign": (
            lambda a, b: ((a ^ b).double().mean(), _paired_difference(a, b)[1])
        ),
        "That is one standard error: 95 % reaches 1.96 of them": (
            lambda a, b: (_paired_difference(a, b)[0], _paired_difference(a, b)[1] / 1.96)
        ),
    },
)
