"""The configuration of a training run, in sections of literals; each field's annotation says which values it takes."""

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from emc2_lite.checks import (
    Bounds,
    Distinct,
    Seed,
    Temperature,
    Unread,
    Width,
    check_fields,
    check_values,
    descriptions,
)
from emc2_lite.losses import LOSSES
from emc2_lite.training.loggers import LOGGERS
from emc2_lite.training.loop import PRECISIONS
from emc2_lite.training.optimisers import Kind, LearningRate, Momentum, WeightDecay
from emc2_lite.vision import DATASETS, Augmentation
from emc2_lite.vision.encoders import DEPTHS, RESNETS, check_backbone

Count = Annotated[int, Bounds(least=1)]
NotNegative = Annotated[float, Bounds(least=0)]
IN_FILES = Unread("name", *(name for name, known in DATASETS.items() if known.in_memory))


class Section:
    """Fields checked by their annotations; the section's name is the class's, in lower case."""

    def __post_init__(self) -> None:
        check_fields(self, type(self).__name__.lower())


@dataclass(frozen=True)
class Data(Section):
    """name: digits, cifar10, stl10, imagenet100, or folder (of images). folder: the place of the files.
    samples: train on a random subset of this size, always the same one. in_memory: read a folder of images of one size
    into memory once. workers: threads that decode images from files. skip_corrupt: leave out files that cannot be read.
    """

    name: Literal[*DATASETS] = "digits"  # type: ignore[valid-type]
    folder: Annotated[str, Unread("name", "digits")] = "data/downloads"
    samples: Annotated[int, Bounds(least=2)] | None = None
    in_memory: Annotated[bool, IN_FILES] = False
    workers: Annotated[int, Bounds(least=1, most=256), IN_FILES] = 8
    skip_corrupt: Annotated[bool, IN_FILES] = False


class AllBut(tuple):
    """All values but these, for `Unread`."""

    def __contains__(self, value: object) -> bool:
        return not super().__contains__(value)


class ReadFor(Unread):
    """Only where `setting` has one of the `values` is the marked setting read."""

    def __init__(self, setting: str, *values: Any):
        super().__init__(setting)
        self.values = AllBut(values)


OF_RESNETS = ReadFor("name", *(f"resnet{depth}" for depth in DEPTHS))


@dataclass(frozen=True)
class Encoder(Section):
    """name: "digits", a ResNet of `emc2_lite.vision.encoders.RESNETS`, or another image classifier of
    torchvision.models (`emc2_lite.vision.encoders.backbones`). dim: d, the length of an embedding. hidden: width of the
    projector's hidden layer, and norm: see `emc2_lite.vision.ResNetEncoder` and `BackboneEncoder`; not for digits.
    stem: of torchvision's ResNets."""

    name: str = "digits"
    dim: Width = 32
    hidden: Annotated[Width | None, Unread("name", "digits")] = None
    stem: Annotated[Literal["imagenet", "small"], OF_RESNETS] = "imagenet"
    norm: Annotated[Literal["none", "group", "batch"], Unread("name", "digits")] = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_backbone(self.name, "encoder.name", "digits", *RESNETS)


@dataclass(frozen=True)
class Loss(Section):
    """method: a name of `emc2_lite.losses.LOSSES`; settings: the method's own, such as burn_in."""

    method: Literal[*LOSSES] = "EMC2"  # type: ignore[valid-type]
    temperature: Temperature = 0.07
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        hints, defaults = settings_of_method(self.method)
        object.__setattr__(self, "settings", check_values(hints, self.settings, defaults, "loss", defaults_pass=True))


