"""The experiments of the course's argument, each a function of literal parameters that yields rows of numbers.

``emc2-lite experiment NAME`` runs one with its defaults, which are those of the records in data/records; a chapter runs
the same function with smaller ones.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from emc2_lite.laboratory.experiments.at_rest import digit_encoder, jump, quality
from emc2_lite.laboratory.experiments.in_training import gradient_error, stationarity, training
from emc2_lite.laboratory.experiments.methods import EXACT, VARIANTS, Row, criterion
from emc2_lite.laboratory.statistics import over_seeds

__all__ = [
    "EXACT",
    "EXPERIMENTS",
    "VARIANTS",
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
    """run: the function; by: the fields of its rows that name what was measured; values: the fields measured."""

    run: Callable[..., Iterator[Row]]
    by: tuple[str, ...]
    values: tuple[str, ...]

    def config(self, given: Row) -> Row:
        """All parameters but `progress`, the given ones in the place of the defaults.

        Raises:
            ValueError: on a parameter that the experiment does not have, of another kind than its default, or too small
                or large to measure anything.
        """
        defaults = {name: p.default for name, p in inspect.signature(self.run).parameters.items() if name != "progress"}
        for name, value in given.items():
            if name not in defaults:
                raise ValueError(f"There is no parameter {name!r}: the experiment has {', '.join(defaults)}.")
            if not _same_kind(value, defaults[name]):
                raise ValueError(f"{name} is {value!r}: pass a value such as its default, {defaults[name]!r}.")
        config = defaults | given
        for name, least in _LEAST.items():
            for value in _listed(config.get(name, least)):
                if value < least:
                    raise ValueError(f"{name} is {value}: it must be {least} or more.")
        for name in ("batch_size", "batch_sizes"):
            for value in _listed(config.get(name, 2)):
                if value > config["samples"]:
                    raise ValueError(
                        f"{name} is {value}: it must be at most the number of samples, {config['samples']}."
                    )
        return config

    def final(self, rows: Sequence[Row]) -> list[Row]:
        """Means over seeds with 95 % intervals, one row for each thing measured; of a curve, its last step."""
        last: dict[tuple, int] = {}
        for row in rows:
            key = tuple(row[name] for name in self.by)
            last[key] = max(last.get(key, 0), row.get("step", 0))
        ends = [row for row in rows if row.get("step", 0) == last[tuple(row[name] for name in self.by)]]
        return over_seeds(ends, self.by, self.values)


_LEAST = {
    "seeds": 1,
    "samples": 2,
    "batch_size": 2,
    "batch_sizes": 2,
    "epochs": 1,
    "visits": 1,
    "exact_steps": 1,
    "measurements": 2,
}


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else [value]


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
