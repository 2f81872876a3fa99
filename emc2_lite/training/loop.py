"""The training loop: batches epoch by epoch, one step, and the two together."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from emc2_lite.vision.views import Views

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


class EpochSampler:
    """Batches of indices without replacement, epoch by epoch; what does not fill a batch waits for the next shuffle.

    Each epoch's order is drawn from `generator` when its first batch is asked for.

    Raises:
        ValueError: if batch_size is under 2 or over num_samples.
    """

    def __init__(self, num_samples: int, batch_size: int, generator: torch.Generator):
        if not 2 <= batch_size <= num_samples:
            raise ValueError(f"batch_size is {batch_size}: it must be from 2 to the number of images, {num_samples}.")
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.generator = generator
        self.epoch = -1
        self.start = num_samples
        self.order = torch.empty(0, dtype=torch.int64)

    @property
    def batches_per_epoch(self) -> int:
        return self.num_samples // self.batch_size

    def __iter__(self) -> "EpochSampler":
        return self

    def __next__(self) -> tuple[int, Tensor]:
        """The number of the epoch, from 0, and the next batch: (b,) int64."""
        if self.peek() is None:
            self.order = torch.randperm(self.num_samples, generator=self.generator, device=self.generator.device)
            self.epoch, self.start = self.epoch + 1, 0
        batch = self.peek()
        self.start += self.batch_size
        return self.epoch, batch

    def peek(self) -> Tensor | None:
        """The batch that comes next, or None if it belongs to an epoch whose order is not drawn yet."""
        end = self.start + self.batch_size
        return self.order[self.start : end] if end <= self.num_samples else None

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "start": self.start, "order": self.order}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch, self.start = state["epoch"], state["start"]
        self.order = state["order"].to(self.generator.device)


def views_of_epoch(epoch: int, index: Tensor, *, fixed: bool = False) -> Tensor:
    """The numbers of the two views that each sample shows in an epoch: 2e and 2e + 1, or always 0 and 1; (2, b)."""
    first = torch.full_like(index, 0 if fixed else 2 * epoch)
    return torch.stack((first, first + 1))


class TrainingStep:
    """One update of an encoder: encode a batch's two views, ask the criterion, follow its gradient.

    Args:
        encoder, views, criterion, optimiser: the run's parts, all on one device.
        generator: the source of the criterion's random numbers.
        precision: "float32", "bfloat16" or "float16"; the loss is in float32 in all, and float16 gradients are scaled.
        channels_last: hand images over with the channel as the innermost dimension.
        clip: the largest norm of the gradient; a longer one is shortened to it.

    Call with epoch-wise index: (b,) and view: (2, b) -> the norm of the gradient before clipping, or None without it.
    `embeddings` holds the last batch's, (2b, d), detached.

    Raises:
        ValueError: if the loss is for another number of samples than there are.
    """

    def __init__(
        self,
        encoder: nn.Module,
        views: Views,
        criterion: Callable[..., Tensor],
        optimiser: torch.optim.Optimizer,
        generator: torch.Generator,
        *,
        precision: str = "float32",
        channels_last: bool = False,
        clip: float | None = None,
    ):
        samples = getattr(criterion, "num_samples", None)
        if samples not in (None, len(views)):
            raise ValueError(
                f"The loss was made for {samples} samples, but there are {len(views)} images: make it anew."
            )
        self.encoder = encoder
        self.views = views
        self.criterion = criterion
        self.optimiser = optimiser
        self.generator = generator
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.clip = clip
        self.device = generator.device.type
        self.dtype = PRECISIONS[precision]
        self.scaler = torch.amp.GradScaler(self.device, enabled=precision == "float16")
        self.embeddings: Tensor | None = None

    def encode(self, index: Tensor, view: Tensor) -> Tensor:
        """Embeddings of views under today's weights, with gradient: (k,), (k,) -> (k, d)."""
        return self.embed(self.views(index, view))

    def embed(self, images: Tensor) -> Tensor:
        """Embeddings of images in the run's layout and precision: (k, C, S, S) -> (k, d)."""
        images = images.contiguous(memory_format=self.layout)
        with nullcontext() if self.dtype is None else torch.autocast(self.device, self.dtype):
            return self.encoder(images)

    def __call__(self, index: Tensor, view: Tensor, on_gradient: Callable[[], object] = lambda: None) -> Tensor | None:
        embeddings = self.encode(index.repeat(2), view.flatten())
        self.embeddings = embeddings.detach()
        z1, z2 = embeddings.chunk(2)
        loss = self.criterion(z1, z2, index, view, self.encode, self.generator)
        self.optimiser.zero_grad()
        self.scaler.scale(loss).backward()
        norm = None
        if self.clip is not None:
            self.scaler.unscale_(self.optimiser)
            norm = nn.utils.clip_grad_norm_(self.encoder.parameters(), self.clip)
        on_gradient()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return norm


def train(
    encoder: nn.Module,
    views: Views,
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
    `seed` alone. For a run with a schedule, checkpoints and evaluation see `emc2_lite.training.Run`.

    Args:
        learning_rate: of Adam, the optimiser when none is given.
        optimiser: another one, of the encoder's parameters; it has its own learning rate.
        on_gradient: called with the number of each step, from 0, when its gradient lies in the parameters' `grad` and
            the parameters have not moved yet.
        after_step: called after each step, such as the `step` of a learning-rate schedule.

    Raises:
        ValueError: if batch_size is under 2 or over the number of images, or the loss is for another number of samples.
    """
    device = next(encoder.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    batches = EpochSampler(len(views), batch_size, generator)
    optimiser = optimiser or torch.optim.Adam(encoder.parameters(), learning_rate)
    update = TrainingStep(encoder, views, criterion, optimiser, generator)
    history = []
    for step, (epoch, index) in zip(range(steps), batches, strict=False):
        update(index, views_of_epoch(epoch, index, fixed=fixed_views), lambda step=step: on_gradient(step))
        after_step()
        history.append(criterion.stats)
    return history
