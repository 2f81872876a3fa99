"""The time of a training step in one, two and more processes, for the cost model of `emc2_lite.laboratory.scaling`."""

import time
from collections.abc import Iterator, Sequence
from itertools import product
from statistics import median
from typing import Annotated, Any, Literal

import torch
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from emc2_lite.checks import Bounds, Distinct, Seed, Temperature, checked_settings
from emc2_lite.laboratory.experiments import at_rest as shared
from emc2_lite.laboratory.gradients import Count
from emc2_lite.laboratory.scaling import STATE
from emc2_lite.laboratory.statistics import Row
from emc2_lite.losses import METHODS
from emc2_lite.training import Config, Run, changed
from emc2_lite.training.processes import processes as joined

WARM_UP = 100  # steps, in which chains and cache fill
Methods = Annotated[Sequence[Literal[*STATE]], Distinct()]  # type: ignore[valid-type]
Numbers = Annotated[Sequence[Annotated[int, Bounds(least=1, most=64)]], Distinct()]


@checked_settings
def step_time_cells(
    *,
    methods: Methods = tuple(STATE),
    batch_sizes: shared.BatchSizes = (16, 64, 256),
    processes: Numbers = (1, 2, 4),
    samples: shared.Digits = shared.DIGITS,
    temperature: Temperature = 0.07,
    steps: Count = 40,
    seeds: Count = 3,
) -> Iterator[Row]:
    """A cell for each number of processes, with every method and batch size; the batch is that of all processes.

    >>> [cell["processes"] for cell in step_time_cells(seeds=1)]
    [1, 2, 4]
    """
    places = {"methods": methods, "batch_sizes": batch_sizes}
    common = {"samples": samples, "temperature": temperature, "steps": steps}
    for seed, count in product(range(seeds), processes):
        yield places | {"processes": count, "seed": seed} | common


@checked_settings
def step_times(
    *,
    methods: Methods,
    batch_sizes: shared.BatchSizes,
    processes: Annotated[int, Bounds(least=1)],
    seed: Seed,
    samples: shared.Digits,
    temperature: Temperature,
    steps: Count,
) -> list[Row]:
    """Train on digits in so many processes of gloo, and time `steps` steps after `WARM_UP` others.

    A row for each batch size and method has its place with
        milliseconds: median time of a step in the first process;
        encoded, with_gradient: views encoded again for each view of the batch, and the part of them with gradient;
        weights, dim: of the encoder, and of an embedding.
    """
    configs = []
    for size, method in product(batch_sizes, methods):
        values: dict[str, Any] = {"loss.method": method.split()[0], "loss.temperature": temperature}
        values |= {f"loss.{name}": value for name, value in METHODS[method].settings.items()}
        values |= {"training.batch_size": size, "training.seed": seed, "data.samples": samples}
        configs.append(changed(Config(), **values, **{"training.device": "cpu", "training.threads": 1}))
    if processes == 1:
        measured = _measured(configs, steps)
    else:
        how: dict[str, Any] = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "max_restarts": 0}
        launch = LaunchConfig(1, 1, processes, run_id="step-times", **how)
        measured = elastic_launch(launch, _measured)(configs, steps)[0]
    places = product(batch_sizes, methods)
    return [
        {"method": method, "batch_size": size, "processes": processes, "seed": seed} | row
        for (size, method), row in zip(places, measured, strict=True)
    ]


def _measured(configs: Sequence[Config], steps: int) -> list[Row]:
    """The measurements of each configuration in this process."""
    torch.set_num_threads(1)
    rows = []
    with joined("cpu") as team:
        for config in configs:
            views = shared.digit_views(config.data.samples or shared.DIGITS)
            run = Run(config, views, torch.device("cpu"), team)
            for _ in range(WARM_UP):
                run.advance()
            run.means()
            times = []
            for _ in range(steps):
                began = time.perf_counter()
                run.advance()
                times.append(1000 * (time.perf_counter() - began))
            means = run.means()
            row = {"milliseconds": median(times), "encoded": means.get("encoded_again", 0.0)}
            row |= {"with_gradient": means.get("encoded_again_with_gradient", 0.0)}
            weights = sum(weight.numel() for weight in run.encoder.parameters())
            rows.append(row | {"weights": weights, "dim": config.encoder.dim})
    return rows
