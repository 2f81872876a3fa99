"""The price of a run, measured on a few steps with random pixels before the run begins."""

import math
import time
from collections.abc import Iterable
from itertools import islice
from statistics import mean, median
from typing import NamedTuple

import torch
from torch import Tensor

from emc2_lite.losses import EMC2Loss
from emc2_lite.training.config import Config
from emc2_lite.training.configuring import changed
from emc2_lite.training.loop import EpochSampler, views_of_epoch
from emc2_lite.training.price import step_price
from emc2_lite.training.run import Run
from emc2_lite.vision import DigitViews, ImageViews


class Plan(NamedTuple):
    """steps, steps_per_epoch: of the run; where its budget is a price, as many as it buys at the measured price.
    parameters: number of the encoder's weights.
    memory: bytes by purpose; on a GPU `peak` is the largest sum that was measured, with all images added.
    seconds_per_step: measured, without evaluation and without the decoding of files. seconds: of all steps.
    encoder_share: share of the step spent on the encoder's forward and backward pass, with the batch in memory.
    precision: in which the encoder computes.
    encoded_again: views that the loss encodes again, for each view of the batch. The chains of EMC2 need not encode a
        start that they forget (`emc2_lite.losses.visits.start_is_forgotten`). How many they forget depends on the
        encoder's training, so the plan counts and times every start as encoded: a run may be faster, or buy more steps.
    """

    steps: int
    steps_per_epoch: int
    parameters: int
    memory: dict[str, int]
    seconds_per_step: float
    seconds: float
    encoder_share: float
    precision: str
    encoded_again: float


def plan(
    config: Config,
    samples: int,
    shape: tuple[int, int, int],
    device: torch.device,
    *,
    in_memory: bool,
    processes: int = 1,
) -> Plan:
    """Measure a configuration's step on `samples` images of `shape`, (C, H, W): copies of one with random pixels.

    Four batches are visited twice, so that at the second visit, which is timed, the chains hold states; where CUDA
    graphs are replayed three times, for the second visit records some. Of several `processes`, the time and the memory
    are those of one, on a device of its own: it takes its part of the batch as a batch. Messages are not in the time,
    nor the scores of its rows with the other parts' columns.

    >>> forecast = plan(Config(), 1437, (1, 8, 8), torch.device("cpu"), in_memory=True)
    >>> forecast.steps, forecast.memory["images"]
    (880, 367872)
    """

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    per_epoch = samples // config.training.batch_size
    b = math.ceil(config.training.batch_size / processes)
    config = changed(config, **{"training.batch_size": b})
    image = torch.randint(0, 256, (1, *shape), dtype=torch.uint8, device=device)
    image = image if config.views else image / 255
    images = image.expand(samples, *shape)
    run = Run(config, ImageViews(images, config.views) if config.views else DigitViews(images), device)
    criterion = run.criterion
    forgets = isinstance(criterion, EMC2Loss) and criterion.held == "encoded"
    batches = EpochSampler(min(samples, 4 * b), b, torch.Generator(device).manual_seed(0))
    steps, passes, encoded, prices = [], [], [], []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    replayed = run.update.replayed
    visits = 3 if replayed else 2
    for epoch, index in islice(batches, visits * batches.batches_per_epoch):
        rows, view = index.repeat(2), views_of_epoch(epoch, index)
        batch = run.views(rows, view.flatten())
        began = now()
        run.update.embed(batch, replayed.batch if replayed else None).sum().backward()
        passed = now()
        run.update(index, view)
        again, price = getattr(criterion.stats, "views_encoded", 0), step_price(criterion.stats, b)
        if epoch and forgets and (spared := 2 * b - again + criterion.stats.views_encoded_with_gradient):
            with torch.no_grad():
                run.update.encode(rows[:spared], view.flatten()[:spared])
            again, price = again + spared, price + spared
        if epoch == visits - 1:
            passes.append(passed - began)
            steps.append(now() - passed)
            encoded.append(again / (2 * b))
            prices.append(price / step_price(None, b))
    seconds, weights = median(steps), list(run.encoder.parameters())
    moments = [t for state in run.optimiser.state.values() for t in state.values() if isinstance(t, Tensor)]
    memory = {
        "images": samples * _bytes([image]) if in_memory else 0,
        "weights and gradients": 2 * _bytes(weights),
        "optimiser": _bytes(moments),
        "loss": _bytes(criterion.buffers()) // processes,
        "activations": _activations(run, batch),
    }
    if device.type == "cuda":
        memory["peak"] = torch.cuda.max_memory_reserved(device) + memory["images"]
    total = config.training.epochs * per_epoch
    taken = math.ceil(total / mean(prices)) if config.training.budget == "price" else total
    return Plan(
        steps=taken,
        steps_per_epoch=per_epoch,
        parameters=sum(w.numel() for w in weights),
        memory=memory,
        seconds_per_step=seconds,
        seconds=seconds * taken,
        encoder_share=median(passes) / seconds,
        precision=run.precision,
        encoded_again=sum(encoded) / len(encoded),
    )


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _activations(run: Run, images: Tensor) -> int:
    """Bytes that the encoder keeps for the backward pass of a batch, without its weights."""
    weights = {p.data_ptr() for p in run.encoder.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in weights:
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        run.update.embed(images)
    return sum(kept.values())
