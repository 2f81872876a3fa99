"""Right and wrong answers to the exercises of chapter 08.

Letters: k of n successes; cosines c, labels y; a and b say which images two encoders classify correctly.
"""

import math

import torch

from emc2_lite.course.checks import evaluation
from emc2_lite.evaluation import wilson


def log_votes(cosines, labels, temperature):
    return max(labels.unique(), key=lambda label: (cosines[labels == label] / temperature).logsumexp(0))


def votes_by_name(cosines, labels, temperature):
    votes = {}
    for cosine, label in zip(cosines.tolist(), labels.tolist(), strict=True):
        votes[label] = votes.get(label, 0) + math.exp((cosine - cosines.max().item()) / temperature)
    return max(votes, key=votes.get)


def population_deviation(a, b):
    difference = a.float() - b.float()
    return torch.stack((difference.mean(), 1.96 * difference.std(correction=0) / math.sqrt(len(a))))


def counted_differences(a, b):
    n, only_a, only_b = len(a), (a & ~b).sum().item(), (b & ~a).sum().item()
    mean = (only_a - only_b) / n
    return [mean, 1.96 * math.sqrt(((only_a + only_b) / n - mean**2) / (n - 1))]


RIGHT = [
    (evaluation.score_interval, lambda successes, n: torch.tensor(wilson(successes, n)[1:])),
    (evaluation.score_interval, lambda successes, n: list(wilson(successes, n)[1:])),
    (evaluation.vote, log_votes),
    (evaluation.vote, votes_by_name),
    (evaluation.vote, lambda c, labels, t: labels.bincount((c / t).softmax(0)).argmax().item()),
    (evaluation.paired_difference, population_deviation),
    (evaluation.paired_difference, counted_differences),
]


def first_largest(score):
    """The class with the largest sum of ``score(c / t)``; among equal sums, the class of the nearest neighbour."""

    def wrong(c, y, t):
        total = dict.fromkeys(y.tolist(), 0.0)
        for label, weight in zip(y.tolist(), score(c / t).tolist(), strict=True):
            total[label] += weight
        return max(total, key=total.get)

    return wrong


def sums(c, y, t):
    return y.bincount(((c - c.max()) / t).exp())


def difference(a, b):
    return a.double() - b.double()


def reach(a, b):
    return 1.96 * difference(a, b).std() / len(a) ** 0.5


WRONG = [
    (evaluation.score_interval, lambda k, n: (0.0, 1.0)),
    (evaluation.score_interval, lambda k, n: (k / n, k / n)),
    (evaluation.score_interval, lambda k, n: (max(0, k / n - 1 / n**0.5), k / n)),
    (evaluation.score_interval, lambda k, n: wilson(k + 2, n + 4)[1:]),
    (evaluation.score_interval, lambda k, n: wilson(k, n)[:0:-1]),
    (evaluation.score_interval, lambda k, n: wilson(k, n, 0.9)[1:]),
    (evaluation.score_interval, lambda k, n: wilson(k, n, 0.9545)[1:]),
    (evaluation.score_interval, lambda k, n: tuple(round(bound, 3) for bound in wilson(k, n)[1:])),
    (evaluation.vote, lambda c, y, t: y[0]),
    (evaluation.vote, lambda c, y, t: sums(c, y, t).max()),
    (evaluation.vote, lambda c, y, t: sums(c[:3], y[:3], t).argmax()),
    (evaluation.vote, lambda c, y, t: sums(c.abs(), y, t).argmax()),
    (evaluation.vote, lambda c, y, t: sums(c, y, t**0.5).argmax()),
    (evaluation.vote, lambda c, y, t: sums(c, y, 0.07).argmax()),
    (evaluation.vote, first_largest(lambda scores: scores.exp())),
    (evaluation.vote, first_largest(lambda scores: scores.double().exp())),
    (evaluation.vote, lambda c, y, t: y.bincount((c / t).clamp(max=80).exp()).argmax()),
    (evaluation.vote, lambda c, y, t: y.max()),
    (evaluation.vote, lambda c, y, t: y[c.argmin()]),
    (evaluation.paired_difference, lambda a, b: (difference(a, b).clamp_min(0).mean(), reach(a, b))),
    (
        evaluation.paired_difference,
        lambda a, b: (difference(a, b).mean(), 1.96 * (a ^ b).double().std() / len(a) ** 0.5),
    ),
    (
        evaluation.paired_difference,
        lambda a, b: (difference(a, b).mean(), 1.96 * ((a ^ b).double().mean() / len(a)) ** 0.5),
    ),
    (evaluation.paired_difference, lambda a, b: (difference(a, b).mean(), -reach(a, b))),
    (evaluation.paired_difference, lambda a, b: (difference(a, b).mean() - reach(a, b), reach(a, b))),
    (evaluation.paired_difference, lambda a, b: difference(a, b).mean()),
    (evaluation.paired_difference, lambda a, b: ((a ^ b).float().mean(), (a ^ b).float().std())),
    (evaluation.paired_difference, lambda a, b: (difference(a, b).sum(), difference(a, b).std() * 1.96)),
]
