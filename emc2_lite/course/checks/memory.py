"""Exercises of chapter 03."""

import math

import torch

from emc2_lite.course.exercise import Exercise


def _updated_average(log_u, log_mean, gamma):
    kept = log_u + (math.log1p(-gamma) if gamma < 1 else -math.inf)
    return torch.where(log_u.isneginf(), log_mean, torch.logaddexp(kept, log_mean + math.log(gamma)))


def _asked_of_the_batch(log_u, log_mean, gamma):
    if log_u.isneginf().all():
        return log_mean
    return torch.logaddexp(log_u + math.log1p(-gamma), log_mean + math.log(gamma))


def _raw(log_u, log_mean, gamma):
    u = torch.where(log_u.isneginf(), log_mean.exp(), (1 - gamma) * log_u.exp() + gamma * log_mean.exp())
    return u.log()


def _raw_in_float64(log_u, log_mean, gamma):
    return _raw(log_u.double(), log_mean.double(), gamma)


def _of_logarithms(log_u, log_mean, gamma):
    return torch.where(log_u.isneginf(), log_mean, (1 - gamma) * log_u + gamma * log_mean)


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
        "A first visit is a matter of each row: here one batch holds newcomers and old acquaintances": (
            _asked_of_the_batch
        ),
        "exp of a score of 120 is no number in float32: use torch.logaddexp": _raw,
        "exp of a score of 800 is no number in float64 either: use torch.logaddexp": _raw_in_float64,
        "This averages the logarithms; the average is of the numbers, and only kept as a logarithm": _of_logarithms,
        "gamma is the share of the new mean, not of the old average": (
            lambda log_u, log_mean, gamma: _updated_average(log_u, log_mean, 1 - gamma)
        ),
        "A newcomer starts from its mean itself, not from gamma times the mean": (
            lambda log_u, log_mean, gamma: torch.logaddexp(log_u + math.log1p(-gamma), log_mean + math.log(gamma))
        ),
    },
)


def _average_weights(scores, log_u):
    return (scores - log_u - math.log(len(scores))).exp()


average_weights = Exercise(
    "average_weights",
    _average_weights,
    cases=[
        (torch.tensor([1.0, 0.0, -1.0, 2.0]), torch.tensor(0.5)),
        (torch.tensor([3.0, 3.0]), torch.tensor(3.0)),
        (torch.tensor([140.0, 135.0, 100.0]), torch.tensor(139.0)),
        (torch.tensor([-1.0, 0.5, 0.0, 1.0, 2.0, -3.0]), torch.tensor(-1.0)),
    ],
    mistakes={
        "u is an average of exponentials, not their sum: the number of negatives is missing": (
            lambda scores, log_u: (scores - log_u).exp()
        ),
        "These weights sum to 1, as DCL's do: divide by the row's average, not by the batch's sum": (
            lambda scores, log_u: scores.softmax(0)
        ),
        "exp of a score of 140 is no number in float32: subtract log u first": (
            lambda scores, log_u: scores.exp() / (len(scores) * log_u.exp())
        ),
        "What is kept is the logarithm of u: it belongs inside the exponential": (
            lambda scores, log_u: scores.exp() / (len(scores) * log_u)
        ),
    },
)


def _winners(cached_scores, sample, uniforms, *, excluded=(0, 1), sign=-1.0):
    scores = cached_scores.clone()
    scores[[2 * sample + view for view in excluded]] = -math.inf
    return (scores + sign * (-uniforms.log()).log()).argmax(dim=1)


def _shares(winners, places):
    return torch.bincount(winners, minlength=places) / len(winners)


def _cache_weights(cached_scores, sample, uniforms, **options):
    return _shares(_winners(cached_scores, sample, uniforms, **options), len(cached_scores))


def _largest_of_one_draw(cached_scores, sample, uniforms):
    scores = cached_scores.clone()
    scores[2 * sample : 2 * sample + 2] = -math.inf
    chosen = (scores - (-uniforms[0].log()).log()).topk(len(uniforms)).indices
    return _shares(chosen, len(scores))


def _softmax(cached_scores, sample, uniforms):
    scores = cached_scores.clone()
    scores[2 * sample : 2 * sample + 2] = -math.inf
    return scores.softmax(dim=0)


def _counts(cached_scores, sample, uniforms):
    return _cache_weights(cached_scores, sample, uniforms) * len(uniforms)


def _score_zero(cached_scores, sample, uniforms):
    scores = cached_scores.clone()
    scores[2 * sample : 2 * sample + 2] = 0
    return _cache_weights(scores, sample, uniforms, excluded=())


def _cache_case(samples, draws, sample, seed, scale, least=0.0):
    generator = torch.Generator().manual_seed(seed)
    scores = least + scale * torch.rand(2 * samples, generator=generator)
    scores[2 * sample : 2 * sample + 2] = least + 1.1 * scale  # the row's own views are the most alike
    return scores, sample, torch.rand(draws, 2 * samples, generator=generator)


cache_weights = Exercise(
    "cache_weights",
    _cache_weights,
    cases=[
        _cache_case(4, 3, 1, 0, 5.0),
        _cache_case(6, 8, 0, 1, 2.0),
        _cache_case(10, 4, 9, 2, 14.0),
        _cache_case(3, 6, 2, 3, 0.5),
        _cache_case(5, 7, 3, 4, 4.0, least=-40.0),  # where -10 is no minus infinity
    ],
    mistakes={
        "The row's own sample is still among the negatives: leave out both of its views": (
            lambda cached_scores, sample, uniforms: _cache_weights(cached_scores, sample, uniforms, excluded=())
        ),
        "Only one of the two views of the row's own sample is left out": (
            lambda cached_scores, sample, uniforms: _cache_weights(cached_scores, sample, uniforms, excluded=(0,))
        ),
        "A score of 0 can still win: give the own views a score of minus infinity": _score_zero,
        "These are the K largest of one draw, all different: draw K times, so that a view can come again": (
            _largest_of_one_draw
        ),
        "These are the probabilities; the exercise wants the shares of the draws": _softmax,
        "These are counts: a weight is a share of the K draws": _counts,
        "The Gumbel noise has the wrong sign: it is minus the logarithm of minus the logarithm of U": (
            lambda cached_scores, sample, uniforms: _cache_weights(cached_scores, sample, uniforms, sign=1.0)
        ),
    },
)
