"""The checks of chapter 03 reject wrong answers that they have no sentence for."""

import math

import pytest
import torch

from emc2_lite.course.checks.memory import average_weights, cache_weights, updated_average


def average(log_u, log_mean, gamma):
    return torch.logaddexp(log_u + math.log1p(-gamma), log_mean + math.log(gamma))


def average_in_float64(log_u, log_mean, gamma):
    u = (1 - gamma) * log_u.exp() + gamma * log_mean.exp()
    return torch.where(log_u.isneginf(), log_mean, u.log())


@pytest.mark.parametrize(
    "wrong",
    [
        lambda log_u, log_mean, gamma: log_mean,
        lambda log_u, log_mean, gamma: log_u,
        lambda log_u, log_mean, gamma: torch.logaddexp(log_u, log_mean),
        lambda log_u, log_mean, gamma: average(log_u.clamp_min(0), log_mean, gamma),
        lambda log_u, log_mean, gamma: torch.where(log_u == 0, log_mean, average(log_u, log_mean, gamma)),
        lambda log_u, log_mean, gamma: torch.maximum(average(log_u, log_mean, gamma), log_mean),
        lambda log_u, log_mean, gamma: torch.where(log_u.isneginf(), log_mean, average(log_u, log_mean, 0.9)),
        lambda log_u, log_mean, gamma: average_in_float64(log_u.double(), log_mean.double(), gamma),
        lambda log_u, log_mean, gamma: log_mean if log_u.isneginf().any() else average(log_u, log_mean, gamma),
        lambda log_u, log_mean, gamma: torch.where(log_u < -100, log_mean, average(log_u, log_mean, gamma)),
        lambda log_u, log_mean, gamma: torch.where(log_u == log_u.min(), log_mean, average(log_u, log_mean, gamma)),
    ],
)
def test_a_wrong_average_is_rejected(wrong):
    assert updated_average.verdict(wrong).startswith("not yet")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda scores, log_u: (scores - log_u - math.log(len(scores) + 1)).exp(),
        lambda scores, log_u: (scores - log_u) / len(scores),
        lambda scores, log_u: (log_u - scores - math.log(len(scores))).exp(),
        lambda scores, log_u: (scores - log_u).softmax(0) / len(scores),
        lambda scores, log_u: (scores - scores.logsumexp(0) + math.log(len(scores))).exp(),
        lambda scores, log_u: (scores - log_u - math.log(len(scores))).exp().clamp(max=1),
        lambda scores, log_u: (scores - log_u - math.log2(len(scores))).exp(),
        lambda scores, log_u: (scores - log_u).sigmoid() / len(scores),
        lambda scores, log_u: ((scores - log_u).exp() / len(scores)).sum(),
    ],
)
def test_wrong_weights_are_rejected(wrong):
    assert average_weights.verdict(wrong).startswith("not yet")


def winners(scores, uniforms):
    return (scores - (-uniforms.log()).log()).argmax(dim=1)


def without(scores, *places, fill=-math.inf):
    scores = scores.clone()
    scores[list(places)] = fill
    return scores


def shares(found, places):
    return torch.bincount(found, minlength=places) / len(found)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda scores, sample, uniforms: shares(winners(without(scores, 2 * sample + 1), uniforms), len(scores)),
        lambda scores, sample, uniforms: shares(
            winners(without(scores, sample, sample + len(scores) // 2), uniforms), len(scores)
        ),
        lambda scores, sample, uniforms: shares(
            (without(scores, 2 * sample, 2 * sample + 1) + uniforms).argmax(dim=1), len(scores)
        ),
        lambda scores, sample, uniforms: shares(
            winners(without(scores, 2 * sample, 2 * sample + 1), uniforms[:1]), len(scores)
        ),
        lambda scores, sample, uniforms: shares(
            winners(without(scores, 2 * sample, 2 * sample + 1), uniforms).unique(), len(scores)
        ),
        lambda scores, sample, uniforms: shares(
            without(scores, 2 * sample, 2 * sample + 1).argmax().repeat(len(uniforms)), len(scores)
        ),
        lambda scores, sample, uniforms: shares(
            winners(without(scores, 2 * sample, 2 * sample + 1, fill=-10), uniforms), len(scores)
        ),
        lambda scores, sample, uniforms: shares(
            winners(without(scores, 2 * sample, 2 * sample + 1, fill=-1), uniforms), len(scores)
        ),
        lambda scores, sample, uniforms: shares(
            (without(scores, 2 * sample, 2 * sample + 1) - uniforms.log()).argmax(dim=1), len(scores)
        ),
        lambda scores, sample, uniforms: shares(
            winners(without(scores, 2 * sample, 2 * sample + 1).softmax(0), uniforms), len(scores)
        ),
    ],
)
def test_wrong_draws_are_rejected(wrong):
    assert cache_weights.verdict(wrong).startswith("not yet")
