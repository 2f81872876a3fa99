"""Experiments of many independent cells, in several processes; rows of finished cells outlive an interruption."""

import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from emc2_lite.laboratory.processes import attempts
from emc2_lite.laboratory.statistics import Row
from emc2_lite.records import write_whole

Result = tuple[list[Row], float]  # of a cell: its rows and its seconds


def rows_of_cells(
    work: Callable[..., Row | list[Row]],
    cells: Sequence[Row],
    by: Sequence[str],
    *,
    progress: Callable[[str], None],
    jobs: int,
    kept: Path | None,
) -> tuple[list[Row], float]:
    """The row or rows work(**cell) of the cells that work, in the order of the cells, and their seconds together.

    `jobs` processes work, each with one torch thread. Rows go into the file `kept` as soon as they are there, and cells
    whose rows are in the file are not worked on again: the same call goes on where another one was stopped. Rows are
    found by their cells alone, so delete the file after a change of `work`. A cell that fails has no row; `progress`
    tells the reason, and calls the cell by its fields `by`.

    Raises: ValueError: if every cell fails, or if the file holds something else; OSError: if it cannot be written.
    """
    before = kept_results(kept) if kept else {}
    names = [name_of(cell) for cell in cells]
    results = {number: before[name] for number, name in enumerate(names) if name in before}
    waiting = {number: cell for number, cell in enumerate(cells) if number not in results}
    if results:
        progress(f"{len(results)} of {len(cells)} cells are in {kept}")
    done, failure = len(results), None
    for number, result, failure in attempts(partial(_timed, work), waiting, jobs):
        if failure is None:
            results[number] = result
            if kept:
                with kept.open("a", encoding="utf-8") as lines:
                    lines.write(f"{json.dumps([cells[number], *result])}\n")
        cell = cells[number]
        done, place = done + 1, ", ".join(f"{name} {cell[name]}" for name in by if name in cell)
        progress(f"{done} of {len(cells)}: {place}: {failure or 'done'}")
    if not results:
        raise ValueError(f"No cell worked; the last one's reason: {failure}")
    rows = [row for number in sorted(results) for row in results[number][0]]
    return rows, sum(seconds for _, seconds in results.values())


def kept_results(file: Path) -> dict[str, Result]:
    """The results in the file by their cells, as JSON; a last line that was not written to its end is cut off.

    Raises: ValueError: on a file that holds something else.
    """
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []
    if lines and not lines[-1].endswith("\n"):
        write_whole(file, "".join(lines[:-1]))
        del lines[-1]
    try:
        return {name_of(cell): (list(rows), float(seconds)) for cell, rows, seconds in map(json.loads, lines)}
    except (ValueError, TypeError):
        raise ValueError(f"{file} is no file of finished cells: delete it, or choose another --output.") from None


def name_of(cell: Row) -> str:
    """The key of a cell in `kept_results`."""
    return json.dumps(cell)


def forget(file: Path, cells: Sequence[Row]) -> None:
    """Drop the rows of these cells from the file, and the file with its last row.

    Raises: ValueError: on a file that holds something else; OSError: as `write_whole`.
    """
    names = {name_of(cell) for cell in cells}
    others = {name: result for name, result in kept_results(file).items() if name not in names}
    if others:
        write_whole(
            file, "".join(f"[{name}, {json.dumps(rows)}, {seconds}]\n" for name, (rows, seconds) in others.items())
        )
    else:
        file.unlink(missing_ok=True)


def _timed(work: Callable[..., Row | list[Row]], cell: Row) -> Result:
    torch.set_num_threads(1)
    started = time.perf_counter()
    made = work(**cell)
    return made if isinstance(made, list) else [made], time.perf_counter() - started
