"""Many runs of one configuration: methods x batch sizes x temperatures x seeds, each trained and evaluated."""

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from emc2_lite.checks import Distinct, checked_settings
from emc2_lite.laboratory.experiments.methods import Row
from emc2_lite.laboratory.processes import Died, in_processes
from emc2_lite.laboratory.statistics import over_seeds
from emc2_lite.locking import locked
from emc2_lite.losses import LOSSES, METHODS
from emc2_lite.records import circumstances, read_record_file, write_record
from emc2_lite.runs import EVALUATION, LOCK, RECORD, device_name, evaluate_run, pick_device, train_run
from emc2_lite.training import Config, changed, from_dict

BY = ("method", "temperature", "batch_size")
MEASURES = {"1-NN": "nearest_neighbour", "linear probe, tuned": "linear_probe"}
VALUES = (*MEASURES.values(), "encoded_again", "images_per_second")


class Cell(NamedTuple):
    """One run of a sweep: where it lies in the grid, its configuration and its folder."""

    place: Row
    config: Config
    folder: Path


@checked_settings
def cells_of(
    config: Config,
    output: Path,
    *,
    methods: Annotated[Sequence[Literal[*METHODS]], Distinct()],
    batch_sizes: Annotated[Sequence[int], Distinct()],
    temperatures: Annotated[Sequence[float], Distinct()],
    seeds: int,
) -> list[Cell]:
    """The runs of a sweep, all of one seed before those of the next.

    Args:
        config: what the runs have in common.
        methods: names of `emc2_lite.losses.METHODS`.

    Raises:
        ValueError: on another method, a value that comes twice or one that the configuration refuses.
    """
    cells = []
    for seed, temperature, batch_size, method in product(range(seeds), temperatures, batch_sizes, methods):
        own = changed(
            config,
            **{"loss.method": next(name for name, loss in LOSSES.items() if loss is METHODS[method].loss)},
            **{f"loss.{setting}": value for setting, value in METHODS[method].settings.items()},
            **{"loss.temperature": temperature, "training.batch_size": batch_size, "training.seed": seed},
        )
        place = {"method": method, "temperature": temperature, "batch_size": batch_size, "seed": seed}
        folder = "-".join([method.replace(" ", "_"), f"t{temperature:g}", f"b{batch_size}", f"s{seed}"])
        cells.append(Cell(place, own, output / folder))
    return cells


def run_cell(cell: Cell) -> Row:
    """Train and evaluate one run, or what is left of it, and return its row."""
    record = train_run(cell.config, cell.folder, progress=False)
    evaluate_run(cell.folder, device=cell.config.training.device)
    return _row(cell, record)


def finished(cell: Cell) -> Row | None:
    """The row of a run that an earlier sweep into the same folder has finished, or None.

    Files that cannot be read are named in a warning; the run is then taken up, and makes them again.

    Raises:
        ValueError: if the folder holds a run of another configuration.
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
        "encoded_again": _mean([row.get("encoded_again", 0.0) for row in trained]),
        "images_per_second": _mean([row["images_per_second"] for row in trained]),
        "seconds": float(record["seconds"]),
    }


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def sweep(
    config: Config,
    output: Path,
    cells: Sequence[Cell],
    *,
    jobs: int,
    tell: Callable[[Cell, str | None], object] = lambda cell, failure: None,
) -> dict[str, Any]:
    """Run the cells that are not finished, in `jobs` processes, and return the sweep's record, written to record.json;
    its `seconds` are those of training, of all runs together.

    A run that fails does not stop the others: `tell(cell, failure)` hears of each as it ends, and the record has the
    rows of those that worked. A sweep that was stopped goes on when it is called again.

    Raises:
        Locked: if another process is at work on the folder.
        ValueError: if no run worked, with the reason of each, or a folder holds a run of another configuration.
        KeyboardInterrupt, Stopped: after a signal, when the runs under way have saved their state and ended.
    """
    output.mkdir(parents=True, exist_ok=True)
    with locked(output / LOCK, f"the sweep in {output}"):
        rows, failures = {}, {}
        for number, row, failure in _outcomes(cells, jobs):
            if failure is None:
                rows[number] = row
            else:
                failures.setdefault(failure, []).append(cells[number].folder.name)
            tell(cells[number], failure)
        if not rows:
            reasons = "; ".join(f"{', '.join(names)}: {failure}" for failure, names in failures.items())
            raise ValueError(f"No run of the sweep worked. {reasons}")
        record = _record_of(config, [rows[number] for number in sorted(rows)])
        write_record(output / RECORD, record)
    return record


def _record_of(config: Config, metrics: list[Row]) -> dict[str, Any]:
    final = over_seeds(metrics, BY, VALUES)
    for row in final:  # Student's interval knows nothing of the ends of an accuracy's range
        for name in MEASURES.values():
            if row[f"{name}_low"] is not None:
                row |= {f"{name}_low": max(row[f"{name}_low"], 0.0), f"{name}_high": min(row[f"{name}_high"], 1.0)}
    return {
        "experiment": "sweep",
        "config": config.as_dict(),
        "seeds": sorted({row["seed"] for row in metrics}),
        **circumstances(device_name(pick_device(config.training.device))),
        "seconds": round(sum(row["seconds"] for row in metrics), 1),
        "metrics": metrics,
        "final": final,
    }


def _outcomes(cells: Sequence[Cell], jobs: int) -> Iterator[tuple[int, Row | None, str | None]]:
    """Each cell's number, and its row or what went wrong: the finished ones first, then the others as they end."""
    waiting = []
    for number, cell in enumerate(cells):
        row = finished(cell)
        if row is None:
            waiting.append(number)
        else:
            yield number, row, None
    todo = [cells[number] for number in waiting]
    done = in_processes(_attempt, todo, jobs) if jobs > 1 else enumerate(map(_attempt, todo))
    for place, outcome in done:
        row, failure = (None, str(outcome)) if isinstance(outcome, Died) else outcome
        yield waiting[place], row, failure


def _attempt(cell: Cell) -> tuple[Row | None, str | None]:
    """The cell's row, or what went wrong."""
    try:
        return run_cell(cell), None
    except Exception as problem:  # whatever it is, the other runs go on
        return None, f"{type(problem).__name__}: {problem}"
