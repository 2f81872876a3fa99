"""The training loop."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from emc2_lite.vision.views import DigitViews


def train(
    encoder: nn.Module,
    views: DigitViews,
    criterion: Callable[..., Tensor],
    *,
    steps: int,
    batch_size: int,
    learning_rate: float = 1e-3,
    optimiser: torch.optim.Optimizer | None = None,
    fixed_views: bool = False,
    seed: int = 0,
    on_gradient: Callable[[int], None] = lambda step: None,
    after_step: Callable[[], object] = lambda: None,
) -> list[Any]:
    """Train the encoder in place, and return `criterion.stats` of every step.

    Batches are drawn without replacement, epoch by epoch; what does not fill a batch waits for the next shuffle. In
    epoch e a sample shows its views 2e and 2e + 1, so that views are endless; with `fixed_views` always 0 and 1, a
    finite set whose exact global loss can be computed. The run depends on the encoder's weights, the optimiser and
    `seed` alone.

    Args:
        learning_rate: of Adam, the optimiser when none is given.
        optimiser: another one, of the encoder's parameters; it has its own learning rate.
        on_gradient: called with the number of each step, from 0, when its gradient lies in the parameters' `grad` and
            the parameters have not moved yet.
        after_step: called after each step, such as the `step` of a learning-rate schedule.

    Raises:
        ValueError: if batch_size is under 2 or over the number of images, or the loss is for another number of samples.
    """
    if not 2 <= batch_size <= len(views):
        raise ValueError(f"batch_size is {batch_size}: it must be from 2 to the number of images, {len(views)}.")
    chains = getattr(criterion, "num_samples", None)
    if chains not in (None, len(views)):
        raise ValueError(f"The loss was made for {chains} samples, but there are {len(views)} images: make it anew.")
    device = next(encoder.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    optimiser = optimiser or torch.optim.Adam(encoder.parameters(), learning_rate)

    def encode(index: Tensor, view: Tensor) -> Tensor:
        return encoder(views(index, view))

    history = []
    batches = _batches(len(views), batch_size, generator)
    for step, (epoch, index) in zip(range(steps), batches, strict=False):
        first = torch.full_like(index, 0 if fixed_views else 2 * epoch)
        view = torch.stack((first, first + 1))
        z1, z2 = encode(index.repeat(2), view.flatten()).chunk(2)
        loss = criterion(z1, z2, index, view, encode, generator)
        optimiser.zero_grad()
        loss.backward()
        on_gradient(step)
        optimiser.step()
        after_step()
        history.append(criterion.stats)
    return history


def _batches(num_samples: int, batch_size: int, generator: torch.Generator) -> Iterator[tuple[int, Tensor]]:
    epoch = 0
    while True:
        order = torch.randperm(num_samples, generator=generator, device=generator.device)
        for start in range(0, num_samples - batch_size + 1, batch_size):
            yield epoch, order[start : start + batch_size]
        epoch += 1
