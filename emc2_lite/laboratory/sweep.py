"""Many runs of one configuration: methods x batch sizes x temperatures x seeds, each trained and evaluated."""

import json
import warnings
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from emc2_lite.checks import Distinct, checked_settings
from emc2_lite.laboratory.processes import attempts
from emc2_lite.laboratory.statistics import Row, over_seeds
from emc2_lite.locking import locked
from emc2_lite.losses import LOSSES, METHODS
from emc2_lite.records import new_record, read_record_file, write_record
from emc2_lite.runs import EVALUATION, LOCK, RECORD, device_name, evaluate_run, pick_device, train_run
from emc2_lite.training import Config, changed, from_dict

BY = ("method", "temperature", "batch_size")
MEASURES = {"1-NN": "nearest_neighbour", "linear probe, tuned": "linear_probe"}
MEANS = ("encoded_again", "images_per_second")
VALUES = (*MEASURES.values(), *MEANS)
ENDS = ("step", "relative_price")


class Cell(NamedTuple):
    """One run of a sweep: its place in the grid, its configuration and its folder."""

    place: Row
    config: Config
    folder: Path


Tell = Callable[[Cell, str | None], object]


@checked_settings
def cells_of(
    config: Config,
    output: Path,
    *,
    methods: Annotated[Sequence[Literal[*METHODS]], Distinct()],  # type: ignore[valid-type]
    batch_sizes: Annotated[Sequence[int], Distinct()],
    temperatures: Annotated[Sequence[float], Distinct()],
    seeds: int,
) -> list[Cell]:
    """The runs of a sweep, all of one seed before those of the next.

    Args:
        config: what the runs have in common.
        output: the folder that holds a folder for each run.
        methods: names of `emc2_lite.losses.METHODS`.
        seeds: how many; they are 0, 1, ...

    Raises: ValueError: on an unknown method, a value that comes twice, or a value that the configuration refuses.
    """
    cells = []
    for seed, temperature, batch_size, method in product(range(seeds), temperatures, batch_sizes, methods):
        loss = next(name for name, loss in LOSSES.items() if loss is METHODS[method].loss)
        values = {"loss.method": loss, "loss.temperature": temperature}
        values |= {f"loss.{name}": value for name, value in METHODS[method].settings.items()}
        values |= {"training.batch_size": batch_size, "training.seed": seed}
        place = {"method": method, "temperature": temperature, "batch_size": batch_size, "seed": seed}
        folder = f"{method.replace(' ', '_')}-t{temperature:g}-b{batch_size}-s{seed}"
        cells.append(Cell(place, changed(config, **values), output / folder))
    return cells


def run_cell(cell: Cell) -> Row:
    """Train and evaluate one run, or what is left of it, and return its row."""
    record = train_run(cell.config, cell.folder, progress=False)
    evaluate_run(cell.folder, device=cell.config.training.device)
    return _row(cell, record)


def finished(cell: Cell) -> Row | None:
    """The row of a run that an earlier sweep into the same folder has finished, or None.

    A warning names files that cannot be read; the run then makes them again.

    Raises: ValueError: if the folder holds a run of another configuration.
    """
    if not (cell.folder / EVALUATION).exists():
        return None
    try:
        record = read_record_file(cell.folder / RECORD)
        same = from_dict(record["config"]) == cell.config
        row = _row(cell, record)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, OSError) as problem:
        warnings.warn(
            f"{cell.folder} holds a record or an evaluation that is not whole ({type(problem).__name__}: {problem}); "
            "they are made again",
            stacklevel=2,
        )
        return None
    if not same:
        raise ValueError(
            f"{cell.folder} holds a run of another configuration: choose another --output, or delete the folder."
        )
    return row


def _row(cell: Cell, record: dict[str, Any]) -> Row:
    evaluation = json.loads((cell.folder / EVALUATION).read_text(encoding="utf-8"))
    accuracies = {row["measure"]: row["accuracy"] for row in evaluation["rows"]}
    trained = [row for row in record["metrics"] if "images_per_second" in row]
    return {
        **cell.place,
        **{name: float(accuracies[measure]) for measure, name in MEASURES.items()},
        **{name: sum(row.get(name, 0.0) for row in trained) / len(trained) for name in MEANS},
        **{name: record["final"][0][name] for name in ENDS},
        "seconds": float(record["seconds"]),
    }


def sweep(
    config: Config, output: Path, cells: Sequence[Cell], *, jobs: int, tell: Tell = lambda cell, failure: None
) -> dict[str, Any]:
    """Run the cells that are not finished, in `jobs` processes; write the sweep's record to record.json and return it.

    The record's `seconds` are the training time of all runs together. A run that fails does not stop the others:
    `tell(cell, failure)` is called as each run ends, and the record has the rows of the runs that worked. The same call
    goes on with a sweep that was stopped.

    Raises: Locked: if another process works on the folder; ValueError: if no run worked, with the reason of each, or a
        folder holds a run of another configuration; KeyboardInterrupt, Stopped: after a signal, when the active runs
        have saved their state and ended.
    """
    output.mkdir(parents=True, exist_ok=True)
    with locked(output / LOCK, f"the sweep in {output}"):
        rows = dict(enumerate(map(finished, cells)))
        waiting = {number: cells[number] for number, row in rows.items() if row is None}
        for number in sorted(rows.keys() - waiting.keys()):
            tell(cells[number], None)
        failures: dict[str, list[str]] = {}
        for number, row, failure in attempts(run_cell, waiting, jobs):
            rows[number] = row
            if failure:
                failures.setdefault(failure, []).append(cells[number].folder.name)
            tell(cells[number], failure)
        metrics = [row for row in rows.values() if row is not None]
        if not metrics:
            reasons = "; ".join(f"{', '.join(names)}: {failure}" for failure, names in failures.items())
            raise ValueError(f"No run of the sweep worked. {reasons}")
        final = over_seeds(metrics, BY, VALUES)
        for row, name in product(final, MEASURES.values()):  # Student's interval of an accuracy may leave [0, 1]
            if row[f"{name}_low"] is not None:
                row |= {f"{name}_low": max(row[f"{name}_low"], 0.0), f"{name}_high": min(row[f"{name}_high"], 1.0)}
        seeds, seconds = sorted({row["seed"] for row in metrics}), sum(row["seconds"] for row in metrics)
        how: dict[str, Any] = {"config": config.as_dict(), "device": device_name(pick_device(config.training.device))}
        record = new_record("sweep", **how, seeds=seeds, seconds=seconds, metrics=metrics, final=final)
        write_record(output / RECORD, record)
    return record
