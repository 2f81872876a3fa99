"""The experiments of the course's argument, each a function of literal parameters that returns rows of numbers.

``emc2-lite experiment NAME`` runs one with its defaults, which are those of the records in data/records; a chapter runs
the same function with smaller ones.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emc2_lite.laboratory.finite import pull_back, view_table
from emc2_lite.laboratory.gradients import GradientQuality, gradient_quality
from emc2_lite.laboratory.statistics import over_seeds
from emc2_lite.laboratory.training import TrainingCurve, training_curve
from emc2_lite.losses import Criterion, DCLLoss, EMC2Loss, NegativeCacheLoss, NTXentLoss, SogCLRLoss
from emc2_lite.training import train
from emc2_lite.vision import (
    DigitEncoder,
    DigitViews,
    ResNetEncoder,
    load_digits,
    load_stl10_unlabelled,
    stored_stl10_views,
)

Row = dict[str, Any]
Progress = Callable[[str], None]
DIM = 32

# What a row's `method` names: makes the criterion for (samples, temperature, length of an embedding).
METHODS: dict[str, Callable[[int, float, int], Criterion]] = {
    "NT-Xent": lambda samples, temperature, dim: NTXentLoss(temperature),
    "DCL": lambda samples, temperature, dim: DCLLoss(temperature),
    "SogCLR": lambda samples, temperature, dim: SogCLRLoss(samples, temperature),
    "cache": lambda samples, temperature, dim: NegativeCacheLoss(samples, dim, temperature),
    "EMC2": lambda samples, temperature, dim: EMC2Loss(samples, temperature),
    "EMC2 multiproposal": lambda samples, temperature, dim: EMC2Loss(samples, temperature, kernel="multiproposal"),
    "EMC2 stored": lambda samples, temperature, dim: EMC2Loss(samples, temperature, state="stored"),
    "EMC2 without refresh": lambda samples, temperature, dim: EMC2Loss(samples, temperature, refresh_scores=False),
}
EXACT = "exact gradient"
_SETTINGS = (
    [("EMC2", EMC2Loss, "burn_in", share) for share in (0.0, 0.75)]
    + [("SogCLR", SogCLRLoss, "gamma", gamma) for gamma in (0.1, 0.3)]
    + [("cache", NegativeCacheLoss, "refresh", refresh) for refresh in (0.0, 0.05)]
    + [("cache", NegativeCacheLoss, "num_negatives", 4)]
)


def criterion(method: str, samples: int, temperature: float, dim: int = DIM) -> Criterion:
    """The method's criterion, new. "SogCLR, gamma=0.1" is SogCLR with that setting; the exact gradient is DCL's, which
    with the whole set as the batch is exact."""
    if method == EXACT:
        return DCLLoss(temperature)
    if method in METHODS:
        return METHODS[method](samples, temperature, dim)
    for name, make, setting, value in _SETTINGS:
        if method == f"{name}, {setting}={value:g}":
            sizes = (samples, dim) if make is NegativeCacheLoss else (samples,)
            return make(*sizes, temperature=temperature, **{setting: value})
    raise ValueError(f"There is no method {method!r}: use one of {', '.join([*VARIANTS, EXACT])}.")


VARIANTS = (*METHODS, *(f"{name}, {setting}={value:g}" for name, _, setting, value in _SETTINGS))


def digit_encoder(views: DigitViews, temperature: float, steps: int, seed: int) -> nn.Module:
    """An encoder in the midst of training: so many steps of NT-Xent at this temperature, with batches of 32."""
    torch.manual_seed(seed)
    encoder = DigitEncoder(DIM)
    train(encoder, views, NTXentLoss(temperature), steps=steps, batch_size=32, fixed_views=True, seed=seed)
    return encoder


def quality(
    *,
    methods: Sequence[str] = ("NT-Xent", "DCL", "SogCLR", "cache", "EMC2", "EMC2 multiproposal"),
    temperatures: Sequence[float] = (0.07, 0.2),
    batch_sizes: Sequence[int] = (4, 8, 16, 32, 64),
    samples: int = 200,
    training_steps: int = 300,
    proposals: Sequence[int] = (0, 60, 240, 600),
    runs: int = 3,
    seeds: int = 5,
    progress: Progress = print,
) -> Iterator[Row]:
    """Bias, error and direction of every estimator's gradient at a fixed encoder, over batch sizes and temperatures.

    Digits with two stored views and, a seed, an encoder trained for `training_steps`. Windows end when each chain has
    met so many `proposals`, that is after proposals / (2b - 2) visits, and have at least 100 steps.
    """
    views = DigitViews(load_digits("train").images[:samples])
    for seed in range(seeds):
        for temperature in temperatures:
            encoder = digit_encoder(views, temperature, training_steps, seed)
            table = view_table(encoder, views)
            for batch_size in batch_sizes:
                visits = [met / (2 * batch_size - 2) for met in proposals]
                edges = [max(100 * i, round(v * samples / batch_size)) for i, v in enumerate(visits)]
                for method in methods:
                    progress(f"seed {seed}, temperature {temperature}, b = {batch_size}: {method}")
                    windows = gradient_quality(
                        partial(criterion, method, samples, temperature),
                        table,
                        batch_size=batch_size,
                        edges=edges,
                        runs=runs,
                        pull_back=partial(pull_back, encoder, views),
                        seed=seed,
                    )
                    place = {"method": method, "temperature": temperature, "batch_size": batch_size, "seed": seed}
                    yield from _window_rows(place, edges, windows, samples, batch_size)


def jump(
    *,
    methods: Sequence[str] = VARIANTS,
    temperature: float = 0.07,
    batch_size: int = 4,
    samples: int = 200,
    training_steps: int = 300,
    jump_steps: int = 100,
    visits_before: int = 20,
    visits_after: Sequence[int] = (0, 2, 4, 8, 16),
    runs: int = 3,
    seeds: int = 5,
    progress: Progress = print,
) -> Iterator[Row]:
    """What staleness costs: states that were made under one encoder meet another, `jump_steps` of training later.

    Rows are windows of visits after the jump. In the last of them every state has had time to follow.
    """
    views = DigitViews(load_digits("train").images[:samples])
    for seed in range(seeds):
        encoder = digit_encoder(views, temperature, training_steps, seed)
        before = view_table(encoder, views)
        train(encoder, views, NTXentLoss(temperature), steps=jump_steps, batch_size=32, fixed_views=True, seed=seed + 1)
        after = view_table(encoder, views)
        edges = [round((visits_before + v) * samples / batch_size) for v in visits_after]
        for method in methods:
            progress(f"seed {seed}: {method}")
            windows = gradient_quality(
                partial(criterion, method, samples, temperature),
                after,
                batch_size=batch_size,
                edges=edges,
                runs=runs,
                before=before,
                pull_back=partial(pull_back, encoder, views),
                seed=seed,
            )
            place = {"method": method, "seed": seed}
            yield from _window_rows(place, [edge - edges[0] for edge in edges], windows, samples, batch_size)


def _window_rows(
    place: Row, edges: Sequence[int], windows: Sequence[GradientQuality], samples: int, batch_size: int
) -> Iterator[Row]:
    for start, end, window in zip(edges, edges[1:], windows, strict=False):
        yield place | {
            "visits_from": start * batch_size / samples,
            "visits_to": end * batch_size / samples,
            "bias": window.bias.value,
            "rmse": window.rmse.value,
            "cosine": window.cosine.value,
            "views_encoded": window.views_encoded,
            "views_encoded_with_gradient": window.views_encoded_with_gradient,
        }


def training(
    *,
    methods: Sequence[str] = ("NT-Xent", "DCL", "SogCLR", "cache", "EMC2", "EMC2 multiproposal", EXACT),
    temperatures: Sequence[float] = (0.07, 0.2),
    batch_sizes: Sequence[int] = (4, 32),
    samples: int = 300,
    visits: int = 60,
    exact_steps: int = 300,
    learning_rate: float = 1e-3,
    measurements: int = 8,
    seeds: int = 5,
    progress: Progress = print,
) -> Iterator[Row]:
    """Training from scratch: the exact global loss and the exact gradient's squared norm along the way.

    Digits with two stored views; Adam with a learning rate that falls linearly to 0. Every method sees each sample
    `visits` times, so that at one batch size all take equally many steps; the exact gradient takes `exact_steps`.
    """
    views = DigitViews(load_digits("train").images[:samples])
    runs = [(method, b) for b in batch_sizes for method in methods if method != EXACT]
    runs += [(EXACT, samples)] * (EXACT in methods)
    for seed in range(seeds):
        for temperature in temperatures:
            for method, batch_size in runs:
                steps = exact_steps if method == EXACT else visits * samples // batch_size
                progress(f"seed {seed}, temperature {temperature}, b = {batch_size}: {method}, {steps} steps")
                torch.manual_seed(seed)
                encoder = DigitEncoder(DIM)
                optimiser = torch.optim.Adam(encoder.parameters(), learning_rate)
                decay = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, steps)
                curve = training_curve(
                    encoder,
                    views,
                    criterion(method, samples, temperature),
                    batch_size=batch_size,
                    checkpoints=[round(steps * i / measurements) for i in range(measurements + 1)],
                    optimiser=optimiser,
                    seed=seed,
                    after_step=decay.step,
                )
                place = {"method": method, "temperature": temperature, "batch_size": batch_size, "seed": seed}
                yield from _curve_rows(place, curve)


def _curve_rows(place: Row, curve: TrainingCurve) -> Iterator[Row]:
    for step, loss, norm, error in zip(*(column.tolist() for column in curve[:4]), strict=True):
        yield place | {"step": int(step), "loss": loss, "squared_norm": norm, "squared_error": error}


class Anchors(nn.Module):
    """An encoder without a network: view v of sample i is normalise(a_i / |a_i| + offset_iv), the anchors a are learnt.

    The offsets are fixed: differences between the views of a sample that no encoder can undo. An "image" is the pair
    (index, view) itself, see `Pairs`.
    """

    def __init__(self, samples: int, dim: int, offset: float):
        super().__init__()
        self.anchors = nn.Parameter(F.normalize(torch.randn(samples, dim), dim=1))
        self.register_buffer("offsets", offset * torch.randn(samples, 2, dim) / dim**0.5)

    def forward(self, pairs: Tensor) -> Tensor:
        index, view = pairs.unbind(dim=1)
        return F.normalize(F.normalize(self.anchors[index], dim=1) + self.offsets[index, view], dim=1)


class Pairs:
    """Views that stand for themselves: (index, view) -> (k, 2)."""

    def __init__(self, samples: int):
        self.samples = samples

    def __len__(self) -> int:
        return self.samples

    def __call__(self, index: Tensor, view: Tensor) -> Tensor:
        return torch.stack((index, view), dim=1)


def stationarity(
    *,
    methods: Sequence[str] = ("NT-Xent", "DCL", "EMC2", "EMC2 multiproposal", EXACT),
    horizons: Sequence[int] = (250, 1000, 4000, 16000),
    temperature: float = 0.2,
    step_size: float = 0.5,
    batch_size: int = 4,
    samples: int = 32,
    dim: int = 8,
    offset: float = 0.3,
    measurements: int = 100,
    seeds: int = 5,
    progress: Progress = print,
) -> Iterator[Row]:
    """The theorem's experiment: T steps of plain SGD with the constant step size c / sqrt(T), for several horizons T.

    A row has the mean over the run of |e|^2, the exact gradient's squared norm: the theorem bounds it by a constant
    over sqrt(T). The parameters are `Anchors`, brought back to length 1 after each step (left to themselves they would
    grow, and their gradient shrink for that reason alone); `step_size` is c.
    """
    for seed in range(seeds):
        for method in methods:
            for horizon in horizons:
                progress(f"seed {seed}: {method}, {horizon} steps")
                torch.manual_seed(seed)
                encoder = Anchors(samples, dim, offset)
                curve = training_curve(
                    encoder,
                    Pairs(samples),
                    criterion(method, samples, temperature, dim),
                    batch_size=samples if method == EXACT else batch_size,
                    checkpoints=[round(horizon * (i + 0.5) / measurements) for i in range(measurements)],
                    optimiser=torch.optim.SGD(encoder.parameters(), lr=step_size / horizon**0.5),
                    seed=seed,
                    after_step=partial(_to_length_one, encoder.anchors),
                )
                yield {
                    "method": method,
                    "horizon": horizon,
                    "seed": seed,
                    "mean_squared_norm": curve.squared_norm.mean().item(),
                    "loss": curve.loss[-1].item(),
                }


@torch.no_grad()
def _to_length_one(vectors: Tensor) -> None:
    vectors /= vectors.norm(dim=1, keepdim=True)


def gradient_error(
    *,
    data: str = "digits",
    folder: str = "data/downloads",
    methods: Sequence[str] = ("NT-Xent", "DCL", "SogCLR", "cache", "EMC2", "EMC2 multiproposal"),
    samples: int = 500,
    temperature: float = 0.2,
    batch_size: int = 4,
    epochs: int = 10,
    learning_rate: float = 0.05,
    weight_decay: float = 1e-4,
    measurements: int = 50,
    seeds: int = 5,
    progress: Progress = print,
) -> Iterator[Row]:
    """The paper's gradient-error experiment: SGD from scratch, each gradient against the exact one where it was taken.

    `data` is "digits" (the small encoder) or "stl10" (the first `samples` unlabelled images in `folder`, ResNet-18
    without norm layers; slow without a GPU). Two stored views a sample; plain SGD without momentum. The paper's
    learning rate is 1e-3, for its ResNet-18; the small encoder would hardly move with it. Rows have |g - e|^2 and
    |e|^2 in the encoder's weights, e the exact gradient. (Yau et al. 2024, section 4)
    """
    if data not in ("digits", "stl10"):
        raise ValueError(f'data is {data!r}: use "digits" or "stl10".')
    if data == "stl10":
        views = stored_stl10_views(load_stl10_unlabelled(folder, samples))
    else:
        views = DigitViews(load_digits("train").images[:samples])
    steps = epochs * (samples // batch_size)
    checkpoints = [round((steps - 1) * i / (measurements - 1)) for i in range(measurements)]
    for seed in range(seeds):
        for method in methods:
            progress(f"seed {seed}: {method}, {steps} steps")
            torch.manual_seed(seed)
            encoder = ResNetEncoder() if data == "stl10" else DigitEncoder(DIM)
            curve = training_curve(
                encoder,
                views,
                criterion(method, samples, temperature, encoder.projector.out_features),
                batch_size=batch_size,
                checkpoints=checkpoints,
                optimiser=torch.optim.SGD(encoder.parameters(), learning_rate, weight_decay=weight_decay),
                seed=seed,
            )
            yield from _curve_rows({"method": method, "seed": seed}, curve)


class Experiment(NamedTuple):
    """run: the function; by: the fields of its rows that name what was measured; values: the fields measured."""

    run: Callable[..., Iterator[Row]]
    by: tuple[str, ...]
    values: tuple[str, ...]

    def config(self, given: Row) -> Row:
        """All parameters but `progress`, the given ones in the place of the defaults.

        Raises:
            ValueError: on a parameter that the experiment does not have, or of another kind than its default.
        """
        defaults = {name: p.default for name, p in inspect.signature(self.run).parameters.items() if name != "progress"}
        for name, value in given.items():
            if name not in defaults:
                raise ValueError(f"There is no parameter {name!r}: the experiment has {', '.join(defaults)}.")
            if not _same_kind(value, defaults[name]):
                raise ValueError(f"{name} is {value!r}: pass a value such as its default, {defaults[name]!r}.")
        return defaults | given

    def final(self, rows: Sequence[Row]) -> list[Row]:
        """Means over seeds with 95 % intervals, one row for each thing measured; of a curve, its last step."""
        last: dict[tuple, int] = {}
        for row in rows:
            key = tuple(row[name] for name in self.by)
            last[key] = max(last.get(key, 0), row.get("step", 0))
        ends = [row for row in rows if row.get("step", 0) == last[tuple(row[name] for name in self.by)]]
        return over_seeds(ends, self.by, self.values)


def _same_kind(value: Any, default: Any) -> bool:
    if isinstance(default, tuple):
        return isinstance(value, list | tuple) and len(value) > 0 and all(_same_kind(v, default[0]) for v in value)
    if isinstance(default, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is type(default)


_WINDOW = ("visits_from", "visits_to")
_QUALITY = ("bias", "rmse", "cosine", "views_encoded", "views_encoded_with_gradient")
_CURVE = ("step", "loss", "squared_norm", "squared_error")
EXPERIMENTS = {
    "gradient-error": Experiment(gradient_error, ("method",), _CURVE),
    "jump": Experiment(jump, ("method", *_WINDOW), _QUALITY),
    "quality": Experiment(quality, ("method", "temperature", "batch_size", *_WINDOW), _QUALITY),
    "stationarity": Experiment(stationarity, ("method", "horizon"), ("mean_squared_norm", "loss")),
    "training": Experiment(training, ("method", "temperature", "batch_size"), _CURVE),
}
