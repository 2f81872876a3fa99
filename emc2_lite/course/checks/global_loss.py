"""Exercises of chapter 02; in the mistakes: similarities s, n samples, temperature t."""

import math
from functools import partial

import torch
from torch.nn import functional as F

from emc2_lite.course.checks import wrong_temperatures
from emc2_lite.course.exercise import Exercise


def _set(samples, views, dim, seed, spread=0.5):
    """Views scattered around one direction a sample: (samples, views, dim) float64, of length 1."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(samples, 1, dim, generator=generator, dtype=torch.float64)
    noise = torch.randn(samples, views, dim, generator=generator, dtype=torch.float64)
    return F.normalize(centres + spread * noise, dim=-1)


def _global_loss(z, temperature, excluded="sample", in_sum=False, pairs="others", mean_inside=False):
    samples, views, _ = z.shape
    flat = z.flatten(0, 1)
    scores = flat @ flat.T / temperature
    sample = torch.arange(samples).repeat_interleave(views)
    own = sample[:, None] == sample
    itself = torch.eye(len(flat), dtype=torch.bool)
    masks = {"sample": own, "view": itself, "nothing": own & ~own, "others": own & ~itself, "all": ~itself}
    log_sum = scores.masked_fill(masks[excluded], -torch.inf).logsumexp(dim=1, keepdim=True)
    if mean_inside:
        log_sum = log_sum - math.log(views * (samples - 1))
    terms = (torch.logaddexp(log_sum, scores) if in_sum else log_sum) - scores
    return terms[masks[pairs]].mean()


global_loss = Exercise(
    "global_loss",
    _global_loss,
    cases=[
        (_set(4, 2, 3, seed=0), 0.2),
        (_set(5, 3, 4, seed=1), 0.5),
        (_set(3, 4, 3, seed=2), 1.0),
        (_set(2, 2, 2, seed=3), 0.07),
    ],
    mistakes={
        "The positive is in the sum, as in the limit of NT-Xent: leave it out": partial(_global_loss, in_sum=True),
        "Only the view itself is left out: its sample's views are no negatives": partial(_global_loss, excluded="view"),
        "The row's own sample is in the sum: its views are no negatives": partial(_global_loss, excluded="nothing"),
        "The mean includes w = v, a view with itself: take different views": partial(_global_loss, pairs="sample"),
        "The mean includes all pairs: only views of one sample are positives": partial(_global_loss, pairs="all"),
        "This is the logarithm of a mean: take the logarithm of the sum": partial(_global_loss, mean_inside=True),
        **wrong_temperatures(_global_loss),
    },
)


def _scores(z, i, v, temperature, left_out=slice(None), value=-torch.inf):
    """The scores of all views with the anchor's, and `value` for the views `left_out` of the anchor's sample."""
    scores = z @ z[i, v] / temperature
    scores[i, left_out] = value
    return scores


def _softmax(scores):
    return scores.flatten().softmax(dim=0).view_as(scores)


def _row_weights(z, i, v, temperature):
    return _softmax(_scores(z, i, v, temperature))


# Two samples whose views point away from each other.
_OPPOSED = _set(1, 4, 3, seed=7, spread=0.1).view(2, 2, 3) * torch.tensor([1.0, -1.0])[:, None, None]
row_weights = Exercise(
    "row_weights",
    _row_weights,
    cases=[
        (_set(4, 2, 3, seed=4), 0, 0, 0.2),
        (_set(4, 2, 3, seed=4), 2, 1, 0.07),
        (_set(5, 3, 4, seed=5), 1, 2, 0.5),
        (_set(3, 2, 2, seed=6), 2, 0, 1.0),
        (_OPPOSED, 1, 1, 0.07),  # a score of -10 still has a weight here
    ],
    mistakes={
        "The own views still have a weight: give them none": lambda z, i, v, t: _softmax(z @ z[i, v] / t),
        "A score of 0 still has a share, as exp(0) = 1: set the scores of the own views to minus infinity": (
            lambda z, i, v, t: _softmax(_scores(z, i, v, t, value=0))
        ),
        "The softmax includes the positive: leave out all views of the own sample, not only the anchor": (
            lambda z, i, v, t: _softmax(_scores(z, i, v, t, left_out=v))
        ),
        "The own views were set to 0 after the softmax, so the rest does not sum to 1: mask the scores before it": (
            lambda z, i, v, t: _softmax(z @ z[i, v] / t).index_fill(0, torch.tensor(i), 0)
        ),
        "Each view number has its own softmax: take one softmax over all views of all other samples": (
            lambda z, i, v, t: _scores(z, i, v, t).softmax(dim=0)
        ),
        **wrong_temperatures(_row_weights),
    },
)


def _log_sum(similarities, num_samples, temperature):
    return math.log(2 * (num_samples - 1)) + _log_mean(similarities / temperature)


def _log_mean(scores):
    return scores.logsumexp(dim=0) - math.log(len(scores))


def _raw_exponentials(similarities, num_samples, temperature):
    return math.log(2 * (num_samples - 1)) + (similarities / temperature).exp().mean().log()


log_sum_from_batch = Exercise(
    "log_sum_from_batch",
    _log_sum,
    cases=[
        (torch.tensor([0.6, 0.1, -0.3, 0.2]), 100, 0.2),
        (torch.tensor([0.9, 0.85, 0.2, -0.4, 0.2, 0.0]), 300, 0.07),
        (torch.tensor([0.3, -0.3]), 5, 1.0),
        (torch.tensor([0.95, 0.1, 0.9, 0.4]), 100_000, 0.005),
        (torch.tensor([0.1, 0.9495, 0.95, -0.4]), 40, 0.001),
    ],
    mistakes={
        "This is the mean of the logs: take the exponentials, then their mean, then one logarithm": (
            lambda s, n, t: math.log(2 * (n - 1)) + (s / t).mean()
        ),
        "This is the batch's sum: rescale it to all |neg(r)| negatives": lambda s, n, t: (s / t).logsumexp(dim=0),
        "This is the log of the mean: multiply the mean by |neg(r)| first": lambda s, n, t: _log_mean(s / t),
        "This multiplies the batch's sum by |neg(r)|: multiply the batch's mean": (
            lambda s, n, t: math.log(2 * (n - 1)) + (s / t).logsumexp(dim=0)
        ),
        "The row's own sample is counted: |neg(r)| is 2 (N - 1)": lambda s, n, t: math.log(2 * n) + _log_mean(s / t),
        "Each other sample has two views: |neg(r)| is 2 (N - 1)": lambda s, n, t: math.log(n - 1) + _log_mean(s / t),
        "exp overflows at a low temperature: torch.logsumexp subtracts the largest score first": _raw_exponentials,
        "exp of 950 is infinite in float64 too: torch.logsumexp subtracts the largest score first": (
            lambda s, n, t: _raw_exponentials(s.double(), n, t)
        ),
        **wrong_temperatures(_log_sum),
    },
)
