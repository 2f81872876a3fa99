"""Training from scratch on a finite set of views, with the exact loss and gradient measured along the way."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor, nn

from emc2_lite.checks import Increasing, Seed, checked_settings
from emc2_lite.laboratory.finite import exact_gradient, flat, pull_back, trained_weights, view_table
from emc2_lite.laboratory.gradients import BatchSize, Step
from emc2_lite.losses import Criterion, global_contrastive_loss
from emc2_lite.training import train
from emc2_lite.vision.views import Views


class TrainingCurve(NamedTuple):
    """Exact measurements along a run, each (checkpoints,), float64.

    steps: updates made before the measurement.
    loss: exact global contrastive loss, nats.
    squared_norm: |e|^2, the squared norm of the exact gradient e in the encoder's weights.
    squared_error: |g - e|^2 of the gradient g that the run took at that step.
    stats: the criterion's `stats` of every step.
    """

    steps: Tensor
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
    optimiser: torch.optim.Optimizer | None = None,
    seed: Seed = 0,
    after_step: Callable[[], object] = lambda: None,
) -> TrainingCurve:
    """Train on views 0 and 1 of every sample, and measure before the steps named in `checkpoints`.

    The run takes one step after the last checkpoint, to measure its gradient too. With `DCLLoss` and the whole set as
    the batch, every step takes the exact gradient: the limit of what an estimator can do.

    Args:
        encoder, views, criterion, batch_size, optimiser, seed, after_step: as for `emc2_lite.training.train`.
        checkpoints: increasing numbers of steps; 0 is before the first update.

    Raises: ValueError: on checkpoints that do not increase from 0 or more, and whatever `train` refuses.

    >>> from emc2_lite.losses import DCLLoss
    >>> from emc2_lite.vision import DigitEncoder, DigitViews, load_digits
    >>> views = DigitViews(load_digits("train").images[:8])
    >>> training_curve(DigitEncoder(4), views, DCLLoss(0.2), batch_size=4, checkpoints=[0, 3]).loss.shape
    torch.Size([2])
    """
    wanted, weights, measured = set(checkpoints), trained_weights(encoder), []

    def measure(step: int) -> None:
        if step in wanted:
            table = view_table(encoder, views)
            exact = pull_back(encoder, views, exact_gradient(table, criterion.temperature))
            error = flat([p.grad for p in weights], weights) - exact
            loss = global_contrastive_loss(table.double(), criterion.temperature)
            measured.append((step, loss.item(), exact.square().sum().item(), error.square().sum().item()))

    how: dict[str, Any] = {"batch_size": batch_size, "optimiser": optimiser, "fixed_views": True, "seed": seed}
    steps = checkpoints[-1] + 1
    stats = train(encoder, views, criterion, steps=steps, on_gradient=measure, after_step=after_step, **how)
    steps_before, losses, norms, errors = torch.tensor(measured, dtype=torch.float64).T.contiguous()
    return TrainingCurve(steps_before, losses, norms, errors, stats)
