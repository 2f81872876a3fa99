"""Right and wrong answers to the exercises of chapter 03.

Letters: average u, rate g.
"""

import math

import torch
from torch.nn import functional as F

from emc2_lite.course.checks import memory


def average_row_by_row(log_u, log_mean, gamma):
    rows = zip(log_u, log_mean, strict=True)
    return [m if u == -math.inf else torch.logaddexp(u + math.log(1 - gamma), m + math.log(gamma)) for u, m in rows]


def race(cached_scores, sample, uniforms):
    """The winner is the first of exponential clocks with the rates exp(score)."""
    times = (-uniforms.log()).log() - cached_scores
    times[:, 2 * sample : 2 * sample + 2] = math.inf
    return F.one_hot(times.argmin(1), len(cached_scores)).double().mean(0)


RIGHT = [
    (memory.updated_average, average_row_by_row),
    (memory.average_weights, lambda scores, log_u: [math.exp(s - log_u) / len(scores) for s in scores]),
    (memory.cache_weights, race),
]


def average(log_u, log_mean, g):
    return torch.logaddexp(log_u + math.log1p(-g), log_mean + math.log(g))


def average_in_float64(log_u, log_mean, g):
    u = (1 - g) * log_u.double().exp() + g * log_mean.double().exp()
    return torch.where(log_u.isneginf(), log_mean.double(), u.log())


def shares(winner):
    """The share of each view among ``winner(s, i, u)``, with -inf for the two scores of the row's own sample i."""
    return lambda s, i, u: torch.bincount(winner(left_out(s, 2 * i, 2 * i + 1), i, u), minlength=len(s)) / len(u)


def left_out(s, *places, score=-math.inf):
    return s.index_fill(0, torch.tensor(places), score)


def drawn(s, u):
    return (s - (-u.log()).log()).argmax(dim=1)


def shares_of_drawn(s, u):
    return torch.bincount(drawn(s, u), minlength=len(s)) / len(u)


WRONG = [
    (memory.updated_average, lambda log_u, log_mean, g: log_mean),
    (memory.updated_average, lambda log_u, log_mean, g: log_u),
    (memory.updated_average, lambda log_u, log_mean, g: torch.logaddexp(log_u, log_mean)),
    (memory.updated_average, lambda log_u, log_mean, g: average(log_u.clamp_min(0), log_mean, g)),
    (memory.updated_average, lambda log_u, log_mean, g: log_mean.where(log_u == 0, average(log_u, log_mean, g))),
    (memory.updated_average, lambda log_u, log_mean, g: torch.maximum(average(log_u, log_mean, g), log_mean)),
    (
        memory.updated_average,
        lambda log_u, log_mean, g: memory.updated_average.reference(log_u, log_mean, 0.9),
    ),
    (memory.updated_average, average_in_float64),
    (
        memory.updated_average,
        lambda log_u, log_mean, g: log_mean if log_u.isneginf().any() else average(log_u, log_mean, g),
    ),
    (memory.updated_average, lambda log_u, log_mean, g: log_mean.where(log_u < -100, average(log_u, log_mean, g))),
    (
        memory.updated_average,
        lambda log_u, log_mean, g: log_mean.where(log_u == log_u.min(), average(log_u, log_mean, g)),
    ),
    (memory.average_weights, lambda s, log_u: (s - log_u - math.log(len(s) + 1)).exp()),
    (memory.average_weights, lambda s, log_u: (s - log_u) / len(s)),
    (memory.average_weights, lambda s, log_u: (log_u - s - math.log(len(s))).exp()),
    (memory.average_weights, lambda s, log_u: (s - log_u).softmax(0) / len(s)),
    (memory.average_weights, lambda s, log_u: (s - s.logsumexp(0) + math.log(len(s))).exp()),
    (memory.average_weights, lambda s, log_u: (s - log_u - math.log(len(s))).exp().clamp(max=1)),
    (memory.average_weights, lambda s, log_u: (s - log_u - math.log2(len(s))).exp()),
    (memory.average_weights, lambda s, log_u: (s - log_u).sigmoid() / len(s)),
    (memory.average_weights, lambda s, log_u: ((s - log_u).exp() / len(s)).sum()),
    (memory.cache_weights, lambda s, i, u: shares_of_drawn(left_out(s, 2 * i + 1), u)),
    (memory.cache_weights, lambda s, i, u: shares_of_drawn(left_out(s, i, i + len(s) // 2), u)),
    (memory.cache_weights, lambda s, i, u: shares_of_drawn(left_out(s, 2 * i, 2 * i + 1, score=-10), u)),
    (memory.cache_weights, lambda s, i, u: shares_of_drawn(left_out(s, 2 * i, 2 * i + 1, score=-1), u)),
    (memory.cache_weights, lambda s, i, u: shares_of_drawn(left_out(s, 2 * i, 2 * i + 1), u[:1])),
    (memory.cache_weights, lambda s, i, u: shares_of_drawn(left_out(s, 2 * i, 2 * i + 1).softmax(0), u)),
    (memory.cache_weights, shares(lambda s, i, u: (s + u).argmax(dim=1))),
    (memory.cache_weights, shares(lambda s, i, u: (s - u.log()).argmax(dim=1))),
    (memory.cache_weights, shares(lambda s, i, u: drawn(s, u).unique())),
    (memory.cache_weights, shares(lambda s, i, u: s.argmax().repeat(len(u)))),
]
