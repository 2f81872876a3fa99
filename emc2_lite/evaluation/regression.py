"""Softmax regression on features: the convex part of a linear probe."""

import torch
from torch import Tensor
from torch.nn import functional as F

MAX_STEPS = 300


def standardised(features: Tensor, *others: Tensor) -> list[Tensor]:
    """Each in float64, less the mean of `features` and over its standard deviation, column by column.

    A column that is constant in `features` becomes 0 in all of them.
    """
    deviation, mean = torch.std_mean(features.double(), dim=0, correction=0)
    # Rounding gives a constant column a deviation of some 1e-17, which must not be divided by.
    scale = torch.where(features.amax(dim=0) == features.amin(dim=0), 0, 1 / deviation)
    return [(part.double() - mean).mul_(scale) for part in (features, *others)]


def softmax_regression(features: Tensor, labels: Tensor, l2: float, start: Tensor) -> Tensor:
    """The minimum over W (f, C) and c (C,) of mean cross-entropy of (X W + c) + l2 / 2 * |W|^2, c in the last row.

    By L-BFGS with a strong-Wolfe line search, until no entry of the gradient exceeds 1e-6 or the value moves by less
    than 1e-9 nats; at most 300 steps.

    Args:
        features, labels: X (N, f) float64 and (N,) int64, classes from 0 to C - 1.
        start: (f + 1, C) float64, where to begin; it decides the time, not the result.

    Source: Liu and Nocedal 1989, On the limited memory BFGS method for large scale optimization.
    """
    weights = start.clone().requires_grad_()
    optimiser = torch.optim.LBFGS(
        [weights], max_iter=MAX_STEPS, tolerance_grad=1e-6, tolerance_change=1e-9, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        loss = F.cross_entropy(logits(features, weights), labels) + l2 / 2 * weights[:-1].square().sum()
        (weights.grad,) = torch.autograd.grad(loss, weights)
        return loss

    optimiser.step(closure)
    return weights.detach()


def logits(features: Tensor, weights: Tensor) -> Tensor:
    return torch.addmm(weights[-1], features, weights[:-1])
