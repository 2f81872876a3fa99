"""The experiments of the course's argument, each a function of literal parameters that yields rows of numbers.

``emc2-lite experiment NAME`` runs one with its defaults, which are those of the records in data/records; a chapter runs
the same function with smaller ones.
"""

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from emc2_lite.checks import check_values, checked, descriptions
from emc2_lite.laboratory.experiments.at_rest import digit_encoder, jump, quality
from emc2_lite.laboratory.experiments.in_training import gradient_error, stationarity, training
from emc2_lite.laboratory.experiments.methods import EXACT, Digits, Row, criterion
from emc2_lite.laboratory.statistics import over_seeds

__all__ = [
    "EXACT",
    "EXPERIMENTS",
    "Experiment",
    "criterion",
    "digit_encoder",
    "gradient_error",
    "jump",
    "quality",
    "stationarity",
    "training",
]


class Experiment(NamedTuple):
    """run: the function; by: the fields of its rows that name what was measured; values: the fields measured.

    steps: config -> the numbers of steps of its runs, over which `measurements` are spread; none have fewer steps.
    """

    run: Callable[..., Iterator[Row]]
    by: tuple[str, ...]
    values: tuple[str, ...]
    steps: Callable[[Row], Sequence[int]] | None = None

    def config(self, given: Row) -> Row:
        """All parameters but `progress`, the given ones in the place of the defaults, lists as JSON has them.

        Raises:
            ValueError: on a parameter that the experiment does not have, a value that its description refuses, or
                values that do not go together.
        """
        hints = descriptions(self.run)
        defaults = {name: p.default for name, p in inspect.signature(self.run).parameters.items() if name in hints}
        changed = {name: value for name, value in given.items() if name not in defaults or value != defaults[name]}
        config = defaults | check_values(hints, changed, defaults)
        self._check_together(config)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in config.items()}

    def _check_together(self, config: Row) -> None:
        if config.get("data") == "digits":
            checked("samples", config["samples"], Digits)
        name = "batch_size" if "batch_size" in config else "batch_sizes"
        largest = max(config["batch_sizes"]) if name == "batch_sizes" else config["batch_size"]
        if largest > config["samples"]:
            raise ValueError(f"{name} is {largest}: it must be at most the number of samples, {config['samples']}.")
        fewest = min(self.steps(config)) if self.steps else math.inf
        if config.get("measurements", 0) > fewest:
            raise ValueError(
                f"measurements is {config['measurements']}, and the shortest run has {fewest} steps: measure less "
                "often, or take more steps."
            )

    def final(self, rows: Sequence[Row]) -> list[Row]:
        """Means over seeds with 95 % intervals, one row for each thing measured; of a curve, its last step."""
        last: dict[tuple, int] = {}
        for row in rows:
            key = tuple(row[name] for name in self.by)
            last[key] = max(last.get(key, 0), row.get("step", 0))
        ends = [row for row in rows if row.get("step", 0) == last[tuple(row[name] for name in self.by)]]
        return over_seeds(ends, self.by, self.values)


_WINDOW = ("visits_from", "visits_to")
_QUALITY = ("bias", "rmse", "cosine", "views_encoded", "views_encoded_with_gradient")
_CURVE = ("step", "loss", "squared_norm", "squared_error")


def _steps_of_training(config: Row) -> list[int]:
    steps = [config["exact_steps"]] if EXACT in config["methods"] else []
    if {*config["methods"]} - {EXACT}:
        steps += [config["visits"] * config["samples"] // size for size in config["batch_sizes"]]
    return steps


EXPERIMENTS = {
    "gradient-error": Experiment(
        gradient_error, ("method",), _CURVE, lambda c: [c["epochs"] * (c["samples"] // c["batch_size"])]
    ),
    "jump": Experiment(jump, ("method", *_WINDOW), _QUALITY),
    "quality": Experiment(quality, ("method", "temperature", "batch_size", *_WINDOW), _QUALITY),
    "stationarity": Experiment(
        stationarity, ("method", "horizon"), ("mean_squared_norm", "loss"), lambda c: c["horizons"]
    ),
    "training": Experiment(training, ("method", "temperature", "batch_size"), _CURVE, _steps_of_training),
}
