"""Many runs of one configuration: methods x batch sizes x temperatures x seeds, each trained and evaluated."""

import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from emc2_lite.laboratory.experiments.methods import VARIANTS, Row
from emc2_lite.laboratory.statistics import over_seeds
from emc2_lite.records import circumstances, write_record
from emc2_lite.runs import EVALUATION, RECORD, device_name, evaluate_run, pick_device, train_run
from emc2_lite.training import Config, changed, from_dict

BY = ("method", "temperature", "batch_size")
MEASURES = {"1-NN": "nearest_neighbour", "linear probe, tuned": "linear_probe"}
VALUES = (*MEASURES.values(), "encoded_again", "images_per_second")


class Cell(NamedTuple):
    """One run of a sweep: where it lies in the grid, its configuration and its folder."""

    place: Row
    config: Config
    folder: Path


def cells_of(
    config: Config,
    output: Path,
    *,
    methods: Sequence[str],
    batch_sizes: Sequence[int],
    temperatures: Sequence[float],
    seeds: int,
) -> list[Cell]:
    """The runs of a sweep, all of one seed before those of the next.

    Args:
        config: what the runs have in common.
        methods: names of `emc2_lite.laboratory.experiments.VARIANTS`.

    Raises:
        ValueError: on another method, or a value that the configuration refuses.
    """
    cells = []
    for seed, temperature, batch_size, method in product(range(seeds), temperatures, batch_sizes, methods):
        if method not in VARIANTS:
            raise ValueError(f"There is no method {method!r}: use some of {', '.join(VARIANTS)}.")
        name, settings = VARIANTS[method]
        own = changed(
            config,
            **{"loss.method": name, "loss.temperature": temperature},
            **{f"loss.{setting}": value for setting, value in settings.items()},
            **{"training.batch_size": batch_size, "training.seed": seed},
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

    Raises:
        ValueError: if the folder holds a run of another configuration.
    """
    if not (cell.folder / EVALUATION).exists():
        return None
    record = json.loads((cell.folder / RECORD).read_text(encoding="utf-8"))
    if from_dict(record["config"]) != cell.config:
        raise ValueError(
            f"{cell.folder} holds a run of another configuration: choose another --output, or delete the folder."
        )
    return _row(cell, record)


def _row(cell: Cell, record: dict[str, Any]) -> Row:
    evaluation = json.loads((cell.folder / EVALUATION).read_text(encoding="utf-8"))
    accuracies = {row["measure"]: row["accuracy"] for row in evaluation["rows"]}
    trained = [row for row in record["metrics"] if "images_per_second" in row]
    return {
        **cell.place,
        **{name: accuracies[measure] for measure, name in MEASURES.items()},
        "encoded_again": _mean([row.get("encoded_again", 0.0) for row in trained]),
        "images_per_second": _mean([row["images_per_second"] for row in trained]),
        "seconds": record["seconds"],
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
        ValueError: if no run worked, or a folder holds a run of another configuration.
    """
    rows: dict[int, Row] = {}
    waiting = []
    for number, cell in enumerate(cells):
        row = finished(cell)
        if row is None:
            waiting.append((number, cell))
        else:
            rows[number] = row
            tell(cell, None)
    for number, row, failure in _in_processes(waiting, jobs) if jobs > 1 else map(_attempt, waiting):
        if failure is None:
            rows[number] = row
        tell(cells[number], failure)
    if not rows:
        raise ValueError("No run of the sweep worked.")
    metrics = [rows[number] for number in sorted(rows)]
    record = {
        "experiment": "sweep",
        "config": config.as_dict(),
        "seeds": sorted({row["seed"] for row in metrics}),
        **circumstances(device_name(pick_device(config.training.device))),
        "seconds": round(sum(row["seconds"] for row in metrics), 1),
        "metrics": metrics,
        "final": over_seeds(metrics, BY, VALUES),
    }
    write_record(output / RECORD, record)
    return record


def _attempt(waiting: tuple[int, Cell]) -> tuple[int, Row | None, str | None]:
    """The cell's number, and its row or what went wrong."""
    number, cell = waiting
    try:
        return number, run_cell(cell), None
    except Exception as problem:  # whatever it is, the other runs go on
        return number, None, f"{type(problem).__name__}: {problem}"


def _in_processes(waiting: Sequence[tuple[int, Cell]], jobs: int) -> Iterator[tuple[int, Row | None, str | None]]:
    """The attempts as they end, so many at a time."""
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            for future in as_completed([pool.submit(_attempt, item) for item in waiting]):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()  # politely: the run writes a checkpoint first
            raise
