"""Exercises of chapter 07; in the mistakes: gradient or list of gradients g."""

import math

import torch

from emc2_lite.course.exercise import Exercise


def _after_warmup(shape):
    """A rate that rises in the warm-up, then is `shape` of the share of the remaining steps, from 0 to 1."""
    return lambda step, warmup, total: (
        (step + 1) / warmup if step < warmup else shape((step - warmup) / (total - warmup))
    )


def _half_cosine(x):
    return (1 + math.cos(math.pi * x)) / 2


_rate_share = _after_warmup(_half_cosine)
rate_share = Exercise(
    "rate_share",
    _rate_share,
    cases=[
        *((step, 10, 100) for step in (0, 9, 10, 30, 55, 99)),
        *((step, 0, 50) for step in (0, 25, 40)),
        *[(3, 4, 9), (4, 10, 30), (7, 2, 9)],
    ],
    mistakes={
        "The warm-up starts at 0 here, so that the first step is lost: its share is (step + 1) / warmup": (
            lambda step, warmup, total: step / warmup if step < warmup else _rate_share(step, warmup, total)
        ),
        "The cosine must begin where the warm-up ends, not at step 0": (
            lambda step, warmup, total: (step + 1) / warmup if step < warmup else _half_cosine(step / total)
        ),
        "A full turn of the cosine comes back up: take half a turn, pi": _after_warmup(lambda x: _half_cosine(2 * x)),
        "This falls in a straight line: the share is (1 + cos) / 2": _after_warmup(lambda x: 1 - x),
        "The cosine itself runs from 1 to -1: add 1 and halve it": _after_warmup(lambda x: math.cos(math.pi * x)),
    },
)


def _length(gradients):
    return torch.cat([gradient.flatten() for gradient in gradients]).norm().item()


def _scaled(gradients, share):
    return [share * gradient for gradient in gradients]


def _gradients(scale, seed, shapes=((3, 2), (4,), (1,))):
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(shape, generator=generator) for shape in shapes]


clipped = Exercise(
    "clipped",
    lambda gradients, most: _scaled(gradients, min(1.0, most / _length(gradients))),
    cases=[
        (_gradients(1.0, 0), 1.0),
        (_gradients(0.01, 1), 1.0),
        (_gradients(5.0, 2), 2.5),
        (_gradients(0.5, 3), 5.0),
        (_gradients(0.1, 4, ((2,), (3,), (2, 2), (1,), (5,))), 0.2),
        ([torch.tensor([3.0]), torch.tensor([4.0])], 4.5),
    ],
    mistakes={
        "Each tensor is shortened by itself, which changes the direction: take one length for all tensors": (
            lambda g, most: [part * min(1.0, most / _length([part])) for part in g]
        ),
        "A short gradient must not change: the share is at most 1": lambda g, most: _scaled(g, most / _length(g)),
        "A limit on every number changes the direction: multiply all numbers by one share": (
            lambda g, most: [part.clamp(-most, most) for part in g]
        ),
        "The lengths of the tensors do not add up to the length of the whole: their squares do": (
            lambda g, most: _scaled(g, min(1.0, most / sum(_length([part]) for part in g)))
        ),
    },
)


def _exponent(size):
    return math.log2(65504 / size.item())


largest_scale = Exercise(
    "largest_scale",
    lambda gradient: 2.0 ** math.floor(_exponent(gradient.abs().max())),
    cases=[
        *((torch.tensor(g),) for g in ([1e-6, -3e-5, 2e-9], [0.5, -0.7], [[1.0, 2.0], [-4.0, 0.0]], [-1e-3, 4e-7])),
        *((torch.tensor(g),) for g in ([0.9, 0.8, -0.9, 0.85], [0.3, 0.7, -0.2], [1.9995, 0.5], [-3.0, 1e6])),
        *((torch.tensor(g),) for g in ([0.1, -0.2, 0.05, 3.0], [2e-9])),
    ],
    mistakes={
        "Rounded to nearest, the scale may be too large: round down": lambda g: 2.0 ** round(_exponent(g.abs().max())),
        "A negative number can be the largest: take absolute values": lambda g: 2.0 ** math.floor(_exponent(g.max())),
        "This takes the tensor's length: take its largest number": lambda g: 2.0 ** math.floor(_exponent(g.norm())),
        "int rounds a negative exponent up: math.floor rounds down": lambda g: 2.0 ** int(_exponent(g.abs().max())),
        "This is not a power of two: any other factor rounds every number": lambda g: 65504 / g.abs().max().item(),
        "This is the exponent: the scale is 2 to that power": lambda g: float(math.floor(_exponent(g.abs().max()))),
    },
)
