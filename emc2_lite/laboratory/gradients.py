"""How far is an estimator's mean gradient from the exact one? Measured on a table of embeddings."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emc2_lite.losses import global_contrastive_loss


def embedding_table(
    num_samples: int = 64, num_views: int = 2, dim: int = 8, *, view_noise: float = 0.1, seed: int = 0
) -> Tensor:
    """Random embeddings (N, V, d) of length 1: a random direction a sample, and `view_noise` per coordinate a view."""
    generator = torch.Generator().manual_seed(seed)
    centres = F.normalize(torch.randn(num_samples, 1, dim, generator=generator), dim=-1)
    return F.normalize(centres + view_noise * torch.randn(num_samples, num_views, dim, generator=generator), dim=-1)


def exact_gradient(table: Tensor, temperature: float) -> Tensor:
    """Gradient of the global contrastive loss in the embeddings, treated as free parameters: (N, V, d), float64."""
    table = table.detach().double().requires_grad_()
    return torch.autograd.grad(global_contrastive_loss(table, temperature), table)[0]


class GradientBias(NamedTuple):
    """Curves over the number of steps averaged, each (checkpoints,).

    steps: how many steps the mean gradient averages.
    error: |mean gradient - exact gradient| / |exact gradient|: bias and sampling noise together, dimensionless.
    noise: the part of `error` that sampling alone would give, from the spread of the means of 20 blocks of steps.
    """

    steps: Tensor
    error: Tensor
    noise: Tensor


def gradient_bias(
    criterion: nn.Module, table: Tensor, *, batch_size: int, checkpoints: Sequence[int], seed: int = 0
) -> GradientBias:
    """Average a criterion's gradient over steps with fixed embeddings, and compare with the exact one.

    Each step draws `batch_size` samples without replacement, asks the criterion for its loss, and takes the gradient in
    the table, carried-over views included. The weights stand still, so only the estimator is at work.

    Args:
        criterion: a loss of `emc2_lite.losses`; its state, if any, goes on from where it is.
        table: (N, 2, d) normalised embeddings.
        batch_size: b, from 2 to N.
        checkpoints: increasing numbers of steps, multiples of 20.
        seed: of the batches and of the criterion's own draws.

    Raises:
        ValueError: on a table or batch size of another kind, or checkpoints that are not increasing multiples of 20.
    """
    if table.dim() != 3 or table.shape[1] != 2:
        raise ValueError(f"table has shape {tuple(table.shape)}: pass (N, 2, d), two views a sample.")
    if not 2 <= batch_size <= len(table):
        raise ValueError(f"batch_size is {batch_size}: it must be from 2 to the number of samples, {len(table)}.")
    if (
        not checkpoints
        or sorted(set(checkpoints)) != list(checkpoints)
        or any(c < 1 or c % _BLOCKS for c in checkpoints)
    ):
        raise ValueError(f"checkpoints is {list(checkpoints)}: pass increasing multiples of {_BLOCKS}.")
    generator = torch.Generator().manual_seed(seed)
    block_steps = math.gcd(*checkpoints) // _BLOCKS
    block_means = torch.stack(
        [
            _mean_gradient(criterion, table, batch_size, block_steps, generator)
            for _ in range(checkpoints[-1] // block_steps)
        ]
    )
    exact = exact_gradient(table, criterion.temperature)
    error, noise = [], []
    for steps in checkpoints:
        means = block_means[: steps // block_steps].unflatten(0, (_BLOCKS, -1)).mean(dim=1)
        error.append((means.mean(dim=0) - exact).norm() / exact.norm())
        noise.append((means.var(dim=0).sum() / _BLOCKS).sqrt() / exact.norm())
    return GradientBias(torch.tensor(checkpoints), torch.stack(error), torch.stack(noise))


_BLOCKS = 20


def _mean_gradient(
    criterion: nn.Module, table: Tensor, batch_size: int, steps: int, generator: torch.Generator
) -> Tensor:
    parameters = table.detach().clone().requires_grad_()
    total = torch.zeros_like(table, dtype=torch.float64)
    for _ in range(steps):
        index = torch.randperm(len(table), generator=generator)[:batch_size]
        z1, z2 = parameters[index].unbind(dim=1)
        loss = criterion(z1, z2, index, None, lambda i, v: parameters[i, v], generator)
        total += torch.autograd.grad(loss, parameters)[0]
    return total / steps
