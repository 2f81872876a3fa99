"""How good is an estimator's gradient at a fixed encoder? Its bias, noise and price."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice, pairwise
from typing import Annotated, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from emc2_lite.checks import Bounds, Increasing, Seed, check_tensor, checked_settings
from emc2_lite.laboratory.finite import exact_gradient
from emc2_lite.laboratory.statistics import Interval, jackknife
from emc2_lite.losses import Criterion
from emc2_lite.training.price import step_price

BatchSize = Annotated[int, Bounds(least=2)]
Count = Annotated[int, Bounds(least=1, most=10**9)]
Step = Annotated[int, Bounds(least=0, most=10**9)]
Edges = Annotated[Sequence[Step], Increasing(2)]
Runs = Annotated[int, Bounds(least=3)]
Noise = Annotated[float, Bounds(least=0)]
Counts = Annotated[Sequence[Count], Increasing()]

_BLOCKS = 20  # of the steps of `gradient_bias`
_SINGLE_STEPS = 25  # of a window, at least, to measure the error of a single step

Rulers = dict[str, Callable[[Tensor], Tensor]]


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
    """An estimator's gradient g against the exact one e in one window of n steps; m is the mean gradient of a run.

    All but the encodings are dimensionless; intervals are of 95 %, over independent runs.

    bias: |E g - e| / |e|, without sampling noise.
    cosine: <E g, e> / (|E g| |e|), the bias in direction; 0 where noise hides the mean.
    length: |E g| / |e|, the bias in length.
    rmse: sqrt(E |g - e|^2) / |e|, the error of a single step: bias and noise together.
    noise: sqrt(E |g - E g|^2) / |e|, the noise of a single step.
    run_noise: sqrt(n E |m - E m|^2) / |e|, the noise of a run. It is `noise` where steps are independent, above it
        where they resemble each other, as those of chains do, and below it where they make up for each other.
    relative_price: encodings per step over those of the batch alone, see `emc2_lite.training.price.step_price`.
    views_encoded: views encoded again per step, with and without gradient, in encodings.
    views_encoded_with_gradient: the part of `views_encoded` with gradient.
    """

    bias: Interval
    cosine: Interval
    length: Interval
    rmse: Interval
    noise: Interval
    run_noise: Interval
    relative_price: float
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
    pull_back: Callable[[Tensor], Tensor] | None = None,
    seed: Seed = 0,
) -> list[dict[str, GradientQuality]]:
    """Bias, noise and price of an estimator's gradient at fixed embeddings: for each window, {ruler: quality}.

    The ruler "embeddings" takes the table as the parameters; "weights" takes the encoder's weights, see `pull_back`.

    Each of `runs` independent runs begins with a new criterion. In a window, run i has the mean gradient g_i. Two runs
    share no noise, so the mean of <g_i - e, g_j - e> over pairs i != j is |E g - e|^2, and the mean of |g_i - e|^2 is
    larger by the noise of a mean. The intervals leave out one run at a time. Negative estimates of squares are clipped
    to 0. On the 64 x 2 table of the example, 8 runs of 1,000 steps know the run noise to about 5 %.

    V = 2 are stored views: every visit shows both, view v in slot v. V > 2 are endless views: every visit shows two
    distinct ones, at random. Either way e is the exact gradient over all V views, which an estimator has in the mean if
    it draws each row's negatives from the row's softmax over all V views of the other samples.

    Args:
        make: makes a new criterion, a loss of `emc2_lite.losses`.
        table: (N, V, d) normalised embeddings, V >= 2, float32 or float64.
        batch_size: b, from 2 to N.
        edges: increasing numbers of steps; window w has the steps from edges[w] to edges[w + 1]. The steps before
            edges[0] are not measured.
        runs: 3 or more, to separate noise from bias.
        before: (N, V, d) embeddings in the place of `table` in the steps before edges[0]: an encoder that moves in one
            jump, with criteria whose states are from before the jump.
        pull_back: the linear map from gradients in the table to gradients in the encoder's weights
            (`emc2_lite.laboratory.pull_back`); without it, "embeddings" is the only ruler.
        seed: of the batches, of the views that visits show, and of the criterion's own draws.

    Raises: ValueError: on a table or batch size of another kind, edges that do not increase, or fewer than 3 runs.

    >>> from emc2_lite.losses import NTXentLoss
    >>> (window,) = gradient_quality(lambda: NTXentLoss(0.2), embedding_table(), batch_size=4, edges=[0, 9])
    >>> window["embeddings"].rmse.value > window["embeddings"].bias.value > 0
    True
    """
    check_table(table, batch_size, endless=True)
    before = table if before is None else before
    if before.shape != table.shape:
        raise ValueError(f"before has shape {tuple(before.shape)}: pass the table's shape, {tuple(table.shape)}.")
    rulers: Rulers = {"embeddings": torch.flatten} | ({"weights": pull_back} if pull_back else {})
    generator = torch.Generator().manual_seed(seed)
    exact = _on(rulers, exact_gradient(table, make().temperature))
    measured = []
    for _ in range(runs):
        criterion = make()
        for _ in islice(_gradients(criterion, before, batch_size, generator), edges[0]):
            pass
        gradients = _gradients(criterion, table, batch_size, generator)
        windows = [end - start for start, end in pairwise(edges)]
        measured.append([_measured(criterion, gradients, steps, batch_size, rulers, exact) for steps in windows])
    return [_quality(window, rulers, exact) for window in zip(*measured, strict=True)]


class _Run(NamedTuple):
    """One run in one window of `steps`."""

    steps: int
    means: list[Tensor]  # the mean gradient, for each ruler
    square_errors: Tensor  # mean squared error of single steps, (rulers,)
    costs: Tensor  # relative price and the two kinds of encodings, per step, (3,)


def _measured(
    criterion: Criterion,
    gradients: Iterator[Tensor],
    steps: int,
    batch_size: int,
    rulers: Rulers,
    exact: Sequence[Tensor],
) -> _Run:
    every, total, squares, costs = max(1, steps // _SINGLE_STEPS), torch.zeros((), dtype=torch.float64), [], []
    for step, gradient in enumerate(islice(gradients, steps)):
        total = total + gradient
        encoded = (getattr(criterion.stats, name, 0) for name in GradientQuality._fields[-2:])
        costs.append((step_price(criterion.stats, batch_size) / step_price(None, batch_size), *encoded))
        if step % every == 0:
            measured = zip(_on(rulers, gradient), exact, strict=True)
            squares.append(torch.stack([(g - e).square().sum() for g, e in measured]))
    costs_of_a_step = torch.tensor(costs, dtype=torch.float64).mean(dim=0)
    return _Run(steps, _on(rulers, total / steps), torch.stack(squares).mean(dim=0), costs_of_a_step)


def _on(rulers: Rulers, gradient: Tensor) -> list[Tensor]:
    """The gradient in the parameters of each ruler, float64."""
    return [ruler(gradient).double() for ruler in rulers.values()]


def _quality(runs: Sequence[_Run], rulers: Rulers, exact: Sequence[Tensor]) -> dict[str, GradientQuality]:
    costs = torch.stack([run.costs for run in runs]).mean(dim=0).tolist()
    means = [torch.stack(of_ruler) for of_ruler in zip(*(run.means for run in runs), strict=True)]
    squares = torch.stack([run.square_errors for run in runs], dim=1)
    errors = [_errors(*measured, runs[0].steps) for measured in zip(exact, means, squares, strict=True)]
    return {name: GradientQuality._make((*found, *costs)) for name, found in zip(rulers, errors, strict=True)}


def _errors(exact: Tensor, means: Tensor, square_errors: Tensor, steps: int) -> list[Interval]:
    """From bias to run_noise: exact (P,), the runs' means (runs, P) and mean squared errors of single steps (runs,)."""
    scale = exact.norm()
    off = (means - exact) / scale
    products, along, squares = off @ off.T, off @ (exact / scale), square_errors / scale**2
    between = 1 + along + along[:, None] + products  # <g_i, g_j> / |e|^2

    def square(place: int, chosen: Tensor) -> float:
        bias, length = _mean_of_pairs(products, chosen), _mean_of_pairs(between, chosen)
        rmse, of_means = squares[chosen].mean().item(), products.diagonal()[chosen].mean().item()
        return (bias, length, rmse, rmse - bias, steps * (of_means - bias))[place]

    def cosine(chosen: Tensor) -> float:
        if (length := square(1, chosen)) <= 0:
            return 0.0
        value = (1 + along[chosen].mean().item()) / math.sqrt(length)
        return 1.0 if value > 1 else value  # NaN stays NaN

    bias, *others = (_root(jackknife(partial(square, place), len(means))) for place in range(5))
    return [bias, jackknife(cosine, len(means)), *others]


