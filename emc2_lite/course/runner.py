"""Execute a chapter from its first cell to its last in a fresh kernel; a failure is one line."""

import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import nbformat
import papermill
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
LONGEST_MESSAGE = 300


class Result(NamedTuple):
    """The outcome of one chapter; ``error`` is None when every cell ran, ``warnings`` are for the authors."""

    chapter: str
    seconds: float
    cells: int
    error: str | None
    warnings: tuple[str, ...]


def execute(
    notebook: Path,
    output: Path,
    *,
    parameters: dict | None = None,
    environment: dict[str, str] | None = None,
    on_cell: Callable[[int, int], None] = lambda number, total: None,
) -> Result:
    """Execute ``notebook`` in its own folder and write the executed copy to ``output``, whole or not at all.

    A cell that raises, a dead kernel and an error shown inside a widget each make ``Result.error``; text on stderr
    makes a warning. ``environment`` is added to the kernel's environment; ``on_cell`` is called before each code cell
    with the cell's number and the number of all cells.
    """

    class ThisInterpreter(AsyncKernelManager):
        """Starts kernels of the running Python, whatever kernels the user has registered under the name python3."""

        @property
        def kernel_spec(self) -> KernelSpec:
            return KernelSpec(**get_kernel_dict(["--log-level=CRITICAL"]), env=environment or {})

    started = time.perf_counter()
    total = number = 0

    def count(cell, cell_index):
        nonlocal number
        number += 1
        on_cell(number, total)

    output.parent.mkdir(parents=True, exist_ok=True)
    output.unlink(missing_ok=True)
    error: str | None = None
    warnings: tuple[str, ...] = ()
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".running-") as folder:
        draft = Path(folder) / output.name
        try:
            cells = nbformat.read(notebook, as_version=4).cells
            total = sum(cell.cell_type == "code" and bool(cell.source.strip()) for cell in cells)
            source = notebook.resolve()
            kernel = {"kernel_name": "python3", "kernel_manager_class": ThisInterpreter, "cwd": source.parent}
            saving = {"progress_bar": False, "request_save_on_cell_execute": False, "coalesce_streams": True}
            papermill.execute_notebook(source, draft.resolve(), parameters, on_cell_execute=count, **kernel, **saving)
        except PapermillExecutionError as failure:
            error = f"cell [{failure.exec_count}]: {_sentence(failure.ename, failure.evalue)}"
        except DeadKernelError:
            error = f"cell [{number}]: the kernel died; was there enough memory?"
        except Exception as failure:
            error = _sentence(type(failure).__name__, str(failure))
        if draft.exists():
            executed = nbformat.read(draft, as_version=4)
            error = error or next(hidden_errors(executed), None)
            warnings = tuple(stderr_lines(executed))
            draft.replace(output)
    return Result(notebook.stem, time.perf_counter() - started, number, error, warnings)


def hidden_errors(executed: nbformat.NotebookNode) -> Iterator[str]:
    """Errors that a cell's widget caught and shows, so that the cell itself seems to have succeeded."""
    models = executed.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
    for number, output in _outputs(executed):
        waiting, seen = [output.get("data", {}).get(WIDGET_VIEW, {}).get("model_id")], set()
        while waiting:  # the widget, then all the widgets it contains
            name = waiting.pop()
            if name in seen or name not in models:
                continue
            seen.add(name)
            state = models[name]["state"]
            waiting += re.findall(r'"IPY_MODEL_([^"]+)"', json.dumps(state))
            for shown in state.get("outputs", ()):
                if shown["output_type"] == "error":
                    yield f"cell [{number}], inside its widget: {_sentence(shown['ename'], shown['evalue'])}"


def stderr_lines(executed: nbformat.NotebookNode) -> Iterator[str]:
    """For each output on stderr, one line with the cell's number and the first line of the text."""
    for number, output in _outputs(executed):
        if output.output_type == "stream" and output.name == "stderr":
            yield _sentence(f"cell [{number}] wrote to stderr", output.text)


def _outputs(executed: nbformat.NotebookNode) -> Iterator[tuple[int, nbformat.NotebookNode]]:
    for cell in executed.cells:
        for output in cell.get("outputs", ()):
            yield cell.execution_count, output


def _sentence(name: str, message: str) -> str:
    return f"{name}: {(message.strip().splitlines() or [''])[0]}"[:LONGEST_MESSAGE]
