"""Many runs of one configuration: methods x batch sizes x temperatures x seeds, each trained and evaluated."""

import json
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from emc2_lite.checks import Bounds, Distinct, checked_settings
from emc2_lite.laboratory.processes import attempts
from emc2_lite.laboratory.statistics import Row, over_seeds
from emc2_lite.locking import locked
from emc2_lite.losses import LOSSES, METHODS
from emc2_lite.records import new_record, read_record_file, write_record
from emc2_lite.runs import EVALUATION, LOCK, RECORD, device_name, evaluate_run, pick_device, train_run
from emc2_lite.runs.evaluate import few_probe, few_supervised
from emc2_lite.training import Config, changed, from_dict

BY = ("method", "temperature", "batch_size")
MEASURES = {"1-NN": "nearest_neighbour", "linear probe, tuned": "linear_probe"}
MEANS = ("encoded_again", "images_per_second")
ENDS = ("step", "relative_price")
SUPERVISED = "supervised"


class Cell(NamedTuple):
    """One run of a sweep: its place in the grid, its configuration and its folder.

    labels: counts of labels a class of further linear probes. supervised_epochs: of the supervised baseline, whose row
    follows the run's as one of the method "supervised"; 0 for none.
    """

    place: Row
    config: Config
    folder: Path
    labels: tuple[int, ...] = ()
    supervised_epochs: int = 0


Tell = Callable[[Cell, str | None], object]


def values_of(rows: Sequence[Row]) -> list[str]:
    """The fields of a sweep's rows that were measured."""
    return [name for name in rows[0] if name not in (*BY, "seed", "seconds")]


def accuracies_of(rows: Sequence[Row]) -> list[str]:
    """The fields of a sweep's rows that are accuracies."""
    return [name for name in rows[0] if name in MEASURES.values() or name.startswith("labels_")]


