"""The experiments of the course's argument, each a function of literal parameters that yields rows of numbers.

``emc2-lite experiment NAME`` runs one with its defaults, which are the parameters of the records in data/records; a
chapter runs the same function with smaller ones.
"""

import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import torch

from emc2_lite.checks import check_values, checked, descriptions
from emc2_lite.laboratory.experiments.at_rest import EXACT, Digits, criterion, digit_encoder, jump, quality
from emc2_lite.laboratory.experiments.cells import rows_of_cells
from emc2_lite.laboratory.experiments.mapping import map_cells, patience_cells, trained_at_price
from emc2_lite.laboratory.experiments.published import GRADIENTS, gradient_error, gradient_error_cells, untrained
from emc2_lite.laboratory.experiments.step_times import step_time_cells, step_times
from emc2_lite.laboratory.experiments.theorem import stationarity
from emc2_lite.laboratory.experiments.towers import tower_cells, trained_towers
from emc2_lite.laboratory.experiments.variants import trained_variant, variant_cells
from emc2_lite.laboratory.gradients import GradientQuality
from emc2_lite.laboratory.statistics import Row, over_seeds
from emc2_lite.records import new_record

__all__ = ["EXACT", "EXPERIMENTS", "Experiment", "criterion", "digit_encoder", "gradient_error", "jump", "quality"]
__all__ += ["map_cells", "patience_cells", "run_experiment", "stationarity", "trained_at_price"]


class Experiment(NamedTuple):
    """run: the function; by: the fields of its rows that name what was measured; values: the fields measured.

    steps: config -> the numbers of steps of its runs; each must be at least `measurements`.
    cell: makes the row or rows of each cell that `run` yields, a dictionary of its arguments; None where `run` yields
        the rows.
    timed: whether it measures times, so that nothing may run beside it.
    """

    run: Callable[..., Iterator[Row]]
    by: tuple[str, ...]
    values: tuple[str, ...]
    steps: Callable[[Row], Sequence[int]] | None = None
    cell: Callable[..., Row | list[Row]] | None = None
    timed: bool = False

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

    def cells(self, config: Row) -> list[Row]:
        """The cells of an experiment that has some, each the arguments of `cell`."""
        return list(self.run(**config)) if self.cell else []

    def final(self, rows: Sequence[Row]) -> list[Row]:
        """Means over seeds with 95 % intervals, one row for each thing measured; of a curve, its last measurement."""
        curve = itemgetter(*self.by, "seed")
        last = {curve(row): row for row in sorted(rows, key=lambda row: row.get("step", 0))}
        return over_seeds(list(last.values()), self.by, self.values)


_PLACE = ("method", "temperature", "batch_size")
_WINDOW = ("ruler", "visits_from", "visits_to")
_START = ("loss", "loss_at_beta_squared", "negative_cosine", "positive_cosine")
_AT_PRICE = ("loss", "steps", "relative_price", "mean_cosine")
EXPERIMENTS = {
    "gradient-error": Experiment(
        gradient_error_cells,
        ("method",),
        ("step", *_START, *GRADIENTS),
        lambda c: [c["epochs"] * (c["samples"] // c["batch_size"])],
        cell=gradient_error,
    ),
    "jump": Experiment(jump, ("method", *_WINDOW), GradientQuality._fields),
    "map": Experiment(map_cells, (*_PLACE, "views"), _AT_PRICE, cell=trained_at_price),
    "patience": Experiment(patience_cells, ("method", "views", "visits"), _AT_PRICE, cell=trained_at_price),
    "quality": Experiment(quality, (*_PLACE, "views", *_WINDOW), GradientQuality._fields),
    "stationarity": Experiment(
        stationarity, ("method", "horizon"), ("mean_squared_norm", "loss"), lambda c: c["horizons"]
    ),
    "step-times": Experiment(
        step_time_cells,
        ("method", "batch_size", "processes"),
        ("milliseconds", "messages", "encoded", "with_gradient", "weights", "dim"),
        cell=step_times,
        timed=True,
    ),
    "towers": Experiment(
        tower_cells, ("method",), ("loss", "accuracy", "steps", "relative_price"), cell=trained_towers
    ),
    "untrained": Experiment(untrained, ("norm", "hidden"), _START),
    "variants": Experiment(variant_cells, ("method", "views"), _AT_PRICE, cell=trained_variant),
}


def run_experiment(
    name: str, config: Row, *, progress: Callable[[str], None], jobs: int = 1, kept: Path | None = None
) -> dict[str, Any]:
    """Run the experiment with a config of `Experiment.config`, and return the record, see `emc2_lite.records`.

    Each run has one torch thread, which is fastest for the small tensors; the number of threads before is restored. An
    experiment of cells has `jobs` processes and keeps finished rows in the file `kept`, see `cells.rows_of_cells`; the
    record's `seconds` are then the time of all cells together.

    Raises: KeyError: on a name that `EXPERIMENTS` lacks; ValueError: on a parameter that the experiment refuses, or if
        every cell fails.

    >>> config = EXPERIMENTS["stationarity"].config({"horizons": [4], "measurements": 2, "seeds": 1})
    >>> run_experiment("stationarity", config, progress=lambda text: None)["seeds"]
    [0]
    """
    experiment, threads, started = EXPERIMENTS[name], torch.get_num_threads(), time.perf_counter()
    torch.set_num_threads(1)
    try:
        if experiment.cell:
            how: dict[str, Any] = {"progress": progress, "jobs": jobs, "kept": kept}
            rows, seconds = rows_of_cells(experiment.cell, experiment.cells(config), (*experiment.by, "seed"), **how)
        else:
            rows = list(experiment.run(**config, progress=progress))
            seconds = time.perf_counter() - started
    finally:
        torch.set_num_threads(threads)
    what: dict[str, Any] = {"config": config, "seeds": range(config["seeds"]), "device": "cpu"}
    return new_record(name, **what, seconds=seconds, metrics=rows, final=experiment.final(rows))
