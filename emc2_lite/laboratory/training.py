"""Training from scratch on a finite set of views, with the exact loss and gradient measured along the way."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from emc2_lite.checks import Increasing, Seed, checked_settings
from emc2_lite.laboratory.finite import exact_gradient, flat, pull_back, trained_weights, view_table
from emc2_lite.laboratory.gradients import BatchSize, Step
from emc2_lite.losses import Criterion, global_contrastive_loss
from emc2_lite.training.loop import training_steps
from emc2_lite.training.price import step_price
from emc2_lite.vision.views import Views


class TrainingCurve(NamedTuple):
    """Exact measurements along a run, each (measurements,), float64.

    steps: updates made before the measurement.
    price: encodings spent before the measurement, see `emc2_lite.training.price`.
    loss: exact global contrastive loss, nats.
    squared_norm: |e|^2, the squared norm of the exact gradient e in the encoder's weights.
    squared_error: |g - e|^2 of the gradient g that the run took at that step.
    stats: the criterion's `stats` of every step.
    """

    steps: Tensor
    price: Tensor
    loss: Tensor
    squared_norm: Tensor
    squared_error: Tensor
    stats: list[Any]


@checked_settings
def training_curve(
    encoder: nn.Module,
    views: Views,
    criterion: Criterion,
    *,
    batch_size: BatchSize,
    checkpoints: Annotated[Sequence[Step], Increasing()],
    by: Literal["steps", "price"] = "steps",
    optimiser: torch.optim.Optimizer | None = None,
    seed: Seed = 0,
    after_step: Callable[[], object] = lambda: None,
) -> TrainingCurve:
    """Train on views 0 and 1 of every sample, and measure before the steps at which `checkpoints` are reached.

    by="steps" compares gradients: checkpoints are numbers of steps. by="price" compares methods at equal price:
    checkpoints are in encodings, the last one is the run's budget, and the learning rate falls as `priced_steps` says.
    A step that passes several checkpoints gives one measurement. The run takes one step after the last checkpoint, to
    measure its gradient too. With `DCLLoss` and the whole set as the batch, every step takes the exact gradient: the
    limit of what an estimator can do.

    Args:
        encoder, views, criterion, batch_size, optimiser, seed, after_step: as for `emc2_lite.training.train`.
        checkpoints: increasing numbers; 0 is before the first update.

    Raises: ValueError: on checkpoints that do not increase from 0 or more, and whatever `train` refuses.

    >>> from emc2_lite.losses import DCLLoss
    >>> from emc2_lite.vision import DigitEncoder, DigitViews, load_digits
    >>> views = DigitViews(load_digits("train").images[:8])
    >>> curve = training_curve(DigitEncoder(4), views, DCLLoss(0.2), batch_size=4, checkpoints=[0, 30], by="price")
    >>> curve.price  # a step of 4 samples costs 24 encodings
    tensor([ 0., 48.], dtype=torch.float64)
    """
    weights, left, spent = trained_weights(encoder), deque(checkpoints), 0
    measured: list[tuple[float, ...]] = []
    history: list[Any] = []

    def measure(step: int) -> None:
        reached = step if by == "steps" else spent
        if not left or left[0] > reached:
            return
        while left and left[0] <= reached:
            left.popleft()
        table = view_table(encoder, views)
        exact = pull_back(encoder, views, exact_gradient(table, criterion.temperature))
        error = flat([p.grad for p in weights], weights) - exact
        loss = global_contrastive_loss(table.double(), criterion.temperature)
        measured.append((step, spent, loss.item(), exact.square().sum().item(), error.square().sum().item()))

    optimiser = optimiser or torch.optim.Adam(encoder.parameters())
    budget = checkpoints[-1] if by == "price" else 0
    how: dict[str, Any] = {"batch_size": batch_size, "seed": seed, "fixed_views": True, "on_gradient": measure}
    run = priced_steps(encoder, views, criterion, optimiser, budget=budget, **how)
    while left:
        spent, stats = next(run)
        history.append(stats)
        after_step()
    steps, price, losses, norms, errors = torch.tensor(measured, dtype=torch.float64).T.contiguous()
    return TrainingCurve(steps, price, losses, norms, errors, history)


def priced_steps(
    encoder: nn.Module,
    views: Views,
    criterion: Criterion,
    optimiser: torch.optim.Optimizer,
    *,
    batch_size: int,
    budget: int = 0,
    **how: Any,
) -> Iterator[tuple[int, Any]]:
    """Train the encoder in place without end; yield the encodings spent so far and `criterion.stats` after each step.

    With a `budget` in encodings, the learning rate is its first value times 1 - spent / budget, and 0 from then on: the
    same schedule by price for every method.

    Args:
        encoder, views, criterion, optimiser, batch_size, how: as for `emc2_lite.training.training_steps`.
    """
    rates, spent = [group["lr"] for group in optimiser.param_groups], 0
    for stats in training_steps(encoder, views, criterion, optimiser, batch_size=batch_size, **how):
        spent += step_price(stats, batch_size)
        if budget:
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * max(1 - spent / budget, 0.0)
        yield spent, stats
