"""The training loop: batches epoch by epoch, one step, and a loop over both."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import KW_ONLY, dataclass
from functools import partial
from itertools import count, islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from emc2_lite.losses import Criterion
from emc2_lite.training.replay import Replayed, ReplayedEncoder
from emc2_lite.vision.views import Views

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


class EpochSampler(Iterator[tuple[int, Tensor]]):
    """Batches of indices without replacement, epoch by epoch; samples that do not fill a batch wait for the next epoch.

    The generator draws each epoch's order when its first batch is asked for.

    Raises: ValueError: if batch_size is under 2 or over num_samples.

    >>> sampler = EpochSampler(5, 2, torch.Generator().manual_seed(0))
    >>> [epoch for epoch, index in (next(sampler), next(sampler), next(sampler))]
    [0, 0, 1]
    """

    def __init__(self, num_samples: int, batch_size: int, generator: torch.Generator):
        if not 2 <= batch_size <= num_samples:
            raise ValueError(f"batch_size is {batch_size}: it must be from 2 to the number of images, {num_samples}.")
        self.num_samples, self.batch_size, self.generator = num_samples, batch_size, generator
        self.batches_per_epoch = num_samples // batch_size
        self.epoch, self.start, self.order = -1, num_samples, torch.empty(0, dtype=torch.int64)

    def __next__(self) -> tuple[int, Tensor]:
        """The number of the epoch, from 0, and the next batch: (b,) int64."""
        if (batch := self.peek()) is None:
            self.order = torch.randperm(self.num_samples, generator=self.generator, device=self.generator.device)
            self.epoch, self.start = self.epoch + 1, 0
            batch = self.order[: self.batch_size]
        self.start += self.batch_size
        return self.epoch, batch

    def peek(self) -> Tensor | None:
        """The next batch, or None if the order of its epoch is not drawn yet."""
        end = self.start + self.batch_size
        return self.order[self.start : end] if end <= self.num_samples else None

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "start": self.start, "order": self.order}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch, self.start = state["epoch"], state["start"]
        self.order = state["order"].to(self.generator.device)


def views_of_epoch(epoch: int, index: Tensor, *, fixed: bool = False) -> Tensor:
    """The view numbers of the two views that each sample shows in an epoch: 2e and 2e + 1, or always 0 and 1; (2, b).

    >>> views_of_epoch(3, torch.tensor([5, 2])).tolist()
    [[6, 6], [7, 7]]
    """
    first = torch.full_like(index, 0 if fixed else 2 * epoch)
    return torch.stack((first, first + 1))


@dataclass(eq=False, repr=False)
class TrainingStep:
    """One update of an encoder: encode a batch's two views, call the criterion, follow its gradient.

    Args:
        encoder, views, criterion, optimiser: the run's parts, all on one device.
        generator: the source of the criterion's random numbers.
        precision: "float32", "bfloat16" or "float16"; the loss is always in float32, and float16 gradients are scaled.
        channels_last: pass images to the encoder with the channel as the innermost dimension.
        clip: the largest norm of the gradient; a longer gradient is shortened to it.
        replay: record the making of views and the encoder's passes as CUDA graphs; on a GPU, and without `model`. A
            gradient then stays in its place until the next step.
        model: the encoder as DistributedDataParallel, where several processes share the batch: it encodes the batch,
            which all processes do at once, and the encoder alone the views that the criterion encodes again.

    Call with index: (b,) and view: (2, b), of pairs in the set, which is not checked -> the norm of the gradient before
    clipping, or None without clip; `on_gradient` is called between the backward pass and the update. `embeddings` holds
    the last batch's, (2b, d), detached. A profiler sees the phases "views" (making pixels), "encoder" (forward), "loss"
    (with the views that the criterion encodes again inside), "backward" and "optimiser".

    Raises: ValueError: if the loss was made for another number of samples than the number of images.
    """

    encoder: nn.Module
    views: Views
    criterion: Criterion | nn.Module
    optimiser: torch.optim.Optimizer
    generator: torch.Generator
    _: KW_ONLY
    precision: str = "float32"
    channels_last: bool = False
    clip: float | None = None
    replay: bool = False
    model: nn.Module | None = None

    def __post_init__(self) -> None:
        samples, count = getattr(self.criterion, "num_samples", None), len(self.views)
        if samples not in (None, count):
            raise ValueError(f"The loss was made for {samples} samples, but there are {count} images: make it anew.")
        self.layout = torch.channels_last if self.channels_last else torch.contiguous_format
        self.device = self.generator.device.type
        self.dtype = PRECISIONS[self.precision]
        self.scaler = torch.amp.GradScaler(self.device, enabled=self.precision == "float16")
        self.embeddings = torch.empty(0)
        self.replayed_views: Replayed | None = None
        self.replayed = ReplayedEncoder(self.encoder, self.dtype) if self.replay else None

    def encode(self, index: Tensor, view: Tensor) -> Tensor:
        """Embeddings of views under today's weights, with gradient: (k,), (k,) -> (k, d)."""
        return self.embed(self.make_views(index, view), self.encoder if self.replayed is None else self.replayed.again)

    def make_views(self, index: Tensor, view: Tensor) -> Tensor:
        """Pixels of views: (k,), (k,) -> (k, C, S, S)."""
        with record_function("views"):
            if self.replayed_views is None:
                return self.views.trusted(index, view)
            return self.replayed_views(torch.stack((index, view), dim=1))

    def embed(self, images: Tensor, model: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Embeddings of images in the run's layout and precision: (k, C, S, S) -> (k, d), by the model or another."""
        precision = nullcontext() if self.dtype is None else torch.autocast(self.device, self.dtype)
        with record_function("encoder"), precision:
            return (model or self.model or self.encoder)(images.contiguous(memory_format=self.layout))

    def __call__(self, index: Tensor, view: Tensor, on_gradient: Callable[[], object] = lambda: None) -> Tensor | None:
        if self.replay and self.views.recordable and self.replayed_views is None:
            self.replayed_views = Replayed(lambda names: self.views.trusted(*names.unbind(1)), view.numel())
        images = self.make_views(index.repeat(2), view.flatten())
        embeddings = self.embed(images, None if self.replayed is None else self.replayed.batch)
        self.embeddings = embeddings.detach().clone()  # a graph's place for them is used again
        with record_function("loss"):
            loss = self.criterion(*embeddings.chunk(2), index, view, self.encode, self.generator)
        with record_function("optimiser"):
            self.optimiser.zero_grad()
        with record_function("backward"):
            self.scaler.scale(loss).backward()
        norm = None
        if self.clip is not None:
            with record_function("optimiser"):
                self.scaler.unscale_(self.optimiser)
                norm = nn.utils.clip_grad_norm_(self.encoder.parameters(), self.clip)
        on_gradient()
        with record_function("optimiser"):
            self.scaler.step(self.optimiser)
            self.scaler.update()
        return norm


def training_steps(
    encoder: nn.Module,
    views: Views,
    criterion: Criterion | nn.Module,
    optimiser: torch.optim.Optimizer,
    *,
    batch_size: int,
    fixed_views: bool = False,
    seed: int = 0,
    on_gradient: Callable[[int], object] = lambda step: None,
) -> Iterator[Any]:
    """Train the encoder in place without end, and yield `criterion.stats` after each step.

    The arguments are those of `train`. A caller stops by taking no more steps.

    Raises: ValueError: as `EpochSampler` and `TrainingStep`.
    """
    generator = torch.Generator(next(encoder.parameters()).device).manual_seed(seed)
    batches = EpochSampler(len(views), batch_size, generator)
    update = TrainingStep(encoder, views, criterion, optimiser, generator)

    def taken(step: int, epoch_and_index: tuple[int, Tensor]) -> Any:
        epoch, index = epoch_and_index
        update(index, views_of_epoch(epoch, index, fixed=fixed_views), partial(on_gradient, step))
        return criterion.stats

    return map(taken, count(), batches)


def train(
    encoder: nn.Module,
    views: Views,
    criterion: Criterion | nn.Module,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float = 1e-3,
    optimiser: torch.optim.Optimizer | None = None,
    fixed_views: bool = False,
    seed: int = 0,
    on_gradient: Callable[[int], object] = lambda step: None,
    after_step: Callable[[], object] = lambda: None,
) -> list[Any]:
    """Train the encoder in place, and return `criterion.stats` of every step.

    Batches come from an `EpochSampler`. In epoch e a sample shows its views 2e and 2e + 1, so no view comes twice; with
    `fixed_views` always 0 and 1, a finite set whose exact global loss can be computed. The encoder's weights, the
    optimiser and `seed` decide the result. `emc2_lite.training.Run` adds a schedule, checkpoints and evaluation.

    Args:
        learning_rate: of Adam, the default optimiser.
        optimiser: another optimiser of the encoder's parameters, with its own learning rate.
        on_gradient: called with the number of each step, from 0, between the backward pass and the update.
        after_step: called after each step, such as the `step` of a learning-rate schedule.

    Raises: ValueError: as `EpochSampler` and `TrainingStep`.
    """
    optimiser = optimiser or torch.optim.Adam(encoder.parameters(), learning_rate)
    how: dict[str, Any] = {"batch_size": batch_size, "fixed_views": fixed_views, "seed": seed}
    history = []
    for stats in islice(training_steps(encoder, views, criterion, optimiser, on_gradient=on_gradient, **how), steps):
        after_step()
        history.append(stats)
    return history
