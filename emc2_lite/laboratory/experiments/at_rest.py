"""Experiments with encoders that stand still, or have jumped once: the quality of gradients."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Annotated

import torch
from torch import nn

from emc2_lite.checks import Bounds, Increasing, Seed, Temperature, checked_settings
from emc2_lite.laboratory.experiments.methods import (
    DIGITS,
    DIM,
    BatchSizes,
    Methods,
    Progress,
    Row,
    Temperatures,
    criterion,
    digit_views,
)
from emc2_lite.laboratory.finite import pull_back, view_table
from emc2_lite.laboratory.gradients import BatchSize, Count, GradientQuality, Step, gradient_quality
from emc2_lite.losses import METHODS, NTXentLoss
from emc2_lite.training import train
from emc2_lite.vision import DigitEncoder, DigitViews

Runs = Annotated[int, Bounds(least=3)]
Edges = Annotated[Sequence[Step], Increasing(2)]
_BATCH_SIZE = 32  # of the encoder's training
Samples = Annotated[int, Bounds(least=_BATCH_SIZE, most=DIGITS)]
_LEAST_STEPS = 100  # of a window, so that its mean gradient is worth something


@checked_settings
def digit_encoder(views: DigitViews, temperature: Temperature, steps: Step, seed: Seed) -> nn.Module:
    """An encoder after `steps` steps of NT-Xent at this temperature, with batches of 32."""
    torch.manual_seed(seed)
    encoder = DigitEncoder(DIM)
    train(encoder, views, NTXentLoss(temperature), steps=steps, batch_size=_BATCH_SIZE, fixed_views=True, seed=seed)
    return encoder


@checked_settings
def quality(
    *,
    methods: Methods = ("NT-Xent", "DCL", "SogCLR", "cache", "EMC2", "EMC2 multiproposal"),
    temperatures: Temperatures = (0.07, 0.2),
    batch_sizes: BatchSizes = (4, 8, 16, 32, 64),
    samples: Samples = 200,
    training_steps: Step = 300,
    proposals: Edges = (0, 60, 240, 600),
    runs: Runs = 3,
    seeds: Count = 5,
    progress: Progress = print,
) -> Iterator[Row]:
    """Bias, error and direction of every estimator's gradient at a fixed encoder, over batch sizes and temperatures.

    Digits with two stored views and, for each seed, an encoder trained for `training_steps`. Windows end when each
    chain has met so many `proposals`, that is after proposals / (2b - 2) visits, and have at least 100 steps.
    """
    views = digit_views(samples)
    for seed in range(seeds):
        for temperature in temperatures:
            encoder = digit_encoder(views, temperature, training_steps, seed)
            table = view_table(encoder, views)
            how = {"runs": runs, "pull_back": partial(pull_back, encoder, views), "seed": seed}
            for batch_size in batch_sizes:
                edges = _edges(proposals, samples, batch_size)
                for method in methods:
                    progress(f"seed {seed}, temperature {temperature}, b = {batch_size}: {method}")
                    windows = gradient_quality(
                        partial(criterion, method, samples, temperature),
                        table,
                        batch_size=batch_size,
                        edges=edges,
                        **how,
                    )
                    place = {"method": method, "temperature": temperature, "batch_size": batch_size, "seed": seed}
                    yield from _window_rows(place, edges, windows, samples, batch_size)


def _edges(proposals: Sequence[int], samples: int, batch_size: int) -> list[int]:
    """The step at which each chain has met so many proposals, or later, where a window would be too short."""
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
    """What staleness costs: states that were made under one encoder meet another, `jump_steps` of training later.

    Rows are windows of visits after the jump. In the last of them every state has had time to follow.
    """
    views = digit_views(samples)
    for seed in range(seeds):
        encoder = digit_encoder(views, temperature, training_steps, seed)
        before = view_table(encoder, views)
        again = {"steps": jump_steps, "batch_size": _BATCH_SIZE, "fixed_views": True, "seed": seed + 1}
        train(encoder, views, NTXentLoss(temperature), **again)
        after = view_table(encoder, views)
        edges = [round((visits_before + v) * samples / batch_size) for v in visits_after]
        how = {"runs": runs, "before": before, "pull_back": partial(pull_back, encoder, views), "seed": seed}
        for method in methods:
            progress(f"seed {seed}: {method}")
            windows = gradient_quality(
                partial(criterion, method, samples, temperature), after, batch_size=batch_size, edges=edges, **how
            )
            place = {"method": method, "seed": seed}
            yield from _window_rows(place, [edge - edges[0] for edge in edges], windows, samples, batch_size)


def _window_rows(
    place: Row, edges: Sequence[int], windows: Sequence[GradientQuality], samples: int, batch_size: int
) -> Iterator[Row]:
    for (start, end), window in zip(pairwise(edges), windows, strict=True):
        yield place | {
            "visits_from": start * batch_size / samples,
            "visits_to": end * batch_size / samples,
            "bias": window.bias.value,
            "rmse": window.rmse.value,
            "cosine": window.cosine.value,
            "views_encoded": window.views_encoded,
            "views_encoded_with_gradient": window.views_encoded_with_gradient,
        }
