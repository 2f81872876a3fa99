"""A training run: everything that a checkpoint holds, advanced step by step."""

import time
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from emc2_lite.losses import make_criterion
from emc2_lite.training.config import Config
from emc2_lite.training.configuring import differences, from_dict
from emc2_lite.training.loop import EpochSampler, TrainingStep, views_of_epoch
from emc2_lite.training.optimisers import make_optimiser, warmup_cosine
from emc2_lite.training.price import step_price
from emc2_lite.training.processes import Processes
from emc2_lite.vision import BackboneEncoder, DigitEncoder, ResNetEncoder
from emc2_lite.vision.encoders import RESNETS, Encoder
from emc2_lite.vision.views import Views

COUNTERS = ("step", "spent", "evaluated", "seconds", "best")
PARTS = ("encoder", "criterion", "optimiser", "schedule", "scaler", "sampler")  # each has a state dict


def make_encoder(config: Config) -> Encoder:
    """The encoder of a configuration, with new weights from torch's global generator.

    Raises: ValueError: on settings that the encoder refuses.

    >>> make_encoder(Config())(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 32])
    """
    chosen, size = config.encoder, config.views.size if config.views else 8
    if chosen.name == "digits":
        return DigitEncoder(chosen.dim)
    how: dict[str, Any] = {"norm": chosen.norm, "hidden": chosen.hidden, "dim": chosen.dim}
    if chosen.name in RESNETS:
        return ResNetEncoder(int(chosen.name.removeprefix("resnet")), stem=chosen.stem, **how)
    return BackboneEncoder(chosen.name, size=size, **how)


def precision_on(device: torch.device, name: str) -> str:
    """The precision that a configuration's name means on a device.

    "auto" is float32 on a CPU, bfloat16 on a GPU that has it (from Ampere on), and float16 on an older one, as a T4.

    Raises: ValueError: on bfloat16 on a GPU without it, which would compute in float32 and be slow.

    >>> precision_on(torch.device("cpu"), "auto")
    'float32'
    """
    if device.type != "cuda":
        return "float32" if name == "auto" else name
    has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    if name == "auto":
        return "bfloat16" if has_bfloat16 else "float16"
    if name == "bfloat16" and not has_bfloat16:
        words = f"training.precision is bfloat16, and {torch.cuda.get_device_name(device)} has no units for it: "
        raise ValueError(words + "say float16, or auto.")
    return name