def settings_of_method(method: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The descriptions and the defaults of a method's own settings."""
    parameters = inspect.signature(LOSSES[method]).parameters
    given_by_the_run = ("num_samples", "dim", "temperature", "two_towers", "parallel")
    hints = {k: h for k, h in descriptions(LOSSES[method].__init__).items() if k not in given_by_the_run}
    return hints, {name: parameters[name].default for name in hints}


@dataclass(frozen=True)
class Optimiser(Section):
    """clip: the gradient's largest norm. warmup_epochs: of linear warm-up, step by step, before the cosine to 0."""

    name: Kind = "adam"
    learning_rate: LearningRate = 1e-3
    weight_decay: WeightDecay = 0.0
    momentum: Annotated[Momentum, Unread("name", "adam")] = 0.9
    warmup_epochs: NotNegative = 0.0
    clip: Annotated[float, Bounds(above=0)] | None = None


@dataclass(frozen=True)
class Training(Section):
    """budget: "epochs", or "price": the run ends when it has spent as many encodings as its epochs cost NT-Xent,
    and the learning rate follows what is spent. device: cpu, cuda, or auto (cuda where torch finds a GPU).
    precision: float32, bfloat16, float16 (scaled), or auto (`emc2_lite.training.run.precision_on`). threads: of the
    CPU. cuda_graphs: record views and encoder and replay them (`emc2_lite.training.replay`): on a GPU, with images
    in memory, in a run of one process; elsewhere without effect. processes: that torchrun must have started, any
    number if not given; the batch is that of all. log_steps: steps between two lines of metrics. evaluate_epochs:
    epochs between two 1-NN evaluations, 0 for none, on evaluate_images labelled images. checkpoint_seconds: least
    time between two checkpoints. loggers: of csv, tensorboard and wandb, where metrics go besides the run's file of
    JSON lines: a list, or a text with commas between.
    """

    epochs: Count = 20
    budget: Literal["epochs", "price"] = "epochs"
    batch_size: Annotated[int, Bounds(least=2)] = 32
    seed: Seed = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", *PRECISIONS] = "float32"  # type: ignore[valid-type]
    channels_last: bool = False
    compile: bool = False
    cuda_graphs: bool = True
    threads: Annotated[int, Bounds(least=1, most=1024)] | None = None
    processes: Count | None = None
    log_steps: Count = 50
    evaluate_epochs: Annotated[int, Bounds(least=0)] = 1
    evaluate_images: Annotated[int, Bounds(least=20), Unread("evaluate_epochs", 0)] = 5000
    checkpoint_seconds: NotNegative = 300.0
    loggers: Annotated[Sequence[Literal[*LOGGERS]], Distinct()] | None = None  # type: ignore[valid-type]

    def __post_init__(self) -> None:
        if isinstance(self.loggers, str):
            object.__setattr__(self, "loggers", [name.strip() for name in self.loggers.split(",")])
        super().__post_init__()


@dataclass(frozen=True)
class Config:
    """The configuration of a run. Colour images need `views`; digits have views of their own.

    >>> Config(training=Training(epochs=5)).as_dict()["loss"]
    {'method': 'EMC2', 'temperature': 0.07}
    """

    data: Data = Data()
    views: Augmentation | None = None
    encoder: Encoder = Encoder()
    loss: Loss = Loss()
    optimiser: Optimiser = Optimiser()
    training: Training = Training()

    def __post_init__(self) -> None:
        data, epochs, warmup = self.data.name, self.training.epochs, self.optimiser.warmup_epochs
        if (data == "digits") != (self.encoder.name == "digits"):
            words = f"data.name is {data!r} and encoder.name {self.encoder.name!r}: "
            raise ValueError(words + "the small encoder is for digits, and all others are for colour images.")
        if data == "digits" and self.views is not None:
            raise ValueError("Digits have views of their own: leave the section [views] out.")
        if data != "digits" and self.views is None:
            raise ValueError(f"The section [views] is missing: {data} needs at least its size, the side of a view.")
        if warmup > epochs:
            words = f"optimiser.warmup_epochs is {warmup}, of {epochs} epochs in all: "
            raise ValueError(words + "the warm-up must end before the run does.")

    def as_dict(self) -> dict[str, Any]:
        """Sections of literals that `from_dict` reads; values of None are left out."""
        sections = {
            name: {key: value for key, value in section.items() if value is not None}
            for name, section in dataclasses.asdict(self).items()
            if section is not None
        }
        sections["loss"] |= sections["loss"].pop("settings")
        return sections
