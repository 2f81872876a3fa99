"""How good is an estimator's gradient at a fixed encoder? Bias, error and direction against the exact one."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, pairwise
from typing import Annotated, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from emc2_lite.checks import Bounds, Increasing, Seed, check_tensor, checked_settings
from emc2_lite.laboratory.finite import exact_gradient
from emc2_lite.laboratory.statistics import Interval, jackknife
from emc2_lite.losses import Criterion

BatchSize = Annotated[int, Bounds(least=2)]
Count = Annotated[int, Bounds(least=1, most=10**9)]
Step = Annotated[int, Bounds(least=0, most=10**9)]
Edges = Annotated[Sequence[Step], Increasing(2)]
Runs = Annotated[int, Bounds(least=3)]
Noise = Annotated[float, Bounds(least=0)]
Counts = Annotated[Sequence[Count], Increasing()]
_BLOCKS = 20
_STEPS_FOR_RMSE = 50


@checked_settings
def embedding_table(
    num_samples: Count = 64, num_views: Count = 2, dim: Count = 8, *, view_noise: Noise = 0.1, seed: Seed = 0
) -> Tensor:
    """Random embeddings of length 1, (N, V, d): a random direction a sample, plus noise in each coordinate of a view.

    `view_noise` is the standard deviation of the noise.

    >>> embedding_table(num_samples=3, dim=4).shape
    torch.Size([3, 2, 4])
    """
    generator = torch.Generator().manual_seed(seed)
    centres = F.normalize(torch.randn(num_samples, 1, dim, generator=generator), dim=-1)
    return F.normalize(centres + view_noise * torch.randn(num_samples, num_views, dim, generator=generator), dim=-1)


class GradientBias(NamedTuple):
    """Curves over the number of steps averaged, each (checkpoints,).

    steps: number of steps in the mean gradient.
    error: |mean gradient - exact gradient| / |exact gradient|: bias and sampling noise together, dimensionless.
    noise: the part of `error` that sampling alone would give, from the spread of the means of 20 blocks of steps.
    """

    steps: Tensor
    error: Tensor
    noise: Tensor


@checked_settings
def gradient_bias(
    criterion: Criterion, table: Tensor, *, batch_size: BatchSize, checkpoints: Counts, seed: Seed = 0
) -> GradientBias:
    """Average a criterion's gradient over steps at fixed embeddings, and compare the mean with the exact gradient.

    Each step draws `batch_size` samples without replacement and takes the loss's gradient in the table, carried-over
    views included.

    Args:
        criterion: a loss of `emc2_lite.losses`; its state, if any, continues from its present value.
        table: (N, 2, d) normalised embeddings.
        batch_size: b, from 2 to N.
        checkpoints: increasing numbers of steps, multiples of 20.
        seed: of the batches and of the criterion's own draws.

    Raises: ValueError: on a table or batch size of another kind, or checkpoints that are not increasing multiples of
        20.

    >>> from emc2_lite.losses import DCLLoss
    >>> gradient_bias(DCLLoss(0.2), embedding_table(), batch_size=64, checkpoints=[20]).error.item() < 1e-4
    True
    """
    check_table(table, batch_size)
    if any(steps % _BLOCKS for steps in checkpoints):
        raise ValueError(f"checkpoints is {list(checkpoints)}: pass increasing multiples of {_BLOCKS}.")
    gradients = _gradients(criterion, table, batch_size, torch.Generator().manual_seed(seed))
    block = math.gcd(*checkpoints) // _BLOCKS
    zero = torch.zeros_like(table, dtype=torch.float64)
    block_means = torch.stack([sum(islice(gradients, block), zero) / block for _ in range(checkpoints[-1] // block)])
    exact = exact_gradient(table, criterion.temperature)
    error, noise = [], []
    for steps in checkpoints:
        means = block_means[: steps // block].unflatten(0, (_BLOCKS, -1)).mean(dim=1)
        error.append((means.mean(dim=0) - exact).norm() / exact.norm())
        noise.append((means.var(dim=0).sum() / _BLOCKS).sqrt() / exact.norm())
    return GradientBias(torch.tensor(checkpoints), torch.stack(error), torch.stack(noise))


class GradientQuality(NamedTuple):
    """An estimator's gradient g against the exact one e; 95 % intervals over independent runs, dimensionless.

    bias: |E g - e| / |e|, without sampling noise.
    rmse: sqrt(E |g - e|^2) / |e|, the error of a single step: bias and noise together.
    cosine: <E g, e> / (|E g| |e|); 0 where noise hides the mean.
    views_encoded: views encoded again per step, with and without gradient, in encodings.
    views_encoded_with_gradient: the part of `views_encoded` with gradient.
    """

    bias: Interval
    rmse: Interval
    cosine: Interval
    views_encoded: float
    views_encoded_with_gradient: float


@checked_settings
def gradient_quality(
    make: Callable[[], Criterion],
    table: Tensor,
    *,
    batch_size: BatchSize,
    edges: Edges,
    runs: Runs = 8,
    before: Tensor | None = None,
    pull_back: Callable[[Tensor], Tensor] = torch.flatten,
    seed: Seed = 0,
) -> list[GradientQuality]:
    """Bias, error and direction of an estimator's gradient at fixed embeddings, one `GradientQuality` per window.

    Each of `runs` independent runs begins with a new criterion. In a window, run i has the mean gradient g_i. The mean
    of <g_i - e, g_j - e> over pairs i != j is |E g - e|^2 without noise, since two runs share none; the intervals leave
    out one run at a time. Negative estimates of the squared bias are clipped to 0.

    Args:
        make: makes a new criterion, a loss of `emc2_lite.losses`.
        table: (N, 2, d) normalised embeddings, float32 or float64.
        batch_size: b, from 2 to N.
        edges: increasing numbers of steps; window w has the steps from edges[w] to edges[w + 1]. The steps before
            edges[0] are not measured.
        runs: 3 or more, to separate noise from bias.
        before: (N, 2, d) embeddings in the place of `table` in the steps before edges[0]: an encoder that moves in one
            jump, with criteria whose states are from before the jump.
        pull_back: a linear map from gradients in the table to the space to measure in, such as the encoder's weights
            (`emc2_lite.laboratory.pull_back`); by default, the embeddings themselves are the parameters.
        seed: of the batches and of the criterion's own draws.

    Raises: ValueError: on a table or batch size of another kind, edges that do not increase, or fewer than 3 runs.

    >>> from emc2_lite.losses import NTXentLoss
    >>> (window,) = gradient_quality(lambda: NTXentLoss(0.2), embedding_table(), batch_size=4, edges=[0, 9])
    >>> window.rmse.value > window.bias.value > 0
    True
    """
    check_table(table, batch_size)
    generator = torch.Generator().manual_seed(seed)
    exact = pull_back(exact_gradient(table, make().temperature)).double()
    measured = []
    for _ in range(runs):
        criterion = make()
        for _ in islice(_gradients(criterion, table if before is None else before, batch_size, generator), edges[0]):
            pass
        gradients = _gradients(criterion, table, batch_size, generator)
        windows = pairwise(edges)
        measured.append([_measured(criterion, gradients, end - start, exact, pull_back) for start, end in windows])
    return [_quality(exact, window) for window in zip(*measured, strict=True)]


def _measured(
    criterion: Criterion, gradients: Iterator[Tensor], steps: int, exact: Tensor, pull_back: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, float, float]:
    """One run in one window: mean gradient, mean squared error of single steps, the two kinds of encodings per step."""
    every = max(1, steps // _STEPS_FOR_RMSE)
    total, squares, encoded, with_gradient = torch.zeros((), dtype=torch.float64), [], 0, 0
    for step, gradient in enumerate(islice(gradients, steps)):
        total = total + gradient.double()
        encoded += getattr(criterion.stats, "views_encoded", 0)
        with_gradient += getattr(criterion.stats, "views_encoded_with_gradient", 0)
        if step % every == 0:
            squares.append((pull_back(gradient).double() - exact).square().sum())
    return pull_back(total / steps).double(), torch.stack(squares).mean(), encoded / steps, with_gradient / steps


def _quality(exact: Tensor, runs: Sequence[tuple[Tensor, Tensor, float, float]]) -> GradientQuality:
    """The quality in one window, from what `_measured` gives for each run."""
    means, square_errors, encoded, with_gradient = zip(*runs, strict=True)
    count, scale = len(runs), exact.norm()
    off = (torch.stack(means) - exact) / scale
    products, along = off @ off.T, off @ (exact / scale)
    squares = torch.stack(square_errors) / scale**2

    def cosine(chosen: Tensor) -> float:
        square = _mean_of_pairs(1 + along + along[:, None] + products, chosen)  # |E g|^2 / |e|^2
        if square <= 0:
            return 0.0
        value = (1 + along[chosen].mean().item()) / math.sqrt(square)
        return 1.0 if value > 1 else value  # NaN stays NaN

    bias = _root(jackknife(lambda chosen: _mean_of_pairs(products, chosen), count))
    rmse = _root(jackknife(lambda chosen: squares[chosen].mean().item(), count))
    return GradientQuality(bias, rmse, jackknife(cosine, count), sum(encoded) / count, sum(with_gradient) / count)


def _mean_of_pairs(products: Tensor, chosen: Tensor) -> float:
    """Mean of products[i, j] over pairs i != j of the chosen runs."""
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


def _gradients(criterion: Criterion, table: Tensor, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Take steps without end, and yield the gradient in the table of each, (N, 2, d)."""
    parameters = table.detach().clone().requires_grad_()
    while True:
        index = torch.randperm(len(table), generator=generator)[:batch_size]
        z1, z2 = parameters[index].unbind(dim=1)
        loss = criterion(z1, z2, index, None, lambda i, v: parameters[i, v], generator)
        yield torch.autograd.grad(loss, parameters)[0]