def _mean_of_pairs(products: Tensor, chosen: Tensor) -> float:
    """Mean of products[i, j] over pairs i != j of the chosen runs."""
    part = products[chosen][:, chosen]
    return ((part.sum() - part.trace()) / (len(chosen) * (len(chosen) - 1))).item()


def _root(square: Interval) -> Interval:
    return Interval(*(math.sqrt(0.0 if number < 0 else number) for number in square))  # NaN stays NaN


def check_table(table: Tensor, batch_size: int, *, endless: bool = False) -> None:
    check_tensor(table, "table")
    if table.dim() != 3 or table.shape[1] < 2 or (table.shape[1] > 2 and not endless):
        more = ", or (N, V, d) with V > 2 endless ones" if endless else ""
        raise ValueError(f"table has shape {tuple(table.shape)}: pass (N, 2, d), two views a sample{more}.")
    if batch_size > len(table):
        raise ValueError(f"batch_size is {batch_size}: it must be from 2 to the number of samples, {len(table)}.")


def _gradients(criterion: Criterion, table: Tensor, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Take steps without end, and yield the gradient in the table of each, (N, V, d)."""
    parameters, num_views = table.detach().clone().requires_grad_(), table.shape[1]
    view = torch.arange(2)[:, None].repeat(1, batch_size)
    while True:
        index = torch.randperm(len(table), generator=generator)[:batch_size]
        if num_views > 2:
            view = torch.rand(batch_size, num_views, generator=generator).topk(2).indices.T.contiguous()
        z1, z2 = parameters[index, view]
        loss = criterion(z1, z2, index, view, lambda i, v: parameters[i, v], generator)
        yield torch.autograd.grad(loss, parameters)[0]
