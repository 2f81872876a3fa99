"""Execute a chapter from its first cell to its last in a fresh kernel, and say in one line what went wrong."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    """What came of one chapter; ``error`` is None when every cell ran, ``warnings`` are for its authors."""

    chapter: str
    seconds: float
    cells: int
    error: str | None
    warnings: tuple[str, ...]


class ThisInterpreter(AsyncKernelManager):
    """Starts kernels of the running Python, whatever kernels the user has registered under the name python3."""

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(**get_kernel_dict(["--log-level=CRITICAL"]))


def execute(
    notebook: Path,
    output: Path,
    *,
    parameters: dict | None = None,
    environment: dict[str, str] | None = None,
    on_cell: Callable[[int, int], None] = lambda number, total: None,
) -> Result:
    """Execute ``notebook`` in its own folder and write the executed copy to ``output``, whole or not at all.

    A cell that raises, a kernel that dies and an error shown inside a widget each make ``Result.error``; text on
    stderr makes a warning. ``environment`` is set for the run, ``on_cell`` is called before each code cell with its
    number and the number of them all.
    """
    started = time.perf_counter()
    total = number = 0

    def count(cell, cell_index):
        nonlocal number
        number += 1
        on_cell(number, total)

    output.parent.mkdir(parents=True, exist_ok=True)
    output.unlink(missing_ok=True)
    error = None
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".running-") as folder, _environment(environment or {}):
        draft = Path(folder) / output.name
        try:
            cells = nbformat.read(notebook, as_version=4).cells
            total = sum(cell.cell_type == "code" and bool(cell.source.strip()) for cell in cells)
            papermill.execute_notebook(
                notebook.resolve(),
                draft.resolve(),
                parameters=parameters,
                kernel_name="python3",
                cwd=notebook.resolve().parent,
                progress_bar=False,
                request_save_on_cell_execute=False,
                kernel_manager_class=ThisInterpreter,
                coalesce_streams=True,
                on_cell_execute=count,
            )
        except PapermillExecutionError as failure:
            error = f"cell [{failure.exec_count}]: {_sentence(failure.ename, failure.evalue)}"
        except DeadKernelError:
            error = f"cell [{number}]: the kernel died; was there enough memory?"
        except Exception as failure:
            error = _sentence(type(failure).__name__, str(failure))
        warnings = ()
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
        root = output.get("data", {}).get(WIDGET_VIEW, {}).get("model_id")
        for model in _reached_from(root, models):
            for shown in models[model]["state"].get("outputs", ()):
                if shown["output_type"] == "error":
                    yield f"cell [{number}], inside its widget: {_sentence(shown['ename'], shown['evalue'])}"


def stderr_lines(executed: nbformat.NotebookNode) -> Iterator[str]:
    """One line for each cell that wrote to stderr, with the first line of what it wrote."""
    for number, output in _outputs(executed):
        if output.output_type == "stream" and output.name == "stderr":
            first = (output.text.strip().splitlines() or [""])[0]
            yield f"cell [{number}] wrote to stderr: {first[:LONGEST_MESSAGE]}"


def _outputs(executed: nbformat.NotebookNode) -> Iterator[tuple[int, nbformat.NotebookNode]]:
    for cell in executed.cells:
        for output in cell.get("outputs", ()):
            yield cell.execution_count, output


def _reached_from(root: str | None, models: dict) -> list[str]:
    """The widget model ``root`` and all the models it contains, each once."""
    found, waiting = [], [root]
    while waiting:
        model = waiting.pop()
        if model not in models or model in found:
            continue
        found.append(model)
        waiting.extend(_references(models[model]["state"]))
    return found


def _references(value) -> Iterator[str]:
    if isinstance(value, str) and value.startswith("IPY_MODEL_"):
        yield value.removeprefix("IPY_MODEL_")
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _references(part)


def _sentence(name: str, message: str) -> str:
    first = (message.strip().splitlines() or [""])[0]
    return f"{name}: {first}"[:LONGEST_MESSAGE]


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
