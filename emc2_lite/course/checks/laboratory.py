"""Exercises of chapter 06."""

import math

import torch

from emc2_lite.course.exercise import Exercise


def _vectors(count, dim, seed):
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _squared_bias(first, second, exact):
    return (first - exact) @ (second - exact) / (exact @ exact)


def _of_both_runs_together(first, second, exact):
    together = (first + second) / 2 - exact
    return together @ together / (exact @ exact)


squared_bias = Exercise(
    "squared_bias",
    _squared_bias,
    cases=[
        tuple(_vectors(3, 6, seed=0)),
        tuple(_vectors(3, 2, seed=1)),
        (torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0]), torch.tensor([1.0, 1.0])),
        (torch.tensor([3.0, 1.0]), torch.tensor([2.0, 2.0]), torch.tensor([1.0, 2.0])),
    ],
    mistakes={
        "This squares the error of one run, noise included: multiply the errors of two": (
            lambda first, second, exact: (first - exact) @ (first - exact) / (exact @ exact)
        ),
        "The mean of both runs still has their noise in its square: multiply their errors instead": (
            _of_both_runs_together
        ),
        "This multiplies lengths, and lengths have no sign: take the inner product of the two errors": (
            lambda first, second, exact: (first - exact).norm() * (second - exact).norm() / (exact @ exact)
        ),
        "A share of what? Divide by the squared length of the exact gradient": (
            lambda first, second, exact: (first - exact) @ (second - exact)
        ),
        "The square of the bias is compared with a square: divide by the squared length, not by the length": (
            lambda first, second, exact: (first - exact) @ (second - exact) / exact.norm()
        ),
        "Subtract the exact gradient from both runs": (
            lambda first, second, exact: first @ second / (exact @ exact) - 1
        ),
    },
)


def _relative_price(batch_size, encoded, with_gradient):
    own = 2 * batch_size * 3
    return (own + (encoded - with_gradient) + 3 * with_gradient) / own


relative_price = Exercise(
    "relative_price",
    _relative_price,
    cases=[(4, 12.0, 5.0), (32, 70.7, 23.4), (8, 16.0, 16.0), (16, 0.0, 0.0), (2, 3.0, 0.0)],
    mistakes={
        "The encodings with gradient are counted twice: `encoded` has them in": (
            lambda batch_size, encoded, with_gradient: (6 * batch_size + encoded + 3 * with_gradient) / (6 * batch_size)
        ),
        "An encoding without gradient has no backward pass: it costs 1, not 3": (
            lambda batch_size, encoded, with_gradient: 1 + 3 * encoded / (6 * batch_size)
        ),
        "An encoding with gradient needs its backward pass too: it costs 3, not 1": (
            lambda batch_size, encoded, with_gradient: 1 + encoded / (6 * batch_size)
        ),
        "A batch of b samples has 2b views": (
            lambda batch_size, encoded, with_gradient: (3 * batch_size + encoded + 2 * with_gradient) / (3 * batch_size)
        ),
        "This is the surcharge; the price of the whole step has the batch's own views in": (
            lambda batch_size, encoded, with_gradient: _relative_price(batch_size, encoded, with_gradient) - 1
        ),
    },
)


def _many_proposals(scores, held_score):
    weights = torch.cat((scores, held_score[None])).softmax(dim=0)
    return weights[:-1], weights[-1]


def _raw(scores, held_score):
    total = scores.exp().sum() + held_score.exp()
    return scores.exp() / total, held_score.exp() / total


many_proposals = Exercise(
    "many_proposals",
    _many_proposals,
    cases=[
        (torch.tensor([1.0, 0.0, 2.0]), torch.tensor(1.5)),
        (torch.tensor([0.0, 0.0, 0.0, 0.0]), torch.tensor(0.0)),
        (torch.tensor([3.0, -1.0]), torch.tensor(-math.inf)),
        (torch.tensor([120.0, 118.0]), torch.tensor(119.0)),
    ],
    mistakes={
        "The carried-over view is one of the set that the softmax runs over": (
            lambda scores, held_score: (scores.softmax(dim=0), torch.zeros(()))
        ),
        "These weights and the held one must sum to 1 together": (
            lambda scores, held_score: (scores.softmax(dim=0), _many_proposals(scores, held_score)[1])
        ),
        "exp of a score of 120 is no number in float32: use a softmax over all of them": _raw,
        "This is the largest; the weights are the probabilities of all": (
            lambda scores, held_score: (
                (scores == torch.cat((scores, held_score[None])).max()).float(),
                (held_score >= scores.max()).float(),
            )
        ),
    },
)