@checked_settings
def cells_of(
    config: Config,
    output: Path,
    *,
    methods: Annotated[Sequence[Literal[*METHODS]], Distinct()],  # type: ignore[valid-type]
    batch_sizes: Annotated[Sequence[int], Distinct()],
    temperatures: Annotated[Sequence[float], Distinct()],
    seeds: int,
    labels: Annotated[Sequence[Annotated[int, Bounds(least=1)]], Distinct()] | None = None,
    supervised_epochs: Annotated[int, Bounds(least=0)] = 0,
) -> list[Cell]:
    """The runs of a sweep, all of one seed before those of the next.

    Args:
        config: what the runs have in common.
        output: the folder that holds a folder for each run.
        methods: names of `emc2_lite.losses.METHODS`.
        seeds: how many; they are 0, 1, ...
        labels: counts of labels a class, for further linear probes.
        supervised_epochs: of the supervised baseline, which is made once for each seed, at the first batch size and
            temperature, and whose own accuracies stand where a method has those of its probe.

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
        once = (temperature, batch_size, method) == (temperatures[0], batch_sizes[0], methods[0])
        asked = tuple(labels or ()), supervised_epochs if once else 0
        cells.append(Cell(place, changed(config, **values), output / folder, *asked))
    return cells


def run_cell(cell: Cell) -> list[Row]:
    """Train and evaluate one run, or what is left of it, and return its rows."""
    record = train_run(cell.config, cell.folder, progress=False)
    asked: dict[str, Any] = {"labels_a_class": cell.labels, "supervised_epochs": cell.supervised_epochs}
    evaluate_run(cell.folder, device=cell.config.training.device, **asked)
    return _rows(cell, record)


def finished(cell: Cell) -> list[Row] | None:
    """The rows of a run that an earlier sweep into the same folder has finished, or None.

    A warning names files that cannot be read; the run then makes them again.

    Raises: ValueError: if the folder holds a run of another configuration.
    """
    if not (cell.folder / EVALUATION).exists() or _lacks_what_is_asked(cell):
        return None
    try:
        record = read_record_file(cell.folder / RECORD)
        same = from_dict(record["config"]) == cell.config
        rows = _rows(cell, record)
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
    return rows


def _lacks_what_is_asked(cell: Cell) -> bool:
    """Whether the evaluation is of an earlier call that asked for fewer measures."""
    wanted = {few_probe(count) for count in cell.labels}
    if cell.supervised_epochs:
        wanted |= {few_supervised(count) for count in cell.labels} | {f"supervised, {cell.supervised_epochs} epochs"}
    with suppress(ValueError, LookupError, TypeError, OSError):
        evaluation = json.loads((cell.folder / EVALUATION).read_text(encoding="utf-8"))
        return not wanted <= {row["measure"] for row in evaluation["rows"]}
    return False


def _rows(cell: Cell, record: dict[str, Any]) -> list[Row]:
    """The row of a run; and of the supervised baseline, with its own accuracies in the place of the linear probe's."""
    evaluation = json.loads((cell.folder / EVALUATION).read_text(encoding="utf-8"))
    accuracies: dict[str, list[float]] = {}
    for found in evaluation["rows"]:
        accuracies.setdefault(found["measure"], []).append(float(found["accuracy"]))

    def accuracy(measure: str) -> float:
        if measure not in accuracies:
            reasons = [reason for reason in evaluation["missing"] if reason.startswith(measure)]
            raise ValueError(reasons[0] if reasons else f"{cell.folder / EVALUATION} has no row for {measure}.")
        return sum(accuracies[measure]) / len(accuracies[measure])  # over the draws of few labels

    trained = [row for row in record["metrics"] if "images_per_second" in row]
    row = {
        **cell.place,
        **{name: accuracy(measure) for measure, name in MEASURES.items()},
        **{f"labels_{count}": accuracy(few_probe(count)) for count in cell.labels},
        **{name: sum(row.get(name, 0.0) for row in trained) / len(trained) for name in MEANS},
        **{name: record["final"][0][name] for name in ENDS},
        "seconds": float(record["seconds"]),
    }
    if not cell.supervised_epochs:
        return [row]
    supervised = {"linear_probe": accuracy(f"supervised, {cell.supervised_epochs} epochs")}
    supervised |= {f"labels_{count}": accuracy(few_supervised(count)) for count in cell.labels}
    return [row, dict.fromkeys(row) | cell.place | {"method": SUPERVISED} | supervised]


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
        rows: dict[int, list[Row] | None] = dict(enumerate(map(finished, cells)))
        waiting = {number: cells[number] for number, row in rows.items() if row is None}
        for number in sorted(rows.keys() - waiting.keys()):
            tell(cells[number], None)
        failures: dict[str, list[str]] = {}
        for number, made, failure in attempts(run_cell, waiting, jobs):
            rows[number] = made
            if failure:
                failures.setdefault(failure, []).append(cells[number].folder.name)
            tell(cells[number], failure)
        metrics = [row for made in rows.values() for row in made or ()]
        if not metrics:
            reasons = "; ".join(f"{', '.join(names)}: {failure}" for failure, names in failures.items())
            raise ValueError(f"No run of the sweep worked. {reasons}")
        final = over_seeds(metrics, BY, values_of(metrics))
        for row, name in product(final, accuracies_of(metrics)):  # Student's interval of an accuracy may leave [0, 1]
            if row[f"{name}_low"] is not None:
                row |= {f"{name}_low": max(row[f"{name}_low"], 0.0), f"{name}_high": min(row[f"{name}_high"], 1.0)}
        seeds, seconds = sorted({row["seed"] for row in metrics}), sum(row["seconds"] or 0.0 for row in metrics)
        how: dict[str, Any] = {"config": config.as_dict(), "device": device_name(pick_device(config.training.device))}
        record = new_record("sweep", **how, seeds=seeds, seconds=seconds, metrics=metrics, final=final)
        write_record(output / RECORD, record)
    return record
