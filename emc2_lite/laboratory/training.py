"""Training from scratch on a finite set of views, with the exact loss and gradient looked up along the way."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor, nn

from emc2_lite.checks import Increasing, Seed, checked_settings
from emc2_lite.laboratory.finite import exact_gradient, pull_back, view_table
from emc2_lite.laboratory.gradients import BatchSize, Step
from emc2_lite.losses import global_contrastive_loss
from emc2_lite.training import train


class TrainingCurve(NamedTuple):
    """What the exact oracle says along a run, each (checkpoints,), float64.

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
    views: Any,
    criterion: nn.Module,
    *,
    batch_size: BatchSize,
    checkpoints: Annotated[Sequence[Step], Increasing()],
    optimiser: torch.optim.Optimizer | None = None,
    seed: Seed = 0,
    after_step: Callable[[], object] = lambda: None,
) -> TrainingCurve:
    """Train on views 0 and 1 of every sample, and measure before the steps named in `checkpoints`.

    The run ends after the last of them (one step later, so that its gradient can be measured too). With `DCLLoss` and
    the whole set as the batch, every step takes the exact gradient: the limit of what an estimator can do.

    Args:
        encoder, views, criterion, batch_size, optimiser, seed: as for `emc2_lite.training.train`.
        checkpoints: increasing numbers of steps; 0 is before the first update.
        after_step: called after each step, such as a schedule's `step`.

    Raises:
        ValueError: on checkpoints that do not increase from 0 or more, and whatever `train` refuses.
    """
    losses, norms, errors = [], [], []

    def measure(step: int) -> None:
        if step not in wanted:
            return
        table = view_table(encoder, views)
        exact = pull_back(encoder, views, exact_gradient(table, criterion.temperature))
        weights = [p for p in encoder.parameters() if p.requires_grad]
        taken = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in weights])
        losses.append(global_contrastive_loss(table.double(), criterion.temperature).item())
        norms.append(exact.square().sum().item())
        errors.append((taken - exact).square().sum().item())

    wanted = set(checkpoints)
    stats = train(
        encoder,
        views,
        criterion,
        steps=checkpoints[-1] + 1,
        batch_size=batch_size,
        optimiser=optimiser,
        fixed_views=True,
        seed=seed,
        on_gradient=measure,
        after_step=after_step,
    )
    columns = (torch.tensor(column, dtype=torch.float64) for column in (checkpoints, losses, norms, errors))
    return TrainingCurve(*columns, stats)
