"""What a training run is made of, as sections of literals."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from emc2_lite.losses import METHODS, make_criterion
from emc2_lite.training.loop import PRECISIONS
from emc2_lite.vision import DATASETS, Augmentation


@dataclass(frozen=True)
class Data:
    """name: digits, cifar10, stl10, imagenet100, or folder (of images). folder: where it lies.

    samples: the first so many images only. in_memory: read a folder of images of one size into memory once.
    workers: threads that decode images that do not lie in memory. skip_corrupt: leave out files that cannot be read.
    """

    name: str = "digits"
    folder: str = "data/downloads"
    samples: int | None = None
    in_memory: bool = False
    workers: int = 8
    skip_corrupt: bool = False


@dataclass(frozen=True)
class Encoder:
    """name: digits, resnet18 or resnet50. dim: d, the length of an embedding. hidden: the projector's hidden layer.

    stem (imagenet, small) and norm (none, group, batch) are a ResNet's.
    """

    name: str = "digits"
    dim: int = 32
    hidden: int | None = None
    stem: str = "imagenet"
    norm: str = "none"


@dataclass(frozen=True)
class Loss:
    """method: a name of `emc2_lite.losses.METHODS`; settings: the method's own, such as burn_in."""

    method: str = "EMC2"
    temperature: float = 0.07
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Optimiser:
    """name: adam, sgd or lars. clip: the largest norm that the gradient may have.

    warmup_epochs: of linear warm-up, then cosine to 0, both per step.
    """

    name: str = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    momentum: float = 0.9
    warmup_epochs: float = 0.0
    clip: float | None = None


@dataclass(frozen=True)
class Training:
    """How long, how, and what is written down.

    device: cpu, cuda, or auto (cuda where there is one). precision: float32, bfloat16, or float16 (scaled).
    threads: of the CPU. log_steps: steps from one line of metrics to the next. evaluate_epochs: epochs from one 1-NN
    evaluation to the next, 0 for none, on evaluate_images labelled images. checkpoint_seconds: least time between two.
    """

    epochs: int = 20
    batch_size: int = 32
    seed: int = 0
    device: str = "auto"
    precision: str = "float32"
    channels_last: bool = False
    compile: bool = False
    threads: int | None = None
    log_steps: int = 50
    evaluate_epochs: int = 1
    evaluate_images: int = 5000
    checkpoint_seconds: float = 300.0


@dataclass(frozen=True)
class Config:
    """A whole run. `views` is for colour images; digits have views of their own."""

    data: Data = Data()
    views: Augmentation | None = None
    encoder: Encoder = Encoder()
    loss: Loss = Loss()
    optimiser: Optimiser = Optimiser()
    training: Training = Training()

    def __post_init__(self):
        _one_of("data.name", self.data.name, tuple(DATASETS))
        _one_of("encoder.name", self.encoder.name, ("digits", "resnet18", "resnet50"))
        _one_of("loss.method", self.loss.method, tuple(METHODS))
        _one_of("optimiser.name", self.optimiser.name, ("adam", "sgd", "lars"))
        _one_of("training.precision", self.training.precision, tuple(PRECISIONS))
        _one_of("training.device", self.training.device, ("auto", "cpu", "cuda"))
        make_criterion(
            self.loss.method, num_samples=2, dim=1, temperature=self.loss.temperature, **self.loss.settings
        )  # refuses what the method does not take
        digits = self.data.name == "digits"
        if digits != (self.encoder.name == "digits"):
            raise ValueError(
                f"data.name is {self.data.name!r} and encoder.name {self.encoder.name!r}: the small encoder is for "
                "digits, and a ResNet for colour images."
            )
        if digits != (self.views is None):
            raise ValueError(
                "Digits have views of their own: leave the section [views] out."
                if digits
                else f"The section [views] is missing: {self.data.name} needs at least its size, the side of a view."
            )
        for name, least in _LEAST.items():
            section, key = name.split(".")
            value = getattr(getattr(self, section), key)
            if value is not None and not value >= least:
                raise ValueError(f"{name} is {value}: it must be {least} or more.")
        if not self.optimiser.learning_rate > 0:
            raise ValueError(f"optimiser.learning_rate is {self.optimiser.learning_rate}: it must be positive.")
        if self.optimiser.warmup_epochs > self.training.epochs:
            raise ValueError(
                f"optimiser.warmup_epochs is {self.optimiser.warmup_epochs}, of {self.training.epochs} epochs in all: "
                "the warm-up must end before the run does."
            )

    def as_dict(self) -> dict[str, Any]:
        """Sections of literals, what `from_dict` reads; a value that is None is left out."""
        sections = {
            name: {key: value for key, value in section.items() if value is not None}
            for name, section in dataclasses.asdict(self).items()
            if section is not None
        }
        loss = sections["loss"]
        return sections | {"loss": {key: loss[key] for key in ("method", "temperature")} | loss["settings"]}


_LEAST = {
    "data.samples": 2,
    "data.workers": 1,
    "encoder.dim": 1,
    "encoder.hidden": 1,
    "optimiser.weight_decay": 0,
    "optimiser.momentum": 0,
    "optimiser.warmup_epochs": 0,
    "optimiser.clip": 1e-12,
    "training.epochs": 1,
    "training.batch_size": 2,
    "training.seed": 0,
    "training.threads": 1,
    "training.log_steps": 1,
    "training.evaluate_epochs": 0,
    "training.evaluate_images": 20,
    "training.checkpoint_seconds": 0,
}


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}: use one of {', '.join(allowed)}.")
