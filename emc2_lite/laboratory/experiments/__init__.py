"""The experiments of the course's argument, each a function of literal parameters that yields rows of numbers.

``emc2-lite experiment NAME`` runs one with its defaults, which are the parameters of the records in data/records; a
chapter runs the same function with smaller ones.
"""

import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import torch

from emc2_lite.checks import check_values, checked, descriptions
from emc2_lite.laboratory.experiments.at_rest import EXACT, Digits, criterion, digit_encoder, jump, quality
from emc2_lite.laboratory.experiments.in_training import gradient_error, stationarity, training
from emc2_lite.laboratory.gradients import GradientQuality
from emc2_lite.laboratory.statistics import Row, over_seeds
from emc2_lite.records import new_record

__all__ = ["EXACT", "EXPERIMENTS", "Experiment", "criterion", "digit_encoder", "gradient_error", "jump", "quality"]
__all__ += ["run_experiment", "stationarity", "training"]


class Experiment(NamedTuple):
    """run: the function; by: the fields of its rows that name what was measured; values: the fields measured.

    steps: config -> the numbers of steps of its runs; each must be at least `measurements`.
    """

    run: Callable[..., Iterator[Row]]
    by: tuple[str, ...]
    values: tuple[str, ...]
    steps: Callable[[Row], Sequence[int]] | None = None

    def config(self, given: Row) -> Row:
        """All parameters but `progress`, the given ones in the place of the defaults, lists as JSON has them.

        Raises: ValueError: on an unknown parameter, a value that its description refuses, or values that do not go
            together.
        """
        hints = descriptions(self.run)
        defaults = {name: p.default for name, p in inspect.signature(self.run).parameters.items() if name in hints}
        changed = {name: value for name, value in given.items() if name not in defaults or value != defaults[name]}
        config = defaults | check_values(hints, changed, defaults)
        if config.get("data") == "digits":
            checked("samples", config["samples"], Digits)
        sizes = "batch_sizes" if "batch_sizes" in config else "batch_size"
        largest = max(config[sizes]) if sizes == "batch_sizes" else config[sizes]
        if largest > config["samples"]:
            raise ValueError(f"{sizes} is {largest}: it must be at most the number of samples, {config['samples']}.")
        if self.steps and config["measurements"] > (fewest := min(self.steps(config))):
            raise ValueError(
                f"measurements is {config['measurements']}, and the shortest run has {fewest} steps: measure less "
                "often, or take more steps."
            )
        return {name: list(value) if isinstance(value, tuple) else value for name, value in config.items()}

    def final(self, rows: Sequence[Row]) -> list[Row]:
        """Means over seeds with 95 % intervals, one row for each thing measured; of a curve, its last step."""
        place = itemgetter(*self.by)
        last = {place(row): row.get("step") for row in sorted(rows, key=lambda row: row.get("step", 0))}
        return over_seeds([row for row in rows if row.get("step") == last[place(row)]], self.by, self.values)


def _steps_of_training(config: Row) -> list[int]:
    steps = [config["exact_steps"]] if EXACT in config["methods"] else []
    if {*config["methods"]} - {EXACT}:
        steps += [config["visits"] * config["samples"] // size for size in config["batch_sizes"]]
    return steps


_PLACE = ("method", "temperature", "batch_size")
_WINDOW = ("visits_from", "visits_to")
_CURVE = ("step", "loss", "squared_norm", "squared_error")
EXPERIMENTS = {
    "gradient-error": Experiment(
        gradient_error, ("method",), _CURVE, lambda c: [c["epochs"] * (c["samples"] // c["batch_size"])]
    ),
    "jump": Experiment(jump, ("method", *_WINDOW), GradientQuality._fields),
    "quality": Experiment(quality, (*_PLACE, *_WINDOW), GradientQuality._fields),
    "stationarity": Experiment(
        stationarity, ("method", "horizon"), ("mean_squared_norm", "loss"), lambda c: c["horizons"]
    ),
    "training": Experiment(training, _PLACE, _CURVE, _steps_of_training),
}


def run_experiment(name: str, config: dict[str, Any], *, progress: Callable[[str], None]) -> dict[str, Any]:
    """Run the experiment with a config of `Experiment.config`, and return the record, see `emc2_lite.records`.

    The run has one torch thread, which is fastest for the small tensors; the number of threads before is restored.

    Raises: KeyError: on a name that `EXPERIMENTS` lacks; ValueError: on a parameter that the experiment refuses.

    >>> config = EXPERIMENTS["stationarity"].config({"horizons": [4], "measurements": 2, "seeds": 1})
    >>> run_experiment("stationarity", config, progress=lambda text: None)["seeds"]
    [0]
    """
    experiment, threads, started = EXPERIMENTS[name], torch.get_num_threads(), time.perf_counter()
    torch.set_num_threads(1)
    try:
        rows = list(experiment.run(**config, progress=progress))
    finally:
        torch.set_num_threads(threads)
    how: dict[str, Any] = {"config": config, "seeds": range(config["seeds"]), "device": "cpu"}
    return new_record(name, **how, seconds=time.perf_counter() - started, metrics=rows, final=experiment.final(rows))
