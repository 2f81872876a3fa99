"""The checks of chapters 07 and 08 reject wrong answers that they have no sentence for."""

import math

import pytest
import torch

from emc2_lite.course.checks.evaluation import paired_difference, score_interval, vote
from emc2_lite.course.checks.runs import clipped, largest_scale, rate_share
from emc2_lite.evaluation import wilson


def cosine(x):
    return (1 + math.cos(math.pi * x)) / 2


def falling(step, warmup, total, shape):
    return (step + 1) / warmup if step < warmup else shape((step - warmup) / (total - warmup))


def length(gradients):
    return torch.cat([gradient.flatten() for gradient in gradients]).norm().item()


def scaled(gradients, share):
    return [share * gradient for gradient in gradients]


def power(size, largest=65504):
    return 2.0 ** math.floor(math.log2(largest / size.item()))


def sums(cosines, labels, temperature):
    return torch.zeros(20).index_add(0, labels, ((cosines - cosines.max()) / temperature).exp())


def first_largest(labels, weights):
    """The class with the largest sum; of equal ones that of the nearest neighbour."""
    total = dict.fromkeys(labels.tolist(), 0.0)
    for label, weight in zip(labels.tolist(), weights.tolist(), strict=True):
        total[label] += weight
    return max(total, key=total.get)


def difference(a, b):
    return a.double() - b.double()


def reach(difference):
    return 1.96 * difference.std() / len(difference) ** 0.5


