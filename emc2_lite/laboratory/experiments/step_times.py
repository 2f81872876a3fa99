"""The time of a training step in one, two and more processes, for the cost model of `emc2_lite.laboratory.scaling`."""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from statistics import median
from typing import Annotated, Any, Literal, cast
from unittest import mock

import torch
from torch import distributed as dist
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from torch.nn.parallel import DistributedDataParallel

from emc2_lite.checks import Bounds, Distinct, Seed, Temperature, checked_settings
from emc2_lite.laboratory.experiments import at_rest as shared
from emc2_lite.laboratory.gradients import Count
from emc2_lite.laboratory.scaling import STATE
from emc2_lite.laboratory.statistics import Row
from emc2_lite.losses import METHODS
from emc2_lite.training import Config, Run, changed
from emc2_lite.training.processes import Processes
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
        messages: median time of the step's messages, in which a process also waits for slower ones, in milliseconds;
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
        rows = [_timed(config, steps, team) for config in configs]
        gc.collect()  # a DistributedDataParallel that outlives its group may abort the end of the process
    return rows


def _timed(config: Config, steps: int, team: Processes) -> Row:
    """The times of a run's steps and of the messages in them, with the wait for slower processes."""
    run = Run(config, shared.digit_views(config.data.samples or shared.DIGITS), torch.device("cpu"), team)
    for _ in range(WARM_UP):
        run.advance()
        if team.size > 1 and run.step == 1:  # the model was made in this step
            cast(DistributedDataParallel, run.update.model).register_comm_hook(team.size, _averaged)
    run.means()
    times, waits = [], []
    for _ in range(steps):
        with _messages_timed() as waited:
            began = time.perf_counter()
            run.advance()
            times.append(1000 * (time.perf_counter() - began))
        waits.append(1000 * sum(waited))
    means = run.means()
    row = {"milliseconds": median(times), "messages": median(waits), "encoded": means.get("encoded_again", 0.0)}
    row |= {"with_gradient": means.get("encoded_again_with_gradient", 0.0)}
    weights = sum(weight.numel() for weight in run.encoder.parameters())
    return row | {"weights": weights, "dim": config.encoder.dim}


def _averaged(size: int, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
    """What DistributedDataParallel does with a bucket of gradients, in Python, where it can be timed."""
    dist.all_reduce(bucket.buffer().div_(size))
    done: torch.futures.Future[torch.Tensor] = torch.futures.Future()
    done.set_result(bucket.buffer())
    return done


@contextmanager
def _messages_timed() -> Iterator[list[float]]:
    """While entered, the seconds of each message between processes go into the list."""
    seconds: list[float] = []

    def timed(send: Callable) -> Callable:
        def sent(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return send(*args, **kwargs)
            finally:
                seconds.append(time.perf_counter() - began)

        return sent

    with mock.patch.multiple(dist, all_reduce=timed(dist.all_reduce), all_gather=timed(dist.all_gather)):
        yield seconds
