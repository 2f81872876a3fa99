"""The paper's figures 1 and 2 as numbers, and figure 2's experiment: photographs, ResNet-18, plain SGD.

The authors' released code differs from the paper in two ways that a reader of figure 2 should know. It measures the
exact loss at beta squared for a run that follows beta = 1 / temperature (it multiplies the embeddings by beta on both
sides); rows here have both. And a visit of its chains keeps one step fewer than it divides by: `ONE_STEP_SHORT`.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from emc2_lite.checks import Bounds, Distinct, Seed, Temperature, Unread, Width, checked_settings
from emc2_lite.laboratory.experiments import at_rest as shared
from emc2_lite.laboratory.experiments.mapping import MadeViews, mean_cosine
from emc2_lite.laboratory.experiments.theorem import Measurements
from emc2_lite.laboratory.finite import exact_gradient, flat, pull_back, trained_weights, view_table
from emc2_lite.laboratory.gradients import BatchSize, Count, Step
from emc2_lite.laboratory.statistics import Row
from emc2_lite.losses import METHODS, Criterion, EMC2Loss, global_contrastive_loss
from emc2_lite.records import data_file
from emc2_lite.training import train
from emc2_lite.training.optimisers import LearningRate, WeightDecay
from emc2_lite.vision import Augmentation, FileViews, FolderImages, ImageViews, ResNetEncoder, load_images, load_stl10
from emc2_lite.vision.views import Views

Data = Literal["digits", "cifar10", "stl10", "folder"]
Folder = Annotated[str, Unread("data", "digits")]
Samples = Annotated[int, Bounds(least=2, most=100_000)]
ONE_STEP_SHORT = "EMC2, one step short"
Method = Literal[*METHODS, ONE_STEP_SHORT]  # type: ignore[valid-type]
Methods = Annotated[Sequence[Method], Distinct()]
Norms = Annotated[Sequence[Literal["none", "group", "batch"]], Distinct()]
Hidden = Annotated[Sequence[Width | None], Distinct()]

SECONDS = {"NT-Xent": 24_290, "SogCLR": 24_170, "EMC2": 34_390, "cache": 75_100}  # of figure 1's runs, 100 epochs each
GRADIENTS = ("squared_norm", "squared_norm_at_beta_squared", "squared_error")
_FILES = {"figure1": "figure1_stl10_linear_probe.csv", "figure2": "figure2_gradient_error.csv"}
_METHODS = {"NT-Xent (SimCLR)": "NT-Xent", "negative cache": "cache"}  # names in the files and here
_CHUNK = 32  # views to encode at a time: their layers stay in a CPU's cache


@checked_settings
def published_curves(figure: Literal["figure1", "figure2"]) -> list[Row]:
    """The curves of a figure of the paper, in the form of our records: data/published, or the installed package's copy.

    figure1: method, epoch, linear_probe (accuracy on STL-10's test images, +- 0.002), hours (of wall time, in
        proportion to the epochs).
    figure2: method, step, loss (nats; None where the curve leaves the figure), squared_norm (of its gradient).

    Raises: ValueError: on another figure; FileNotFoundError: if the files are missing.
    Source: the poster and slides of Yau et al. 2024, see data/published/README.md.

    >>> published_curves("figure2")[0]
    {'method': 'EMC2', 'step': 25, 'loss': 7.309, 'squared_norm': 89.8}
    """
    if (file := data_file("published", _FILES[figure])) is None:
        raise FileNotFoundError(f"There is no data/published/{_FILES[figure]}: take it from the repository.")
    with file.open(encoding="utf-8", newline="") as lines:
        _, *cells = csv.reader(lines)
    rows: list[Row] = []
    for name, place, *texts in cells:
        method, numbers = _METHODS.get(name, name), [float(text) if text else None for text in texts]
        if figure == "figure1":
            epoch, (accuracy,) = int(place), numbers
            hours = SECONDS[method] / 3600 * epoch / 100
            rows.append({"method": method, "epoch": epoch, "linear_probe": accuracy, "hours": hours})
        else:
            loss, squared_norm = numbers
            rows.append({"method": method, "step": int(place), "loss": loss, "squared_norm": squared_norm})
    return rows


@checked_settings
def gradient_error_cells(
    *,
    data: Data = "folder",
    folder: Folder = "data/downloads/cifar10_jpeg",
    methods: Methods = ("NT-Xent", "SogCLR", "cache", "EMC2", ONE_STEP_SHORT),
    samples: Samples = 500,
    temperature: Temperature = 0.2,
    hidden: Width | None = 512,
    batch_size: BatchSize = 4,
    epochs: Count = 10,
    warmup_epochs: Step = 10,
    learning_rate: LearningRate = 1e-3,
    weight_decay: WeightDecay = 1e-4,
    measurements: Measurements = 26,
    gradients_every: Count = 5,
    seeds: Count = 2,
) -> Iterator[Row]:
    """The runs of the paper's figure 2, each the arguments of `gradient_error`.

    >>> [cell["method"] for cell in gradient_error_cells(methods=["DCL", "EMC2"], seeds=1)]
    ['DCL', 'EMC2']
    """
    common = {"data": data, "folder": folder, "samples": samples, "temperature": temperature, "hidden": hidden}
    common |= {"batch_size": batch_size, "epochs": epochs, "warmup_epochs": warmup_epochs}
    common |= {"learning_rate": learning_rate, "weight_decay": weight_decay}
    common |= {"measurements": measurements, "gradients_every": gradients_every}
    for seed, method in product(range(seeds), methods):
        yield {"method": method, "seed": seed} | common


@checked_settings
def gradient_error(
    *,
    method: Method,
    seed: Seed,
    data: Data,
    folder: str,
    samples: Samples,
    temperature: Temperature,
    hidden: Width | None,
    batch_size: BatchSize,
    epochs: Count,
    warmup_epochs: Step,
    learning_rate: LearningRate,
    weight_decay: WeightDecay,
    measurements: Measurements,
    gradients_every: Count,
) -> list[Row]:
    """A run of the paper's figure 2: SGD from scratch on photographs, two stored views of 96 x 96 pixels each.

    The encoder is ResNet-18 without norm layers, as released: a projector with a `hidden` layer. So is the schedule:
    the learning rate rises linearly over `warmup_epochs`, the whole run, to `learning_rate`; 0 epochs keep it constant.
    `data` is "stl10" (the first unlabelled images in `folder`, the paper's), "folder" or "cifar10" (a sample of the
    images there, the same each time), or "digits" (enlarged: no photographs, and no download).

    A row is measured before the update of its step, over all views:
        loss, loss_at_beta_squared: exact global loss at `temperature`, and at its square, nats;
        negative_cosine, positive_cosine: mean cosine of views of different samples, and of the two views of a sample;
        squared_norm, squared_norm_at_beta_squared: |e|^2 of the exact gradient of each loss in the encoder's weights;
        squared_error: |g - e|^2 of the gradient g that the step takes, at `temperature`.
    The last three take most of the time: every `gradients_every`-th measurement, and the last one, has them.

    Source: Yau et al. 2024, section 4; schedule and projector as in the authors' released code.

    >>> small = {"samples": 4, "epochs": 1, "measurements": 2, "batch_size": 2, "seeds": 1}
    >>> (cell,) = gradient_error_cells(data="digits", methods=["NT-Xent"], **small)
    >>> [row["step"] for row in gradient_error(**cell)]
    [0, 1]
    """
    views = MadeViews(photograph_views(data, folder, samples), range(2))
    steps_an_epoch = samples // batch_size
    steps, rise = epochs * steps_an_epoch, max(warmup_epochs * steps_an_epoch, 1)
    spread = [round((steps - 1) * number / (measurements - 1)) for number in range(measurements)]
    when = {step: number % gradients_every == 0 for number, step in enumerate(spread)}
    when[steps - 1] = True
    torch.manual_seed(seed)
    encoder = ResNetEncoder(hidden=hidden).to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(encoder.parameters(), learning_rate, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min((step + 1) / rise, 1.0))
    short = method == ONE_STEP_SHORT
    loss = (_OneStepShort if short else partial(shared.criterion, method))(samples, temperature, dim=encoder.dim)
    how: dict[str, Any] = {"steps": steps, "batch_size": batch_size, "seed": seed, "after_step": schedule.step}
    curve = _curve(encoder, views, loss, when, optimiser=optimiser, **how)
    return [{"method": method, "seed": seed} | row for row in curve]


@checked_settings
def untrained(
    *,
    data: Data = "folder",
    folder: Folder = "data/downloads/cifar10_jpeg",
    norms: Norms = ("none", "batch"),
    hidden: Hidden = (512, None),
    samples: Samples = 500,
    temperature: Temperature = 0.2,
    batch_size: BatchSize = 16,
    seeds: Count = 3,
    progress: shared.Progress = print,
) -> Iterator[Row]:
    """Where `gradient_error` begins: the exact loss of a new ResNet-18, by norm layers and `hidden` widths.

    Rows have the two losses and the two cosines of `gradient_error`. Batch norm takes its statistics from `batch_size`
    samples, two views each; smaller batches give a higher loss.

    >>> small = {"samples": 4, "norms": ["none"], "hidden": [None], "seeds": 1}
    >>> [row["norm"] for row in untrained(data="digits", progress=lambda text: None, batch_size=2, **small)]
    ['none']
    """
    views = MadeViews(photograph_views(data, folder, samples), range(2))
    for seed, norm, width in product(range(seeds), norms, hidden):
        progress(f"seed {seed}: norm {norm}, hidden {width}")
        torch.manual_seed(seed)
        encoder = ResNetEncoder(norm=norm, hidden=width).to(memory_format=torch.channels_last)
        table = view_table(encoder, views, chunk_size=2 * batch_size)
        yield {"norm": norm, "hidden": width, "seed": seed} | _losses_and_cosines(table, temperature)


def photograph_views(data: Data, folder: str, samples: int) -> Views:
    """Views of 96 x 96 pixels of photographs, see `gradient_error`.

    Raises: FileNotFoundError, ValueError: if the images are missing, damaged or too few.
    """
    if data == "stl10":
        images: Any = load_stl10("unlabelled", folder, count=samples)
    else:
        images = load_images(data, "train", folder, samples=samples)
    if isinstance(images, FolderImages):
        return FileViews(images, Augmentation(96), "cpu")
    return ImageViews(images.images.expand(-1, 3, -1, -1), Augmentation(96))


class _OneStepShort(EMC2Loss):
    """EMC2 with (R - 1) / R of its repulsion, R the kept steps of a visit: as if R - 1 were kept and divided by R.

    At b = 4 and burn_in = 0.5 R is 3, at b = 32 it is 31.
    """

    def forward(self, z1: Tensor, z2: Tensor, *arguments: Any) -> Tensor:
        steps = 2 * len(z1) - 2
        share = 1 / (steps - int(self.burn_in * steps))
        attraction = -(z1 * z2).sum(dim=1).mean() / self.temperature
        return (1 - share) * super().forward(z1, z2, *arguments) + share * attraction


def _curve(encoder: nn.Module, views: Views, loss: Criterion, when: Mapping[int, bool], **how: Any) -> list[Row]:
    """Train, and measure before the steps in `when`; the gradients too where its value is true."""
    weights, rows = trained_weights(encoder), []

    def measure(step: int) -> None:
        if step in when:
            table = view_table(encoder, views, chunk_size=_CHUNK)
            row = {"step": step} | _losses_and_cosines(table, loss.temperature) | dict.fromkeys(GRADIENTS)
            if when[step]:
                taken = flat([p.grad for p in weights], weights)
                at_beta, at_beta_squared = (
                    pull_back(encoder, views, exact_gradient(table, temperature), chunk_size=_CHUNK)
                    for temperature in (loss.temperature, loss.temperature**2)
                )
                squares = [vector.square().sum().item() for vector in (at_beta, at_beta_squared, taken - at_beta)]
                row |= zip(GRADIENTS, squares, strict=True)
            rows.append(row)

    train(encoder, views, loss, fixed_views=True, on_gradient=measure, **how)
    return rows


def _losses_and_cosines(table: Tensor, temperature: float) -> Row:
    table = table.double()
    return {
        "loss": global_contrastive_loss(table, temperature).item(),
        "loss_at_beta_squared": global_contrastive_loss(table, temperature**2).item(),
        "negative_cosine": mean_cosine(table),
        "positive_cosine": (table[:, 0] * table[:, 1]).sum(dim=1).mean().item(),
    }
