"""A training run: everything that a checkpoint holds, advanced step by step."""

import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from emc2_lite.losses import make_criterion
from emc2_lite.training.checkpoints import random_states, set_random_states
from emc2_lite.training.config import Config, Encoder
from emc2_lite.training.configuring import differences, from_dict
from emc2_lite.training.loop import EpochSampler, TrainingStep, views_of_epoch
from emc2_lite.training.optimisers import make_optimiser, warmup_cosine
from emc2_lite.vision import DigitEncoder, ResNetEncoder
from emc2_lite.vision.views import Views


def make_encoder(config: Encoder) -> nn.Module:
    """The encoder of a configuration, with new weights from torch's global generator."""
    if config.name == "digits":
        return DigitEncoder(config.dim)
    depth = int(config.name.removeprefix("resnet"))
    return ResNetEncoder(depth, stem=config.stem, norm=config.norm, hidden=config.hidden, dim=config.dim)


class Run:
    """A run of a configuration on views: encoder, criterion, optimiser, schedule, sampler and all random states.

    Its course depends on the configuration and the views alone; a run whose `state_dict` was saved and loaded goes on
    bit for bit as it would have, on the same device with the same number of threads.

    Args:
        config: what to run. Weights and random numbers come from `training.seed`.
        views: of the images to train on, on the device to train on; `views.identity` tells these images from others.
        device: that device.

    Raises:
        ValueError: on settings that the parts refuse, such as a batch larger than the set of images.
    """

    def __init__(self, config: Config, views: Views, device: torch.device):
        self.config = config
        self.device = device
        self.views = views
        self.folder = str(Path(config.data.folder).expanduser().resolve())
        torch.manual_seed(config.training.seed)
        self.encoder = make_encoder(config.encoder).to(device)
        criterion = make_criterion(
            config.loss.method,
            num_samples=len(views),
            dim=config.encoder.dim,
            temperature=config.loss.temperature,
            **config.loss.settings,
        ).to(device)
        chosen = config.optimiser
        optimiser = make_optimiser(
            chosen.name,
            self.encoder,
            learning_rate=chosen.learning_rate,
            weight_decay=chosen.weight_decay,
            momentum=chosen.momentum,
        )
        generator = torch.Generator(device).manual_seed(config.training.seed)
        self.sampler = EpochSampler(len(views), config.training.batch_size, generator)
        per_epoch = self.sampler.batches_per_epoch
        self.total_steps = config.training.epochs * per_epoch
        self.warmup_steps = round(chosen.warmup_epochs * per_epoch)
        self.schedule = warmup_cosine(optimiser, warmup_steps=self.warmup_steps, total_steps=self.total_steps)
        if config.training.channels_last:
            self.encoder.to(memory_format=torch.channels_last)
        if config.training.compile:
            self.encoder.compile()
        self.update = TrainingStep(
            self.encoder,
            views,
            criterion,
            optimiser,
            generator,
            precision=config.training.precision,
            channels_last=config.training.channels_last,
            clip=chosen.clip,
        )
        self.step = 0
        self.evaluated = 0
        self.seconds = 0.0
        self.best: float | None = None
        self._sums: dict[str, Any] = {}
        self._count = 0

    @property
    def finished(self) -> bool:
        return self.step == self.total_steps

    @property
    def epoch_ended(self) -> bool:
        """Whether the last step was the last of its epoch."""
        return self.step % self.sampler.batches_per_epoch == 0

    def advance(self) -> None:
        """One step: the next batch, the update, the schedule."""
        started = time.perf_counter()
        epoch, index = next(self.sampler)
        if (coming := self.sampler.peek()) is not None:
            self.views.prefetch(coming.repeat(2), views_of_epoch(epoch, coming).flatten())
        norm = self.update(index, views_of_epoch(epoch, index))
        self._add(self.update.criterion.stats._asdict() | ({} if norm is None else {"gradient_norm": norm}))
        self.schedule.step()
        self.step += 1
        self.seconds += time.perf_counter() - started

    def _add(self, numbers: dict[str, Any]) -> None:
        for name, value in numbers.items():
            value = torch.as_tensor(value, dtype=torch.float64, device=self.device)
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._count += 1

    def means(self) -> dict[str, float]:
        """The means of the criterion's numbers since this was last asked, which begins them anew.

        Counts of views encoded again become shares of the batch's 2b views: `encoded_again`, the method's price.
        """
        batch = self._count * 2 * self.sampler.batch_size
        row = {}
        for name, total in self._sums.items():
            if name.startswith("views_encoded"):
                row[name.replace("views_encoded", "encoded_again")] = total.item() / batch
            else:
                row[name] = total.item() / self._count
        self._sums, self._count = {}, 0
        return row

    def state_dict(self) -> dict[str, Any]:
        """All that decides how the run goes on, and its configuration.

        Raises:
            ValueError: if the weights are no longer finite, so that no good checkpoint is overwritten with them.
        """
        if not all(weights.isfinite().all() for weights in self.encoder.parameters()):
            raise ValueError(
                f"The encoder's weights are NaN or infinite at step {self.step}: no checkpoint of them is written. "
                "Go back to the last one, with a lower learning rate, a longer warm-up or optimiser.clip."
            )
        return {
            "config": self.config.as_dict(),
            "images": {"count": len(self.views), "identity": self.views.identity, "folder": self.folder},
            "device": self.device.type,
            "step": self.step,
            "evaluated": self.evaluated,
            "seconds": self.seconds,
            "best": self.best,
            "encoder": self.encoder.state_dict(),
            "criterion": self.update.criterion.state_dict(),
            "optimiser": self.update.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.update.scaler.state_dict(),
            "sampler": self.sampler.state_dict(),
            "generator": self.update.generator.get_state(),
            "random": random_states(),
            "sums": self._sums,
            "count": self._count,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a run where its state was saved, to the last bit.

        Raises:
            ValueError: if it was saved with another configuration, named value by value, of another set of images, or
                on another kind of device.
        """
        if changes := differences(from_dict(state["config"]), self.config):
            raise ValueError(
                f"The run was started with another configuration: {'; '.join(changes)}. "
                "Go on with the old values, or start another run elsewhere."
            )
        if state["images"]["count"] != len(self.views):
            raise ValueError(
                f"The run was started with {state['images']['count']} images and there are {len(self.views)} now: "
                "give it the same images."
            )
        if state["images"]["identity"] != self.views.identity:
            raise ValueError(
                "The run was started with other images: since then one was renamed, replaced or put in another "
                "place among them, and the run's state names images by their place. Give it the same images, or start "
                "another run."
            )
        if state["device"] != self.device.type:
            raise ValueError(
                f"The run was started on {state['device']} and is to go on on {self.device.type}, where its random "
                "state means nothing: take the same kind of device, or start another run."
            )
        self.encoder.load_state_dict(state["encoder"])
        self.update.criterion.load_state_dict(state["criterion"])
        self.update.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.update.scaler.load_state_dict(state["scaler"])
        self.sampler.load_state_dict(state["sampler"])
        self.update.generator.set_state(state["generator"])
        self.step, self.evaluated, self.seconds = state["step"], state["evaluated"], state["seconds"]
        self.best = state["best"]
        self._sums = {name: total.to(self.device) for name, total in state["sums"].items()}
        self._count = state["count"]
        set_random_states(state["random"])
