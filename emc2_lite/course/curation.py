"""Make the committed form of a chapter: freshly executed, figures stored, nothing of the author's machine in it.

``python -m emc2_lite.course.curation chapters/*.ipynb`` executes each notebook in a fresh kernel with
``EMC2_COURSE_OUTPUT=static`` and saves the curated result in its place. A chapter that has an error, text on stderr
or anything that differs from one run or machine to the next is left as it was, and the reason is printed.
"""

import hashlib
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbformat

from emc2_lite.course.runner import WIDGET_VIEW, execute, stderr_lines
from emc2_lite.records import write_whole

KEPT_CELL_METADATA = ("tags", "jupyter", "cellView")
KERNEL = {"display_name": "Python 3", "name": "python3"}
ADDRESS = re.compile(r"\bat 0x[0-9a-f]{6,}")
# Homes and temporary folders, not inside a longer word, so that base64 data cannot match; and installed packages.
USUAL_FOLDERS = "/(?:home|Users|root|tmp|var/folders|private/var|opt)/"
BEFORE_A_FOLDER = r"(?<![A-Za-z0-9+/=.\-])"
INSTALLED = r"site-packages|\b[A-Z]:\\+Users\b"


class NotCommittable(Exception):
    """The executed notebook holds something that must not be committed; the message says what and where."""


def curate(executed: nbformat.NotebookNode, *, private: tuple[Path, ...] = ()) -> nbformat.NotebookNode:
    """The committed form of an executed notebook; ``private`` are further folders whose path must not appear in it.

    Keeps sources, tags and outputs; drops widgets, timings and editor settings; numbers executions 1 to n and derives
    each cell's id from its source. Raises ``NotCommittable``.
    """
    problems = list(stderr_lines(executed)) + list(_unstable(executed, private))
    if problems:
        raise NotCommittable("; ".join(problems))
    cells, ids, executions = [], set(), 0
    for cell in executed.cells:
        new = {
            "cell_type": cell.cell_type,
            "id": _identity(cell, ids),
            "metadata": {key: cell.metadata[key] for key in KEPT_CELL_METADATA if cell.metadata.get(key)},
            "source": cell.source,
        }
        if cell.cell_type == "code":
            executions += bool(cell.source.strip())
            number = executions if cell.source.strip() else None
            new |= {"execution_count": number, "outputs": [_numbered(o, number) for o in _lasting(cell.outputs)]}
        cells.append(new)
    metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    curated = nbformat.from_dict({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})
    nbformat.validate(curated)
    return curated


def save(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Write ``notebook`` to ``path``, or leave what is there untouched."""
    write_whole(path, nbformat.writes(notebook) + "\n")


def remake(path: Path) -> str | None:
    """Execute the notebook and save its curated form in its place; returns why not, or None when it is done."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / path.name
        result = execute(path, output, environment={"EMC2_COURSE_OUTPUT": "static"})
        if result.error:
            return result.error
        executed = nbformat.read(output, as_version=4)
    folders = (Path.home(), path.resolve().parents[1], Path(tempfile.gettempdir()), Path(sys.prefix))
    try:
        curated = curate(executed, private=folders)
    except NotCommittable as problem:
        return str(problem)
    save(curated, path)
    return None


def paths_in(notebook: nbformat.NotebookNode, private: tuple[Path, ...] = ()) -> Iterator[str]:
    """One line for each cell whose outputs name a folder of the machine it ran on."""
    names = [re.escape(str(path)) + r"\b" for path in private if len(path.parts) > 1]
    pattern = re.compile(f"{BEFORE_A_FOLDER}(?:{'|'.join([*names, USUAL_FOLDERS])})|{INSTALLED}")
    for cell, text in _texts(notebook):
        if found := pattern.search(text):
            around = text[found.start() : found.end() + 40].splitlines()[0]
            yield f"cell [{cell.execution_count}] shows a path of this machine: {around}"


def _unstable(notebook: nbformat.NotebookNode, private: tuple[Path, ...]) -> Iterator[str]:
    yield from paths_in(notebook, private)
    for cell, text in _texts(notebook):
        if found := ADDRESS.search(text):
            yield f"cell [{cell.execution_count}] shows a memory address: {found.group()}"


def _texts(notebook: nbformat.NotebookNode) -> Iterator[tuple[nbformat.NotebookNode, str]]:
    for cell in notebook.cells:
        for output in _lasting(cell.get("outputs", ())):
            data = {kind: value for kind, value in output.get("data", {}).items() if not kind.startswith("image/")}
            yield cell, output.get("text", "") + "\n".join(output.get("traceback", ())) + json.dumps(data)


def _lasting(outputs: list) -> list[nbformat.NotebookNode]:
    """The outputs that mean something without a kernel: a widget's view does not, nor does the text beside it."""
    return [output for output in outputs if WIDGET_VIEW not in output.get("data", {})]


def _numbered(output: nbformat.NotebookNode, number: int) -> dict:
    return {**output, "execution_count": number} if output.output_type == "execute_result" else dict(output)


def _identity(cell: nbformat.NotebookNode, taken: set[str]) -> str:
    digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:8]
    copies = (digest, *(f"{digest}-{copy}" for copy in range(2, len(taken) + 3)))
    identity = next(name for name in copies if name not in taken)
    taken.add(identity)
    return identity


def main(paths: list[str]) -> int:
    """Remake the notebooks one after another; the exit status is 1 if any could not be saved."""
    failed = 0
    for number, path in enumerate(map(Path, paths), start=1):
        print(f"[{number}/{len(paths)}] {path.stem} ...", end=" ", flush=True)
        problem = remake(path)
        print(f"not saved: {problem}" if problem else "saved", flush=True)
        failed += problem is not None
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
