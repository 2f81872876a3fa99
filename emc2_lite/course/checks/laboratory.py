"""Exercises of chapter 06; in the mistakes: runs a and b, gradient e; batch size b, n encodings, g with gradient."""

import math

import torch

from emc2_lite.course.exercise import Exercise


def _vectors(count, dim, seed):
    return tuple(torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def _squared_bias(first, second, exact):
    return (first - exact) @ (second - exact) / (exact @ exact)


squared_bias = Exercise(
    "squared_bias",
    _squared_bias,
    cases=[
        _vectors(3, 6, seed=0),
        _vectors(3, 2, seed=1),
        (torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0]), torch.tensor([1.0, 1.0])),
        (torch.tensor([3.0, 1.0]), torch.tensor([2.0, 2.0]), torch.tensor([1.0, 2.0])),
    ],
    mistakes={
        "This squares one run's error, noise included: multiply both errors": lambda a, b, e: _squared_bias(a, a, e),
        "The mean of both runs still has their noise in its square: multiply their errors instead": (
            lambda a, b, e: _squared_bias((a + b) / 2, (a + b) / 2, e)
        ),
        "This multiplies lengths, and lengths have no sign: take the inner product of the two errors": (
            lambda a, b, e: (a - e).norm() * (b - e).norm() / (e @ e)
        ),
        "The divisor is missing: divide by the squared length of the exact gradient": lambda a, b, e: (a - e) @ (b - e),
        "The divisor is the exact gradient's length: take its square": lambda a, b, e: (a - e) @ (b - e) / e.norm(),
        "Subtract the exact gradient from both runs": lambda a, b, e: a @ b / (e @ e) - 1,
    },
)

relative_price = Exercise(
    "relative_price",
    lambda batch_size, encoded, with_gradient: 1 + (encoded + 2 * with_gradient) / (6 * batch_size),
    cases=[(4, 12.0, 5.0), (32, 70.7, 23.4), (8, 16.0, 16.0), (16, 0.0, 0.0), (2, 3.0, 0.0)],
    mistakes={
        "Encodings with gradient are counted twice: `encoded` includes them": lambda b, n, g: 1 + (n + 3 * g) / 6 / b,
        "An encoding without gradient has no backward pass: it costs 1, not 3": lambda b, n, g: 1 + 3 * n / 6 / b,
        "An encoding with gradient needs its backward pass too: it costs 3, not 1": lambda b, n, g: 1 + n / 6 / b,
        "A batch of b samples has 2b views": lambda b, n, g: 1 + (n + 2 * g) / 3 / b,
        "This is the surcharge: the price includes the batch's own views": lambda b, n, g: (n + 2 * g) / 6 / b,
    },
)


def _many_proposals(scores, held_score):
    q, held = _urn(scores, held_score)
    return _with_the_rest(q / (1 - torch.minimum(q, held)))


def _urn(scores, held_score):
    q = torch.cat((scores, held_score[None])).softmax(dim=0)
    return q[:-1], q[-1]


def _with_the_rest(weights):
    return weights, 1 - weights.sum()


def _of_exponentials(scores, held_score):
    total = scores.exp().sum() + held_score.exp()
    q, held = scores.exp() / total, held_score.exp() / total
    return _with_the_rest(q / (1 - torch.minimum(q, held)))


def _every_one_accepted(scores, held_score):
    q, held = _urn(scores, held_score)
    return q / (1 - held), torch.zeros(())


def _ratio_upside_down(scores, held_score):
    q, held = _urn(scores, held_score)
    return _with_the_rest(q / (1 - held) * ((1 - q) / (1 - held)).clamp(max=1))


def _larger_in_the_divisor(scores, held_score):
    q, held = _urn(scores, held_score)
    return _with_the_rest(q / (1 - torch.maximum(q, held)))


many_proposals = Exercise(
    "many_proposals",
    _many_proposals,
    cases=[
        (torch.tensor([1.0, 0.0, 2.0]), torch.tensor(1.5)),
        (torch.tensor([0.0, 0.0, 0.0, 0.0]), torch.tensor(0.0)),
        (torch.tensor([3.0, -1.0]), torch.tensor(-math.inf)),
        (torch.tensor([120.0, 118.0]), torch.tensor(119.0)),
        (torch.tensor([0.5]), torch.tensor(1.5)),
    ],
    mistakes={
        "This is the softmax over the urn, which stays more than it must: divide by 1 - min(q, q')": _urn,
        "Every proposal is accepted here: the chain must stay now and then to be reversible": _every_one_accepted,
        "The ratio of the acceptance is upside down: (1 - q) is above, (1 - q') below": _ratio_upside_down,
        "The divisor has the larger of the two probabilities: take the smaller one": _larger_in_the_divisor,
        "All weights must sum to 1: the state held has what the proposals leave": (
            lambda s, h: (_many_proposals(s, h)[0], _urn(s, h)[1])
        ),
        "exp of 120 is infinite in float32: take a softmax over all scores": _of_exponentials,
    },
)
