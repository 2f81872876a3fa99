"""The digits and methods of all experiments, and the experiments at a fixed encoder: the quality of gradients."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise, product
from typing import Annotated, Any, Literal

import torch

from emc2_lite.checks import Bounds, Distinct, Seed, Temperature, checked_settings
from emc2_lite.laboratory.finite import pull_back, view_table
from emc2_lite.laboratory.gradients import BatchSize, Count, Edges, GradientQuality, Runs, Step, gradient_quality
from emc2_lite.laboratory.statistics import Row
from emc2_lite.losses import METHODS, Criterion, DCLLoss, NTXentLoss, make_criterion
from emc2_lite.training import train
from emc2_lite.vision import DigitEncoder, DigitViews, load_digits

BATCH_SIZE = 32  # of the training of `digit_encoder`
DIM = 32
DIGITS = 1437  # in the training split
EXACT = "exact gradient"
NUM_VIEWS = {"stored": 2, "endless": 16}  # of each sample, in the tables of embeddings
_LEAST_STEPS = 100  # of a window, so that its mean gradient has little noise

Progress = Callable[[str], None]
Digits = Annotated[int, Bounds(least=2, most=DIGITS)]
Samples = Annotated[int, Bounds(least=BATCH_SIZE, most=DIGITS)]
BatchSizes = Annotated[Sequence[BatchSize], Distinct()]
Temperatures = Annotated[Sequence[Temperature], Distinct()]
Kinds = Annotated[Sequence[Literal["stored", "endless"]], Distinct()]
Methods = Annotated[Sequence[Literal[*METHODS]], Distinct()]  # type: ignore[valid-type]
MethodOrExact = Literal[*METHODS, EXACT]  # type: ignore[valid-type]
MethodsOrExact = Annotated[Sequence[MethodOrExact], Distinct()]


@checked_settings
def digit_views(samples: Digits) -> DigitViews:
    """Views of the first `samples` digits of the training split."""
    return DigitViews(load_digits("train").images[:samples])


@checked_settings
def criterion(method: MethodOrExact, samples: int, temperature: Temperature, dim: int = DIM) -> Criterion:
    """A new criterion of the method; `EXACT` is DCL, which takes the exact gradient if the batch is the whole set.

    >>> criterion("EMC2", samples=100, temperature=0.2).num_samples
    100
    """
    if method == EXACT:
        return DCLLoss(temperature)
    return make_criterion(method, num_samples=samples, dim=dim, temperature=temperature)


@checked_settings
def digit_encoder(
    views: DigitViews, temperature: Temperature, steps: Step, seed: Seed, *, fixed_views: bool = True
) -> DigitEncoder:
    """An encoder after `steps` steps of NT-Xent at this temperature, with batches of 32.

    >>> digit_encoder(digit_views(32), temperature=0.2, steps=1, seed=0).dim
    32
    """
    torch.manual_seed(seed)
    encoder, loss = DigitEncoder(DIM), NTXentLoss(temperature)
    train(encoder, views, loss, steps=steps, batch_size=BATCH_SIZE, fixed_views=fixed_views, seed=seed)
    return encoder


@checked_settings
def quality(
    *,
    methods: Methods = (
        *("NT-Xent", "DCL", "SogCLR", "SogCLR, gamma=0.1", "cache", "EMC2", "EMC2 multiproposal", "EMC2 remembered"),
    ),
    temperatures: Temperatures = (0.07, 0.2),
    batch_sizes: BatchSizes = (4, 32),
    views: Kinds = ("stored", "endless"),
    samples: Samples = 200,
    training_steps: Step = 300,
    proposals: Edges = (0, 60, 180, 360),
    runs: Runs = 3,
    seeds: Count = 5,
    progress: Progress = print,
) -> Iterator[Row]:
    """Bias, noise and price of every estimator's gradient at a fixed encoder, over views, temperatures and batch sizes.

    Rows have a ruler, "embeddings" or "weights", and the fields of `GradientQuality`. "stored": two views of each
    digit, shown at every visit; "endless": every visit shows two of 16. For each kind of views, temperature and seed an
    encoder is trained for `training_steps`, with views of that kind. A window ends when each chain has met its number
    of `proposals`, that is after proposals / (2b - 2) visits, and has at least 100 steps.
    """
    digits = digit_views(samples)
    for seed, kind, temperature in product(range(seeds), views, temperatures):
        encoder = digit_encoder(digits, temperature, training_steps, seed, fixed_views=kind == "stored")
        setting: dict[str, Any] = {
            "table": view_table(encoder, digits, NUM_VIEWS[kind]),
            "pull_back": partial(pull_back, encoder, digits),
        }
        for batch_size, method in product(batch_sizes, methods):
            progress(f"seed {seed}, {kind} views, temperature {temperature}, b = {batch_size}: {method}")
            place = {"method": method, "temperature": temperature, "batch_size": batch_size, "views": kind}
            edges = _edges(proposals, samples, batch_size)
            make = partial(criterion, method, samples, temperature)
            windows = gradient_quality(make, batch_size=batch_size, edges=edges, runs=runs, seed=seed, **setting)
            yield from _window_rows(place | {"seed": seed}, [edge * batch_size / samples for edge in edges], windows)


def _edges(proposals: Sequence[int], samples: int, batch_size: int) -> list[int]:
    """The steps at which each chain has met these numbers of proposals, or later where a window would be too short."""
    edges: list[int] = []
    for met in proposals:
        step = round(met / (2 * batch_size - 2) * samples / batch_size)
        edges.append(max(step, edges[-1] + _LEAST_STEPS) if edges else step)
    return edges


@checked_settings
def jump(
    *,
    methods: Methods = tuple(METHODS),
    temperature: Temperature = 0.07,
    batch_size: BatchSize = 4,
    samples: Samples = 200,
    training_steps: Step = 300,
    jump_steps: Step = 100,
    visits_before: Step = 20,
    visits_after: Edges = (0, 2, 4, 8, 16),
    runs: Runs = 3,
    seeds: Count = 5,
    progress: Progress = print,
) -> Iterator[Row]:
    """The price of staleness: states that were made under one encoder meet another, `jump_steps` of training later.

    Rows are windows of visits after the jump, measured with both rulers. In the last window every state has had time to
    follow.

    >>> small = {"samples": 32, "training_steps": 1, "jump_steps": 1, "visits_before": 1, "visits_after": [0, 1]}
    >>> [row["visits_to"] for row in jump(methods=["EMC2"], seeds=1, progress=lambda text: None, **small)]
    [1.0, 1.0]
    """
    views = digit_views(samples)
    for seed in range(seeds):
        encoder = digit_encoder(views, temperature, training_steps, seed)
        before = view_table(encoder, views)
        loss = NTXentLoss(temperature)
        train(encoder, views, loss, steps=jump_steps, batch_size=BATCH_SIZE, fixed_views=True, seed=seed + 1)
        after, to_weights = view_table(encoder, views), partial(pull_back, encoder, views)
        edges = [round((visits_before + visits) * samples / batch_size) for visits in visits_after]
        setting: dict[str, Any] = {"table": after, "before": before, "pull_back": to_weights}
        for method in methods:
            progress(f"seed {seed}: {method}")
            make = partial(criterion, method, samples, temperature)
            windows = gradient_quality(make, batch_size=batch_size, edges=edges, runs=runs, seed=seed, **setting)
            visits = [(edge - edges[0]) * batch_size / samples for edge in edges]
            yield from _window_rows({"method": method, "seed": seed}, visits, windows)


def _window_rows(place: Row, visits: Sequence[float], windows: Sequence[dict[str, GradientQuality]]) -> Iterator[Row]:
    for (start, end), window in zip(pairwise(visits), windows, strict=True):
        for ruler, found in window.items():
            measured = {name: getattr(value, "value", value) for name, value in found._asdict().items()}
            yield place | {"ruler": ruler, "visits_from": start, "visits_to": end} | measured
