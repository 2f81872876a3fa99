"""Solutions of chapter 03. Each passes its check in `emc2_lite.course.checks.memory`."""

import math

import torch


def updated_average(log_u, log_mean, gamma):
    """The logarithm of (1 - gamma) u + gamma mean, and the mean itself where there was no u.

    torch.where asks every row on its own. log1p(-gamma) is log(1 - gamma), exact for a small gamma too.
    """
    average = torch.logaddexp(log_u + math.log1p(-gamma), log_mean + math.log(gamma))
    return torch.where(log_u == -math.inf, log_mean, average)


def average_weights(scores, log_u):
    """exp l / (m u), in one exponential: differences of large logarithms are small numbers."""
    return (scores - log_u - math.log(len(scores))).exp()


def cache_weights(cached_scores, sample, uniforms):
    """Minus infinity never wins a maximum. Each line of uniforms is a draw of its own, so a view can win twice."""
    scores = cached_scores.clone()
    scores[2 * sample : 2 * sample + 2] = -math.inf
    winners = (scores - (-uniforms.log()).log()).argmax(dim=1)
    return torch.bincount(winners, minlength=len(scores)) / len(uniforms)
