"""Exercises of chapter 03; in the mistakes: log average u, log mean m, gamma g; scores s, own sample i, uniforms u."""

import math
from functools import partial

import torch

from emc2_lite.course.exercise import Exercise


def _never_first(log_u, log_mean, gamma):
    return torch.logaddexp(log_u + math.log1p(-gamma), log_mean + math.log(gamma))


def _updated_average(log_u, log_mean, gamma):
    return torch.where(log_u.isneginf(), log_mean, _never_first(log_u, log_mean, gamma))


def _raw_exponentials(log_u, log_mean, gamma):
    return torch.where(log_u.isneginf(), log_mean.exp(), (1 - gamma) * log_u.exp() + gamma * log_mean.exp()).log()


updated_average = Exercise(
    "updated_average",
    _updated_average,
    cases=[
        (torch.tensor([0.0, 1.0, -2.0]), torch.tensor([1.0, 1.0, 3.0]), 0.9),
        (torch.tensor([-math.inf, 1.0, -math.inf]), torch.tensor([2.0, -1.0, 0.5]), 0.9),
        (torch.tensor([-math.inf, -math.inf]), torch.tensor([2.0, -1.0]), 0.3),
        (torch.tensor([120.0, -math.inf, -130.0]), torch.tensor([95.0, 110.0, -120.0]), 0.1),
        (torch.tensor([800.0, -math.inf, -800.0]), torch.tensor([799.0, 850.0, -801.0]), 0.5),
    ],
    mistakes={
        "One batch holds first visits and later ones: ask each row whether this is its first visit": (
            lambda u, m, g: m if u.isneginf().all() else _never_first(u, m, g)
        ),
        "exp of 120 is infinite in float32: use torch.logaddexp": _raw_exponentials,
        "exp of 800 is infinite in float64 too: use torch.logaddexp": (
            lambda u, m, g: _raw_exponentials(u.double(), m.double(), g)
        ),
        "This averages the logarithms: average the numbers, then take the logarithm": (
            lambda u, m, g: m.where(u.isneginf(), (1 - g) * u + g * m)
        ),
        "gamma is the share of the new mean, not of the old average": lambda u, m, g: _updated_average(u, m, 1 - g),
        "A first visit starts from the mean itself, not from gamma times the mean": _never_first,
    },
)

average_weights = Exercise(
    "average_weights",
    lambda scores, log_u: (scores - log_u - math.log(len(scores))).exp(),
    cases=[
        (torch.tensor([1.0, 0.0, -1.0, 2.0]), torch.tensor(0.5)),
        (torch.tensor([3.0, 3.0]), torch.tensor(3.0)),
        (torch.tensor([140.0, 135.0, 100.0]), torch.tensor(139.0)),
        (torch.tensor([-1.0, 0.5, 0.0, 1.0, 2.0, -3.0]), torch.tensor(-1.0)),
    ],
    mistakes={
        "u is an average, not a sum: divide by the number of negatives too": lambda s, log_u: (s - log_u).exp(),
        "These weights sum to 1, as DCL's do: divide by the row's average u instead": lambda s, log_u: s.softmax(0),
        "exp of 140 is infinite in float32: subtract log u first": lambda s, log_u: s.exp() / (len(s) * log_u.exp()),
        "This divides by log u: subtract log u inside the exponential": lambda s, log_u: s.exp() / (len(s) * log_u),
    },
)


def _masked(cached_scores, sample, views=(0, 1), value=-math.inf):
    """A copy of the scores with `value` for the `views` of the row's own sample."""
    scores = cached_scores.clone()
    scores[[2 * sample + view for view in views]] = value
    return scores


def _shares(winners, places):
    return torch.bincount(winners, minlength=places) / len(winners)


def _cache_weights(cached_scores, sample, uniforms, sign=-1.0, **mask):
    noisy = _masked(cached_scores, sample, **mask) + sign * (-uniforms.log()).log()
    return _shares(noisy.argmax(dim=1), len(cached_scores))


def _cache_case(samples, draws, sample, seed, scale, least=0.0):
    generator = torch.Generator().manual_seed(seed)
    scores = least + scale * torch.rand(2 * samples, generator=generator)
    scores[2 * sample : 2 * sample + 2] = least + 1.1 * scale  # the row's own views are the most similar ones
    return scores, sample, torch.rand(draws, 2 * samples, generator=generator)


cache_weights = Exercise(
    "cache_weights",
    _cache_weights,
    cases=[
        _cache_case(4, 3, 1, 0, 5.0),
        _cache_case(6, 8, 0, 1, 2.0),
        _cache_case(10, 4, 9, 2, 14.0),
        _cache_case(3, 6, 2, 3, 0.5),
        _cache_case(5, 7, 3, 4, 4.0, least=-40.0),  # a score of -10 wins here
    ],
    mistakes={
        "The row's own sample is among the negatives: leave out both its views": partial(_cache_weights, views=()),
        "Only one view of the row's own sample is left out: leave out both": partial(_cache_weights, views=(0,)),
        "A score of 0 can win: set the scores of the own views to minus infinity": partial(_cache_weights, value=0.0),
        "These are the K largest of one draw, all different: draw K times, so a view can repeat": (
            lambda s, i, u: _shares((_masked(s, i) - (-u[0].log()).log()).topk(len(u)).indices, len(s))
        ),
        "These are the probabilities: return the shares of the draws": lambda s, i, u: _masked(s, i).softmax(0),
        "These are counts: a weight is a share of the K draws": lambda s, i, u: _cache_weights(s, i, u) * len(u),
        "The Gumbel noise has the wrong sign: it is -log(-log U)": partial(_cache_weights, sign=1.0),
    },
)
