"""Right and wrong answers to the exercises of chapter 07."""

import math

import torch

from emc2_lite.course.checks import runs


def doubled(gradient):
    scale = 2.0**-60
    while 2 * scale * gradient.abs().max() <= 65504:
        scale *= 2
    return scale


RIGHT = [
    (runs.rate_share, lambda s, w, n: (s + 1) / w if s < w else math.cos(math.pi / 2 * (s - w) / (n - w)) ** 2),
    (
        runs.clipped,
        lambda gradients, most: tuple(
            g / max(1, sum(x.square().sum() for x in gradients) ** 0.5 / most) for g in gradients
        ),
    ),
    (
        runs.clipped,
        lambda gradients, most: [
            g * (most / (sum(x.norm() ** 2 for x in gradients).sqrt() + 1e-6)).clamp(max=1) for g in gradients
        ],
    ),
    (runs.largest_scale, doubled),
    (runs.largest_scale, lambda gradient: 2 ** torch.floor(torch.log2(65504 / gradient.abs().max()))),
]


def cosine(x):
    return (1 + math.cos(math.pi * x)) / 2


def falling(shape, end=0):
    """A rate that rises in the warm-up, then is ``shape`` of the share of the steps up to ``total - end``."""
    return lambda step, warmup, total: (
        (step + 1) / warmup if step < warmup else shape((step - warmup) / (total - end - warmup))
    )


def length(gradients):
    return torch.cat([gradient.flatten() for gradient in gradients]).norm().item()


def scaled(share):
    return lambda gradients, most: [share(gradients, most) * gradient for gradient in gradients]


def power(size, largest=65504, rounded=math.floor):
    """The scale for a tensor whose size is ``size(gradient)``."""
    return lambda gradient: 2.0 ** rounded(math.log2(largest / size(gradient).item()))


def largest(gradient):
    return gradient.abs().max()


WRONG = [
    (runs.rate_share, lambda step, warmup, total: 1.0),
    (runs.rate_share, lambda step, warmup, total: cosine(step / total)),
    (runs.rate_share, falling(lambda x: 1.0)),
    (runs.rate_share, lambda step, warmup, total: min(1.0, (step + 1) / max(warmup, 1))),
    (runs.rate_share, falling(lambda x: 1 - x * x * (3 - 2 * x))),
    (runs.rate_share, falling(lambda x: math.cos(math.pi * x / 2))),
    (runs.rate_share, falling(lambda x: 1 - x if x < 0.9 else cosine(x))),
    (runs.rate_share, lambda step, warmup, total: min(1, (step + 1) / max(warmup, 1)) * cosine(step / total)),
    (runs.rate_share, falling(cosine, end=1)),
    (runs.clipped, scaled(lambda gradients, most: most if length(gradients) > most else 1)),
    (runs.clipped, scaled(lambda gradients, most: most / length(gradients) if length(gradients) > 1 else 1)),
    (runs.clipped, lambda gradients, most: runs.clipped.reference(gradients, most)[:3]),
    (runs.clipped, scaled(lambda gradients, most: min(1, most / length(gradients) ** 2))),
    (runs.clipped, scaled(lambda gradients, most: min(1, most / length(gradients[:-1])))),
    (runs.clipped, scaled(lambda gradients, most: most)),
    (runs.clipped, lambda gradients, most: gradients),
    (runs.clipped, lambda gradients, most: [g / max(1.0, g.abs().max().item() / most) for g in gradients]),
    (runs.clipped, lambda gradients, most: torch.cat([gradient.flatten() for gradient in gradients])),
    (runs.largest_scale, lambda gradient: 65536.0),
    (runs.largest_scale, power(lambda gradient: gradient.abs().sum())),
    (runs.largest_scale, power(lambda gradient: gradient.min().abs().clamp_min(1e-9))),
    (runs.largest_scale, power(lambda gradient: gradient.flatten()[:2].abs().max())),
    (runs.largest_scale, lambda gradient: max(1.0, power(largest)(gradient))),
    (runs.largest_scale, lambda gradient: min(2.0**24, power(largest)(gradient))),
    (runs.largest_scale, lambda gradient: 2.0 ** (15 - math.floor(math.log2(largest(gradient))))),
    (runs.largest_scale, power(largest, largest=65536)),
    (runs.largest_scale, power(lambda gradient: gradient.abs().mean())),
    (runs.largest_scale, power(largest, rounded=math.ceil)),
]