class Run:
    """A run of a configuration on views: encoder, criterion, optimiser, schedule, sampler and all random states.

    The configuration, the views and the device decide its course. A run that loads a saved `state_dict` continues bit
    for bit, on the same kind of device with the same versions and number of threads; with three processes or more, sums
    over processes may differ in their last bits. Weights and random numbers come from the seed `config.training.seed`;
    `views` are on the `device`, and `views.identity` tells their images from others.
    Several `processes` may share a run: the configuration's batch is that of all, and each takes a part of it. The
    weights and the criterion's numbers are the same in all. `state_dict` must be called in all at once, and is whole in
    the first. A run may go on with another number of processes; sums then differ in their last bits, and so may the
    number of views encoded again, which ends a run whose budget is a price.
    `step` counts the steps and `spent` their encodings (`emc2_lite.training.price`); the run ends where `done` reaches
    `total_steps`.

    Raises: ValueError: on settings that a part refuses, such as a batch larger than the set of images.

    >>> from emc2_lite.vision import DigitViews, load_digits
    >>> run = Run(Config(), DigitViews(load_digits("train").images), torch.device("cpu"))
    >>> run.advance()
    >>> run.step, run.total_steps
    (1, 880)
    """

    def __init__(self, config: Config, views: Views, device: torch.device, processes: Processes | None = None):
        self.config, self.views, self.device = config, views, device
        self.processes = processes or Processes()
        self.precision = precision_on(device, config.training.precision)
        self.gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
        self.folder = str(Path(config.data.folder).expanduser().resolve())
        loss, chosen, training = config.loss, config.optimiser, config.training
        torch.manual_seed(training.seed)
        self.encoder = make_encoder(config).to(device)
        parallel = self.processes.parallel
        sizes: dict[str, Any] = {"num_samples": len(views), "dim": config.encoder.dim, "parallel": parallel}
        self.criterion = make_criterion(loss.method, temperature=loss.temperature, **sizes, **loss.settings).to(device)
        rates = {name: getattr(chosen, name) for name in ("learning_rate", "weight_decay", "momentum")}
        self.optimiser = make_optimiser(chosen.name, self.encoder, **rates)
        generator = torch.Generator(device).manual_seed(training.seed)
        self.sampler = EpochSampler(len(views), training.batch_size, generator)
        self.total_steps = training.epochs * self.sampler.batches_per_epoch
        self.warmup_steps = round(chosen.warmup_epochs * self.sampler.batches_per_epoch)
        self.step, self.spent, self.evaluated, self.seconds = 0, 0, 0, 0.0
        how: dict[str, Any] = {"warmup_steps": self.warmup_steps, "total_steps": self.total_steps}
        self.schedule = warmup_cosine(self.optimiser, position=lambda: self.done, **how)
        if training.channels_last:
            self.encoder.to(memory_format=torch.channels_last)
        if training.compile:
            self.encoder.compile()
        if parallel is not None:
            self._check_shared(training.batch_size)
        parts = (self.encoder, views, self.criterion, self.optimiser, generator)
        self.update = TrainingStep(
            *parts,
            precision=self.precision,
            channels_last=training.channels_last,
            clip=chosen.clip,
            replay=training.cuda_graphs and self._recordable(),
        )
        self.scaler = self.update.scaler
        self.best: float | None = None
        self._sums: dict[str, Tensor | float] = {}
        self._count = 0

    def _recordable(self) -> bool:
        """Whether a CUDA graph can hold the passes: on the current GPU, without other processes, views in memory."""
        current = self.device.type == "cuda" and self.device.index in (None, torch.cuda.current_device())
        return current and self.processes.parallel is None and self.views.recordable

    def _check_shared(self, batch_size: int) -> None:
        """Refuse what several processes cannot share."""
        if batch_size < self.processes.size:
            words = f"training.batch_size is {batch_size}, for {self.processes.size} processes: "
            raise ValueError(words + "it is the batch of all, and each needs a sample.")
        if any(isinstance(module, nn.BatchNorm2d) for module in self.encoder.modules()):
            raise ValueError(
                "encoder.norm is batch, and several processes share the batch: each would have the statistics of its "
                "own part, and those of all would cost a message a layer; use group or none."
            )

    @property
    def done(self) -> float:
        """How far the run is, in steps; where the budget is a price, in steps of a loss that encodes nothing again."""
        training = self.config.training
        return self.step if training.budget == "epochs" else self.spent / step_price(None, training.batch_size)

    @property
    def finished(self) -> bool:
        return self.done >= self.total_steps

    def advance(self) -> None:
        """One step: the next batch, the update, the schedule."""
        started = time.perf_counter()
        if self.processes.parallel is not None and self.update.model is None:  # all processes make it at once
            self.update.model = DistributedDataParallel(self.encoder, gradient_as_bucket_view=True)
        epoch, index = next(self.sampler)
        if (coming := self.sampler.peek()) is not None:
            coming = self.processes.mine(coming)
            self.views.prefetch(coming.repeat(2), views_of_epoch(epoch, coming).flatten())
        index = self.processes.mine(index)
        norm = self.update(index, views_of_epoch(epoch, index))
        numbers = self.criterion.stats._asdict() | ({} if norm is None else {"gradient_norm": norm})
        for name, value in numbers.items():  # tensors are summed where they are: the host need not wait for them
            self._sums[name] = self._sums.get(name, 0.0) + (value.double() if isinstance(value, Tensor) else value)
        self._count += 1
        self.step += 1
        self.spent += step_price(self.criterion.stats, self.sampler.batch_size)
        self.schedule.step()
        self.seconds += time.perf_counter() - started

    def embeddings(self) -> Tensor:
        """Those of the last batch, (2b, d), first all of z1, then all of z2; in all processes at once."""
        if self.processes.parallel is None:
            return self.update.embeddings
        return torch.cat(self.processes.parallel.gather(*self.update.embeddings.chunk(2)))

    def means(self) -> dict[str, float]:
        """The means of the criterion's numbers over the steps since the last call.

        Counts of views encoded again become shares of the batch's 2b views: `encoded_again`, the method's price.
        """
        row = {}
        for name, total in self._sums.items():
            parts = 2 * self.sampler.batch_size if name.startswith("views_encoded") else 1
            row[name.replace("views_encoded", "encoded_again")] = float(total) / (self._count * parts)
        self._sums, self._count = {}, 0
        return row

    def state_dict(self) -> dict[str, Any]:
        """All that decides how the run continues, and its configuration.

        Raises: ValueError: if a weight is NaN or infinite, so that no good checkpoint is overwritten.
        """
        if not all(weights.isfinite().all() for weights in self.encoder.parameters()):
            raise ValueError(
                f"The encoder's weights are NaN or infinite at step {self.step}: no checkpoint of them is written. "
                "Go back to the last one, with a lower learning rate, a longer warm-up or optimiser.clip."
            )
        cuda = {"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {}
        return {
            "config": self.config.as_dict(),
            "images": {"count": len(self.views), "identity": self.views.identity, "folder": self.folder},
            "device": self.device.type,
            "precision": self.precision,
            "gpu": self.gpu,
            **{name: getattr(self, name) for name in COUNTERS},
            **{name: getattr(self, name).state_dict() for name in PARTS},
            "criterion": self._whole(self.criterion.state_dict()),
            "generator": self.update.generator.get_state(),
            "random": {"cpu": torch.get_rng_state(), **cuda},
            "sums": self._sums,
            "count": self._count,
        }

    def _whole(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return state if self.processes.parallel is None else self.processes.parallel.whole(state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume where the state was saved, to the last bit; with a warning where the GPU is another one.

        Raises: ValueError: on another configuration (with each difference), other images, or another kind of device.
        """
        if changes := differences(from_dict(state["config"]), self.config):
            words = f"The run was started with another configuration: {'; '.join(changes)}. "
            raise ValueError(words + "Go on with the old values, or start another run elsewhere.")
        if (count := state["images"]["count"]) != len(self.views):
            words = f"The run was started with {count} images and there are {len(self.views)} now: "
            raise ValueError(words + "give it the same images.")
        if state["images"]["identity"] != self.views.identity:
            raise ValueError(
                "The run was started with other images: since then one was renamed, replaced or moved, and the run's "
                "state names images by their place in the set. Give it the same images, or start another run."
            )
        if state["device"] != self.device.type:
            raise ValueError(
                f"The run was started on {state['device']} and is to go on on {self.device.type}, where its random "
                "state means nothing: take the same kind of device, or start another run."
            )
        before, now = (state["gpu"], state["precision"]), (self.gpu, self.precision)
        if before != now:
            warnings.warn(
                f"The run was on {' in '.join(before)} and goes on on {' in '.join(now)}: from here on its weights "
                "differ from those of a run without a break.",
                stacklevel=2,
            )
        if state["precision"] != self.precision:
            state = state | {"scaler": self.scaler.state_dict()}
        if (parallel := self.processes.parallel) is not None:
            state = state | {"criterion": parallel.share(state["criterion"])}
        for name in PARTS:
            getattr(self, name).load_state_dict(state[name])
        self.update.generator.set_state(state["generator"])
        for name in COUNTERS:
            setattr(self, name, state[name])
        sums, self._count = state["sums"], state["count"]
        self._sums = {name: v.to(self.device) if isinstance(v, Tensor) else v for name, v in sums.items()}
        torch.set_rng_state(state["random"]["cpu"])
        if "cuda" in state["random"] and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["random"]["cuda"])