WRONG = [
    (rate_share, lambda step, warmup, total: 1.0),
    (rate_share, lambda step, warmup, total: (1 + math.cos(math.pi * step / total)) / 2),
    (rate_share, lambda step, warmup, total: (step + 1) / warmup if step < warmup else 1.0),
    (rate_share, lambda step, warmup, total: min(1.0, (step + 1) / max(warmup, 1))),
    (rate_share, lambda step, warmup, total: falling(step, warmup, total, lambda x: 1 - x * x * (3 - 2 * x))),
    (rate_share, lambda step, warmup, total: falling(step, warmup, total, lambda x: math.cos(math.pi * x / 2))),
    (rate_share, lambda step, warmup, total: falling(step, warmup, total, lambda x: 1 - x if x < 0.9 else cosine(x))),
    (rate_share, lambda step, warmup, total: min(1, (step + 1) / max(warmup, 1)) * cosine(step / total)),
    (rate_share, lambda step, warmup, total: falling(step, warmup, total - 1, cosine)),
    (clipped, lambda gradients, most: scaled(gradients, most if length(gradients) > most else 1)),
    (clipped, lambda gradients, most: scaled(gradients, most / length(gradients) if length(gradients) > 1 else 1)),
    (clipped, lambda gradients, most: scaled(gradients[:3], min(1, most / length(gradients)))),
    (clipped, lambda gradients, most: scaled(gradients, min(1, most / length(gradients) ** 2))),
    (clipped, lambda gradients, most: scaled(gradients, min(1, most / length(gradients[:-1])))),
    (clipped, lambda gradients, most: [most * gradient for gradient in gradients]),
    (clipped, lambda gradients, most: gradients),
    (
        clipped,
        lambda gradients, most: [gradient / max(1.0, gradient.abs().max().item() / most) for gradient in gradients],
    ),
    (clipped, lambda gradients, most: torch.cat([gradient.flatten() for gradient in gradients])),
    (largest_scale, lambda gradient: 65536.0),
    (largest_scale, lambda gradient: power(gradient.norm())),
    (largest_scale, lambda gradient: power(gradient.abs().sum())),
    (largest_scale, lambda gradient: power(gradient.max().abs())),
    (largest_scale, lambda gradient: power(gradient.min().abs().clamp_min(1e-9))),
    (largest_scale, lambda gradient: power(gradient.flatten()[:2].abs().max())),
    (largest_scale, lambda gradient: max(1.0, power(gradient.abs().max()))),
    (largest_scale, lambda gradient: min(2.0**24, power(gradient.abs().max()))),
    (largest_scale, lambda gradient: 2.0 ** (15 - math.floor(math.log2(gradient.abs().max())))),
    (largest_scale, lambda gradient: power(gradient.abs().max(), 65536)),
    (largest_scale, lambda gradient: 2.0 ** math.floor(math.log2(65504 / gradient.abs().mean().item()))),
    (largest_scale, lambda gradient: 2.0 ** math.ceil(math.log2(65504 / gradient.abs().max().item()))),
    (score_interval, lambda successes, count: (0.0, 1.0)),
    (score_interval, lambda successes, count: (successes / count, successes / count)),
    (score_interval, lambda successes, count: (max(0, successes / count - 1 / count**0.5), successes / count)),
    (score_interval, lambda successes, count: wilson(successes + 2, count + 4)[1:]),
    (score_interval, lambda successes, count: wilson(successes, count)[:0:-1]),
    (score_interval, lambda successes, count: wilson(successes, count, 0.9)[1:]),
    (score_interval, lambda successes, count: wilson(successes, count, 0.9545)[1:]),
    (score_interval, lambda successes, count: tuple(round(bound, 3) for bound in wilson(successes, count)[1:])),
    (vote, lambda cosines, labels, temperature: labels[0]),
    (vote, lambda cosines, labels, temperature: sums(cosines, labels, temperature)[labels.unique()].argmax()),
    (vote, lambda cosines, labels, temperature: sums(cosines, labels, temperature).max()),
    (vote, lambda cosines, labels, temperature: sums(cosines[:3], labels[:3], temperature).argmax()),
    (vote, lambda cosines, labels, temperature: sums(cosines.abs(), labels, temperature).argmax()),
    (vote, lambda cosines, labels, temperature: sums(cosines, labels, temperature**0.5).argmax()),
    (vote, lambda cosines, labels, temperature: sums(cosines, labels, 0.07).argmax()),
    (vote, lambda cosines, labels, temperature: first_largest(labels, (cosines / temperature).exp())),
    (vote, lambda cosines, labels, temperature: first_largest(labels, (cosines.double() / temperature).exp())),
    (vote, lambda cosines, labels, temperature: labels.bincount((cosines.double() / temperature).exp()).argmax()),
    (vote, lambda cosines, labels, temperature: labels.bincount((cosines / temperature).clamp(max=80).exp()).argmax()),
    (vote, lambda cosines, labels, temperature: labels.max()),
    (vote, lambda cosines, labels, temperature: labels[cosines.argmin()]),
    (paired_difference, lambda a, b: (difference(a, b).mean().abs(), reach(difference(a, b)))),
    (paired_difference, lambda a, b: (difference(a, b).abs().mean(), reach(difference(a, b)))),
    (paired_difference, lambda a, b: (difference(a, b).clamp_min(0).mean(), reach(difference(a, b)))),
    (paired_difference, lambda a, b: (difference(a, b).mean(), reach((a ^ b).double()))),
    (paired_difference, lambda a, b: (difference(a, b).mean(), 1.96 * ((a ^ b).double().mean() / len(a)) ** 0.5)),
    (paired_difference, lambda a, b: (difference(a, b).mean(), -reach(difference(a, b)))),
    (paired_difference, lambda a, b: (difference(a, b).mean() - reach(difference(a, b)), reach(difference(a, b)))),
    (paired_difference, lambda a, b: a.float().mean() - b.float().mean()),
    (paired_difference, lambda a, b: ((a ^ b).float().mean(), (a ^ b).float().std())),
    (paired_difference, lambda a, b: ((a.float() - b.float()).sum(), (a.float() - b.float()).std() * 1.96)),
]


@pytest.mark.parametrize(("exercise", "wrong"), WRONG, ids=lambda value: getattr(value, "name", ""))
def test_a_wrong_answer_is_rejected(exercise, wrong):
    assert exercise.verdict(wrong).startswith("not yet")
