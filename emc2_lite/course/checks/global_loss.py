"""Exercise checks of chapter 02."""

import math

import torch
from torch.nn import functional as F

from emc2_lite.course.exercise import Exercise


def _set(samples, views, dim, seed, spread=0.5):
    """Views scattered around one direction a sample: (samples, views, dim) float64, of length 1."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(samples, 1, dim, generator=generator, dtype=torch.float64)
    noise = torch.randn(samples, views, dim, generator=generator, dtype=torch.float64)
    return F.normalize(centres + spread * noise, dim=-1)


def _opposed(seed):
    """Two samples whose views point away from each other: (2, 2, 3)."""
    near = _set(1, 4, 3, seed, spread=0.1).view(2, 2, 3)
    return near * torch.tensor([1.0, -1.0])[:, None, None]


def _loss(z, temperature, excluded="sample", in_sum=False, pairs="others", mean_inside=False):
    samples, views, _ = z.shape
    flat = z.flatten(0, 1)
    scores = flat @ flat.T / temperature
    sample = torch.arange(samples).repeat_interleave(views)
    own = sample[:, None] == sample
    itself = torch.eye(len(flat), dtype=torch.bool)
    mask = {"sample": own, "view": itself, "nothing": torch.zeros_like(own)}[excluded]
    log_sum = scores.masked_fill(mask, -torch.inf).logsumexp(dim=1, keepdim=True)
    if mean_inside:
        log_sum = log_sum - math.log(views * (samples - 1))
    terms = (torch.logaddexp(log_sum, scores) if in_sum else log_sum) - scores
    chosen = {"others": own & ~itself, "own": own, "all": ~itself}[pairs]
    return terms[chosen].mean()


global_loss = Exercise(
    "global_loss",
    lambda z, temperature: _loss(z, temperature),
    cases=[
        (_set(4, 2, 3, seed=0), 0.2),
        (_set(5, 3, 4, seed=1), 0.5),
        (_set(3, 4, 3, seed=2), 1.0),
        (_set(2, 2, 2, seed=3), 0.07),
    ],
    mistakes={
        "The positive is in the sum: this is the limit of NT-Xent, and here it stays out": (
            lambda z, temperature: _loss(z, temperature, in_sum=True)
        ),
        "Only the view itself is left out of the sum: the sample's other views are no negatives either": (
            lambda z, temperature: _loss(z, temperature, excluded="view")
        ),
        "The row's own sample is still in the sum: its views are no negatives": (
            lambda z, temperature: _loss(z, temperature, excluded="nothing")
        ),
        "The mean runs over w = v as well, a view with itself: take pairs of different views": (
            lambda z, temperature: _loss(z, temperature, pairs="own")
        ),
        "The mean runs over all pairs: only two views of one sample are a positive pair": (
            lambda z, temperature: _loss(z, temperature, pairs="all")
        ),
        "Inside the logarithm stands a sum, not a mean": (
            lambda z, temperature: _loss(z, temperature, mean_inside=True)
        ),
        "The temperature is missing: a score is a similarity divided by the temperature": (
            lambda z, temperature: _loss(z, 1.0)
        ),
        "The similarities are multiplied by the temperature: divide": (
            lambda z, temperature: _loss(z, 1 / temperature)
        ),
    },
)


def _weights(z, i, v, temperature, excluded="sample", over_samples=False):
    scores = z @ z[i, v] / temperature
    mask = torch.zeros_like(scores, dtype=torch.bool)
    if excluded == "sample":
        mask[i] = True
    elif excluded == "view":
        mask[i, v] = True
    scores = scores.masked_fill(mask, -torch.inf)
    return scores.softmax(dim=0) if over_samples else scores.flatten().softmax(dim=0).view_as(scores)


def _score_zero(z, i, v, temperature):
    scores = z @ z[i, v] / temperature
    scores[i] = 0
    return scores.flatten().softmax(dim=0).view_as(scores)


def _zeroed_afterwards(z, i, v, temperature):
    weights = _weights(z, i, v, temperature, excluded="nothing")
    weights[i] = 0
    return weights


row_weights = Exercise(
    "row_weights",
    _weights,
    cases=[
        (_set(4, 2, 3, seed=4), 0, 0, 0.2),
        (_set(4, 2, 3, seed=4), 2, 1, 0.07),
        (_set(5, 3, 4, seed=5), 1, 2, 0.5),
        (_set(3, 2, 2, seed=6), 2, 0, 1.0),
        (_opposed(seed=7), 1, 1, 0.07),  # where -10 is no minus infinity
    ],
    mistakes={
        "The own views still have a weight: give them none": (
            lambda z, i, v, temperature: _weights(z, i, v, temperature, excluded="nothing")
        ),
        "A score of 0 still has a share, as exp(0) = 1: give the own views a score of minus infinity": _score_zero,
        "The softmax runs over the positive too: only the view itself was left out": (
            lambda z, i, v, temperature: _weights(z, i, v, temperature, excluded="view")
        ),
        "The own views were set to 0 after the softmax, so the rest does not sum to 1: mask the scores before it": (
            _zeroed_afterwards
        ),
        "Each view number got a softmax of its own: there is one, over all views of all other samples": (
            lambda z, i, v, temperature: _weights(z, i, v, temperature, over_samples=True)
        ),
        "The similarities are multiplied by the temperature: divide": (
            lambda z, i, v, temperature: _weights(z, i, v, 1 / temperature)
        ),
        "The temperature is missing: a score is a similarity divided by the temperature": (
            lambda z, i, v, temperature: _weights(z, i, v, 1.0)
        ),
    },
)


def _log_sum(similarities, num_samples, temperature, negatives=lambda n: 2 * (n - 1)):
    scores = similarities / temperature
    return math.log(negatives(num_samples)) + scores.logsumexp(dim=0) - math.log(len(scores))


def _raw_exponentials(similarities, num_samples, temperature):
    return math.log(2 * (num_samples - 1)) + (similarities / temperature).exp().mean().log()


def _raw_in_float64(similarities, num_samples, temperature):
    return _raw_exponentials(similarities.double(), num_samples, temperature)


def _mean_of_logs(similarities, num_samples, temperature):
    return math.log(2 * (num_samples - 1)) + (similarities / temperature).mean()


log_sum_from_batch = Exercise(
    "log_sum_from_batch",
    lambda similarities, num_samples, temperature: _log_sum(similarities, num_samples, temperature),
    cases=[
        (torch.tensor([0.6, 0.1, -0.3, 0.2]), 100, 0.2),
        (torch.tensor([0.9, 0.85, 0.2, -0.4, 0.2, 0.0]), 300, 0.07),
        (torch.tensor([0.3, -0.3]), 5, 1.0),
        (torch.tensor([0.95, 0.1, 0.9, 0.4]), 100_000, 0.005),
        (torch.tensor([0.1, 0.9495, 0.95, -0.4]), 40, 0.001),
    ],
    mistakes={
        "This is the mean of the logs: take the exponentials, then their mean, then one logarithm": _mean_of_logs,
        "This is the sum over the batch alone: rescale it to all |neg(r)| negatives": (
            lambda similarities, num_samples, temperature: (similarities / temperature).logsumexp(dim=0)
        ),
        "This is the log of the mean: the sum over all negatives is |neg(r)| times as large": (
            lambda similarities, num_samples, temperature: _log_sum(
                similarities, num_samples, temperature, negatives=lambda n: 1
            )
        ),
        "The factor is |neg(r)| itself, on top of a mean; here a sum was scaled": (
            lambda similarities, num_samples, temperature: (
                math.log(2 * (num_samples - 1)) + (similarities / temperature).logsumexp(dim=0)
            )
        ),
        "Two views of the row's own sample are counted: |neg(r)| is 2 (N - 1)": (
            lambda similarities, num_samples, temperature: _log_sum(
                similarities, num_samples, temperature, negatives=lambda n: 2 * n
            )
        ),
        "Each other sample has two views: |neg(r)| is 2 (N - 1)": (
            lambda similarities, num_samples, temperature: _log_sum(
                similarities, num_samples, temperature, negatives=lambda n: n - 1
            )
        ),
        "exp overflows at a low temperature: torch.logsumexp subtracts the largest score first": _raw_exponentials,
        "exp of 950 is infinite in float64 too: torch.logsumexp subtracts the largest score first": _raw_in_float64,
        "The temperature is missing: a score is a similarity divided by the temperature": (
            lambda similarities, num_samples, temperature: _log_sum(similarities, num_samples, 1.0)
        ),
        "The similarities are multiplied by the temperature: divide": (
            lambda similarities, num_samples, temperature: _log_sum(similarities, num_samples, 1 / temperature)
        ),
    },
)
