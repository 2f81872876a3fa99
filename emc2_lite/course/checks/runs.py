"""Exercises of chapter 07."""

import math

import torch

from emc2_lite.course.exercise import Exercise


def _rate_share(step, warmup, total):
    if step < warmup:
        return (step + 1) / warmup
    return (1 + math.cos(math.pi * (step - warmup) / (total - warmup))) / 2


rate_share = Exercise(
    "rate_share",
    _rate_share,
    cases=[
        (0, 10, 100),
        (9, 10, 100),
        (10, 10, 100),
        (55, 10, 100),
        (99, 10, 100),
        (0, 0, 50),
        (25, 0, 50),
        (3, 4, 9),
        (30, 10, 100),
        (4, 10, 30),
        (40, 0, 50),
        (7, 2, 9),
    ],
    mistakes={
        "The warm-up starts at 0 here, so that the first step is lost: it makes step + 1 of warmup parts": (
            lambda step, warmup, total: step / warmup if step < warmup else _rate_share(step, warmup, total)
        ),
        "The cosine must begin where the warm-up ends, not at step 0": (
            lambda step, warmup, total: (
                _rate_share(step, warmup, total) if step < warmup else (1 + math.cos(math.pi * step / total)) / 2
            )
        ),
        "A cosine of a full turn comes back up: half a turn, pi, ends at the bottom": (
            lambda step, warmup, total: (
                _rate_share(step, warmup, total)
                if step < warmup
                else (1 + math.cos(2 * math.pi * (step - warmup) / (total - warmup))) / 2
            )
        ),
        "That falls in a straight line; the share is (1 + cos) / 2": (
            lambda step, warmup, total: (
                _rate_share(step, warmup, total) if step < warmup else 1 - (step - warmup) / (total - warmup)
            )
        ),
        "The cosine itself runs from 1 to -1: add 1 and halve it": (
            lambda step, warmup, total: (
                _rate_share(step, warmup, total)
                if step < warmup
                else math.cos(math.pi * (step - warmup) / (total - warmup))
            )
        ),
    },
)


def _clipped(gradients, most):
    length = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    share = min(1.0, most / length.item())
    return [share * gradient for gradient in gradients]


def _gradients(scale, seed, shapes=((3, 2), (4,), (1,))):
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(shape, generator=generator) for shape in shapes]


clipped = Exercise(
    "clipped",
    _clipped,
    cases=[
        (_gradients(1.0, 0), 1.0),
        (_gradients(0.01, 1), 1.0),
        (_gradients(5.0, 2), 2.5),
        (_gradients(0.5, 3), 5.0),
        (_gradients(0.1, 4, ((2,), (3,), (2, 2), (1,), (5,))), 0.2),
        ([torch.tensor([3.0]), torch.tensor([4.0])], 4.5),
    ],
    mistakes={
        "Each tensor is shortened by itself, and the direction of the whole changes: one length for all of them": (
            lambda gradients, most: [gradient * min(1.0, most / gradient.norm().item()) for gradient in gradients]
        ),
        "A short gradient must stay as it is: the share is at most 1": (
            lambda gradients, most: [
                gradient * most / torch.cat([g.flatten() for g in gradients]).norm() for gradient in gradients
            ]
        ),
        "Cutting every number off at the limit changes the direction: multiply all by one share": (
            lambda gradients, most: [gradient.clamp(-most, most) for gradient in gradients]
        ),
        "The lengths of the tensors do not add up to the length of the whole: their squares do": (
            lambda gradients, most: [
                gradient * min(1.0, most / sum(g.norm().item() for g in gradients)) for gradient in gradients
            ]
        ),
    },
)


def _largest_scale(gradient):
    return 2.0 ** math.floor(math.log2(65504 / gradient.abs().max().item()))


largest_scale = Exercise(
    "largest_scale",
    _largest_scale,
    cases=[
        (torch.tensor([1e-6, -3e-5, 2e-9]),),
        (torch.tensor([0.5, -0.7]),),
        (torch.tensor([[1.0, 2.0], [-4.0, 0.0]]),),
        (torch.tensor([-1e-3, 4e-7]),),
        (torch.tensor([0.9, 0.8, -0.9, 0.85]),),
        (torch.tensor([0.3, 0.7, -0.2]),),
        (torch.tensor([1.9995, 0.5]),),
        (torch.tensor([-3.0, 1e6]),),
        (torch.tensor([0.1, -0.2, 0.05, 3.0]),),
        (torch.tensor([2e-9]),),
    ],
    mistakes={
        "Rounded to the nearest power the largest number may overflow: round down": (
            lambda gradient: 2.0 ** round(math.log2(65504 / gradient.abs().max().item()))
        ),
        "A negative number can be the largest in size: take absolute values": (
            lambda gradient: 2.0 ** math.floor(math.log2(65504 / gradient.max().item()))
        ),
        "That takes the length of the whole tensor: its largest number alone must stay below 65,504": (
            lambda gradient: 2.0 ** math.floor(math.log2(65504 / gradient.norm().item()))
        ),
        "Rounded towards 0 the exponent of a scale below 1 is too large: math.floor rounds down": (
            lambda gradient: 2.0 ** int(math.log2(65504 / gradient.abs().max().item()))
        ),
        "That is not a power of two: other factors would round every number on the way": (
            lambda gradient: 65504 / gradient.abs().max().item()
        ),
        "That is the exponent; the scale is 2 to its power": (
            lambda gradient: float(math.floor(math.log2(65504 / gradient.abs().max().item())))
        ),
    },
)
