"""Experiments with encoders that stand still, or have jumped once: the quality of gradients."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import nn

from emc2_lite.laboratory.experiments.methods import DIM, VARIANTS, Progress, Row, criterion, digit_views
from emc2_lite.laboratory.finite import pull_back, view_table
from emc2_lite.laboratory.gradients import GradientQuality, gradient_quality
from emc2_lite.losses import NTXentLoss
from emc2_lite.training import train
from emc2_lite.vision import DigitEncoder, DigitViews


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
    views = digit_views(samples)
    for seed in range(seeds):
        for temperature in temperatures:
            encoder = digit_encoder(views, temperature, training_steps, seed)
            table = view_table(encoder, views)
            how = {"runs": runs, "pull_back": partial(pull_back, encoder, views), "seed": seed}
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
                        **how,
                    )
                    place = {"method": method, "temperature": temperature, "batch_size": batch_size, "seed": seed}
                    yield from _window_rows(place, edges, windows, samples, batch_size)


def jump(
    *,
    methods: Sequence[str] = tuple(VARIANTS),
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
    views = digit_views(samples)
    for seed in range(seeds):
        encoder = digit_encoder(views, temperature, training_steps, seed)
        before = view_table(encoder, views)
        train(encoder, views, NTXentLoss(temperature), steps=jump_steps, batch_size=32, fixed_views=True, seed=seed + 1)
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
