"""What a run will take, measured on a few steps with random pixels before anything is spent."""

import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

from emc2_lite.losses import EMC2Loss
from emc2_lite.training.config import Config
from emc2_lite.training.loop import EpochSampler, TrainingStep, views_of_epoch
from emc2_lite.training.run import Run
from emc2_lite.vision import DigitViews, ImageViews
from emc2_lite.vision.views import Views


class Plan(NamedTuple):
    """steps: of the whole run, and steps_per_epoch. parameters: of the encoder.

    memory: bytes by what they are for; on a GPU `peak` is measured as a whole, images apart.
    seconds_per_step: measured, without evaluation, and without decoding where images are files. seconds: of all steps.
    encoder_share: the limit's share of it: the time of a step that only encodes a batch that lies there, forward and
        backward with the mean of the embeddings as the loss, and updates the weights.
    encoded_again: views that the loss had encoded again, a view of the batch; for EMC2 as many as if no start had been
        forgotten (`emc2_lite.losses.emc2.start_is_forgotten`), in the times too: a run may be faster.
    """

    steps: int
    steps_per_epoch: int
    parameters: int
    memory: dict[str, int]
    seconds_per_step: float
    seconds: float
    encoder_share: float
    encoded_again: float


class _StandIn(Views):
    """A few random images in the place of N: every index is answered, with the pixels of index modulo the few."""

    def __init__(self, few: Views, count: int):
        self.few = few
        self.count = count

    def __len__(self) -> int:
        return self.count

    def make(self, index: Tensor, view: Tensor) -> Tensor:
        return self.few(index % len(self.few), view)

    def originals(self, index: Tensor) -> Tensor:
        return self.few.originals(index % len(self.few))


def plan(config: Config, samples: int, shape: tuple[int, int, int], device: torch.device, *, in_memory: bool) -> Plan:
    """Measure a configuration's step on `samples` images of `shape`, (C, H, W), that need not be there.

    Four batches are visited twice, so that the second time chains hold states; the second visit is what is timed.
    """
    b = config.training.batch_size
    few = torch.randint(0, 256, (min(samples, 4 * b), *shape), dtype=torch.uint8, device=device)
    few = few if config.views else few / 255
    views = ImageViews(few, config.views) if config.views else DigitViews(few)
    run = Run(config, _StandIn(views, samples), device)
    batches = EpochSampler(len(few), b, torch.Generator(device).manual_seed(0))
    times, limits, encoded = [], [], []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    for _ in range(2 * batches.batches_per_epoch):
        epoch, index = next(batches)
        numbers = views_of_epoch(epoch, index)
        images = run.views(index.repeat(2), numbers.flatten())
        limit = _seconds(lambda images=images: encode_only(run.update, images), device)
        taken = _seconds(lambda index=index, numbers=numbers: run.update(index, numbers), device)
        if epoch:
            limits.append(limit)
            again = getattr(run.update.criterion.stats, "views_encoded", 0)
            if spared := _starts_forgotten(run):
                taken += _seconds(lambda spared=spared: _score_pass(run, spared), device)
            times.append(taken)
            encoded.append((again + spared) / (2 * b))
    seconds = median(times)
    parameters = list(run.encoder.parameters())
    state = [t for of in run.update.optimiser.state.values() for t in of.values() if isinstance(t, Tensor)]
    memory = {
        "images": samples * few[0].numel() * few.element_size() if in_memory else 0,
        "weights and gradients": 2 * _bytes(parameters),
        "optimiser": _bytes(state),
        "loss": _bytes(list(run.update.criterion.buffers())),
        "activations": _activations(run, index),
    }
    if device.type == "cuda":
        memory["peak"] = torch.cuda.max_memory_allocated(device) + memory["images"]
    return Plan(
        steps=run.total_steps,
        steps_per_epoch=run.sampler.batches_per_epoch,
        parameters=sum(p.numel() for p in parameters),
        memory=memory,
        seconds_per_step=seconds,
        seconds=seconds * run.total_steps,
        encoder_share=median(limits) / seconds,
        encoded_again=sum(encoded) / len(encoded),
    )


def _starts_forgotten(run: Run) -> int:
    """Views that EMC2 did not have to encode: the chains of a new encoder forget their starts, others may not."""
    criterion = run.update.criterion
    refreshes = isinstance(criterion, EMC2Loss) and criterion.state == "reencoded" and criterion.refresh_scores
    if not refreshes:
        return 0
    scored = criterion.stats.views_encoded - criterion.stats.views_encoded_with_gradient
    return 2 * run.config.training.batch_size - scored


@torch.no_grad()
def _score_pass(run: Run, count: int) -> None:
    index = torch.arange(count, device=run.device) % len(run.views)
    run.update.encode(index, torch.zeros_like(index))


def encode_only(update: TrainingStep, images: Tensor) -> None:
    """A step without views and without a loss to speak of; its length is nil, so that the weights stay."""
    update.optimiser.zero_grad()
    update.scaler.scale(0.0 * update.embed(images).mean()).backward()
    update.scaler.step(update.optimiser)
    update.scaler.update()


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def _bytes(tensors: list[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _activations(run: Run, index: Tensor) -> int:
    """Bytes that the backward pass of a batch keeps, the weights left out."""
    weights = {p.data_ptr() for p in run.encoder.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in weights:
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        embeddings = run.update.encode(index.repeat(2), views_of_epoch(0, index).flatten())
    del embeddings
    return sum(kept.values())
