"""The checks of chapters 07 and 08 reject wrong answers that they have no sentence for."""

import math

import pytest
import torch

from emc2_lite.course.checks.evaluation import paired_difference, score_interval, vote
from emc2_lite.course.checks.runs import clipped, largest_scale, rate_share

WRONG = [
    (rate_share, lambda step, warmup, total: 1.0),
    (rate_share, lambda step, warmup, total: (1 + math.cos(math.pi * step / total)) / 2),
    (rate_share, lambda step, warmup, total: (step + 1) / warmup if step < warmup else 1.0),
    (rate_share, lambda step, warmup, total: min(1.0, (step + 1) / max(warmup, 1))),
    (clipped, lambda gradients, most: [most * gradient for gradient in gradients]),
    (clipped, lambda gradients, most: gradients),
    (
        clipped,
        lambda gradients, most: [gradient / max(1.0, gradient.abs().max().item() / most) for gradient in gradients],
    ),
    (clipped, lambda gradients, most: torch.cat([gradient.flatten() for gradient in gradients])),
    (largest_scale, lambda gradient: 65536.0),
    (largest_scale, lambda gradient: 2.0 ** math.floor(math.log2(65504 / gradient.abs().mean().item()))),
    (largest_scale, lambda gradient: 2.0 ** math.ceil(math.log2(65504 / gradient.abs().max().item()))),
    (score_interval, lambda successes, count: (0.0, 1.0)),
    (score_interval, lambda successes, count: (successes / count, successes / count)),
    (score_interval, lambda successes, count: (max(0, successes / count - 1 / count**0.5), successes / count)),
    (vote, lambda cosines, labels, temperature: labels[0]),
    (vote, lambda cosines, labels, temperature: labels.max()),
    (vote, lambda cosines, labels, temperature: labels[cosines.argmin()]),
    (paired_difference, lambda a, b: a.float().mean() - b.float().mean()),
    (paired_difference, lambda a, b: ((a ^ b).float().mean(), (a ^ b).float().std())),
    (paired_difference, lambda a, b: ((a.float() - b.float()).sum(), (a.float() - b.float()).std() * 1.96)),
]


@pytest.mark.parametrize(("exercise", "wrong"), WRONG, ids=lambda value: getattr(value, "name", ""))
def test_a_wrong_answer_is_rejected(exercise, wrong):
    assert exercise.verdict(wrong).startswith("not yet")
