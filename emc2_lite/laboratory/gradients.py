"""How good is an estimator's gradient at a fixed encoder? Bias, error and direction against the exact one."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Annotated, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emc2_lite.checks import Bounds, Increasing, Seed, check_tensor, checked_settings
from emc2_lite.laboratory.finite import exact_gradient
from emc2_lite.laboratory.statistics import Interval, jackknife

BatchSize = Annotated[int, Bounds(least=2)]
Count = Annotated[int, Bounds(least=1, most=10**9)]
Step = Annotated[int, Bounds(least=0, most=10**9)]


@checked_settings
def embedding_table(
    num_samples: Count = 64,
    num_views: Count = 2,
    dim: Count = 8,
    *,
    view_noise: Annotated[float, Bounds(least=0)] = 0.1,
    seed: Seed = 0,
) -> Tensor:
    """Random embeddings (N, V, d) of length 1: a random direction a sample, and `view_noise` per coordinate a view."""
    generator = torch.Generator().manual_seed(seed)
    centres = F.normalize(torch.randn(num_samples, 1, dim, generator=generator), dim=-1)
    return F.normalize(centres + view_noise * torch.randn(num_samples, num_views, dim, generator=generator), dim=-1)


class GradientBias(NamedTuple):
    """Curves over the number of steps averaged, each (checkpoints,).

    steps: how many steps the mean gradient averages.
    error: |mean gradient - exact gradient| / |exact gradient|: bias and sampling noise together, dimensionless.
    noise: the part of `error` that sampling alone would give, from the spread of the means of 20 blocks of steps.
    """

    steps: Tensor
    error: Tensor
    noise: Tensor


@checked_settings
def gradient_bias(
    criterion: nn.Module,
    table: Tensor,
    *,
    batch_size: BatchSize,
    checkpoints: Annotated[Sequence[Count], Increasing()],
    seed: Seed = 0,
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
    check_table(table, batch_size)
    if any(steps % _BLOCKS for steps in checkpoints):
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


class GradientQuality(NamedTuple):
    """An estimator's gradient g against the exact one e; 95 % intervals over independent runs, dimensionless.

    bias: |E g - e| / |e|, freed of sampling noise.
    rmse: sqrt(E |g - e|^2) / |e|, the error of a single step: bias and noise together.
    cosine: <E g, e> / (|E g| |e|); 0 where noise leaves no mean to be told from zero.
    views_encoded: views encoded again a step, without and with gradient together, in encodings.
    views_encoded_with_gradient: those of them encoded with gradient.
    """

    bias: Interval
    rmse: Interval
    cosine: Interval
    views_encoded: float
    views_encoded_with_gradient: float


@checked_settings
def gradient_quality(
    make: Callable[[], nn.Module],
    table: Tensor,
    *,
    batch_size: BatchSize,
    edges: Annotated[Sequence[Step], Increasing(2)],
    runs: Annotated[int, Bounds(least=3)] = 8,
    before: Tensor | None = None,
    pull_back: Callable[[Tensor], Tensor] = torch.flatten,
    seed: Seed = 0,
) -> list[GradientQuality]:
    """Bias, error and direction of an estimator's gradient at fixed embeddings, in successive windows of steps.

    Each of `runs` independent runs begins with a new criterion. In a window, run i has the mean gradient g_i. The mean
    of <g_i - e, g_j - e> over pairs i != j is |E g - e|^2 without the noise, for two runs share none; the intervals
    leave out one run at a time. Negative estimates of the squared bias are clipped to 0.

    Args:
        make: makes a new criterion, a loss of `emc2_lite.losses`.
        table: (N, 2, d) normalised embeddings, float32 or float64.
        batch_size: b, from 2 to N.
        edges: increasing numbers of steps; window w is from edges[w] to edges[w + 1]. What comes before the first is
            not measured.
        runs: 3 or more, to tell noise from bias.
        before: (N, 2, d) embeddings that stand in for `table` in the steps before edges[0]: an encoder that moves to
            its new place in one jump, with states that were made before it.
        pull_back: a linear map from gradients in the table to the space to measure in, such as the encoder's weights
            (`emc2_lite.laboratory.pull_back`); without it, the embeddings themselves are the parameters.
        seed: of the batches and of the criterion's own draws.

    Returns:
        One `GradientQuality` a window.

    Raises:
        ValueError: on a table or batch size of another kind, edges that do not increase, or fewer than 3 runs.
    """
    check_table(table, batch_size)
    generator = torch.Generator().manual_seed(seed)
    exact = pull_back(exact_gradient(table, make().temperature)).double()
    windows = [_Window([], [], []) for _ in edges[1:]]
    for _ in range(runs):
        criterion = make()
        for _ in _gradients(criterion, table if before is None else before, batch_size, edges[0], generator):
            pass
        gradients = _gradients(criterion, table, batch_size, edges[-1] - edges[0], generator)
        for window, (start, end) in zip(windows, pairwise(edges), strict=True):
            window.measure(criterion, gradients, end - start, exact, pull_back)
    return [window.quality(exact) for window in windows]


class _Window(NamedTuple):
    """What the runs did in one window: mean gradients, mean square errors of single steps, encodings a step."""

    means: list[Tensor]
    square_errors: list[Tensor]
    encoded: list[tuple[float, float]]

    def measure(self, criterion: nn.Module, gradients: Iterator[Tensor], steps: int, exact: Tensor, pull_back) -> None:
        every = max(1, steps // _STEPS_FOR_RMSE)
        total, squares, encoded, with_gradient = 0.0, [], 0, 0
        for step, gradient in zip(range(steps), gradients, strict=False):
            total = total + gradient.double()
            encoded += getattr(criterion.stats, "views_encoded", 0)
            with_gradient += getattr(criterion.stats, "views_encoded_with_gradient", 0)
            if step % every == 0:
                squares.append((pull_back(gradient).double() - exact).square().sum())
        self.means.append(pull_back(total / steps).double())
        self.square_errors.append(torch.stack(squares).mean())
        self.encoded.append((encoded / steps, with_gradient / steps))

    def quality(self, exact: Tensor) -> GradientQuality:
        runs, scale = len(self.means), exact.norm()
        off = (torch.stack(self.means) - exact) / scale
        products, along = off @ off.T, off @ (exact / scale)
        squares = torch.stack(self.square_errors) / scale**2

        def cosine(chosen: Tensor) -> float:
            square = _mean_of_pairs(1 + along + along[:, None] + products, chosen)  # |E g|^2 / |e|^2
            if square <= 0:
                return 0.0
            value = (1 + along[chosen].mean().item()) / math.sqrt(square)
            return 1.0 if value > 1 else value

        return GradientQuality(
            _root(jackknife(lambda chosen: _mean_of_pairs(products, chosen), runs)),
            _root(jackknife(lambda chosen: squares[chosen].mean().item(), runs)),
            jackknife(cosine, runs),
            *(sum(column) / runs for column in zip(*self.encoded, strict=True)),
        )


_BLOCKS = 20
_STEPS_FOR_RMSE = 50


def _mean_of_pairs(products: Tensor, chosen: Tensor) -> float:
    """Mean of products[i, j] over pairs i != j of the chosen."""
    part = products[chosen][:, chosen]
    return ((part.sum() - part.trace()) / (len(chosen) * (len(chosen) - 1))).item()


def _root(square: Interval) -> Interval:
    return Interval(*(math.sqrt(0.0 if number < 0 else number) for number in square))  # NaN stays NaN


def check_table(table: Tensor, batch_size: int) -> None:
    check_tensor(table, "table")
    if table.dim() != 3 or table.shape[1] != 2:
        raise ValueError(f"table has shape {tuple(table.shape)}: pass (N, 2, d), two views a sample.")
    if batch_size > len(table):
        raise ValueError(f"batch_size is {batch_size}: it must be from 2 to the number of samples, {len(table)}.")


def _gradients(
    criterion: nn.Module, table: Tensor, batch_size: int, steps: int, generator: torch.Generator
) -> Iterator[Tensor]:
    """Yield the gradient in the table, (N, 2, d), of each of so many steps."""
    parameters = table.detach().clone().requires_grad_()
    for _ in range(steps):
        index = torch.randperm(len(table), generator=generator)[:batch_size]
        z1, z2 = parameters[index].unbind(dim=1)
        loss = criterion(z1, z2, index, None, lambda i, v: parameters[i, v], generator)
        yield torch.autograd.grad(loss, parameters)[0]


def _mean_gradient(
    criterion: nn.Module, table: Tensor, batch_size: int, steps: int, generator: torch.Generator
) -> Tensor:
    total = torch.zeros_like(table, dtype=torch.float64)
    for gradient in _gradients(criterion, table, batch_size, steps, generator):
        total += gradient
    return total / steps
