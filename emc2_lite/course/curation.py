"""Make the committed form of a chapter: freshly executed, with stored figures, without traces of the author's machine.

``python -m emc2_lite.course.curation chapters/*.ipynb`` executes each notebook in a fresh kernel with
``EMC2_COURSE_OUTPUT=static`` and saves the curated result in its place. A chapter is left unchanged and the reason is
printed when the result has an error, text on stderr or anything that differs between runs or machines.
"""

import base64
import hashlib
import io
import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import nbformat
from PIL import Image

from emc2_lite.course.runner import WIDGET_VIEW, execute, stderr_lines
from emc2_lite.records import write_whole

KEPT_CELL_METADATA = ("tags", "jupyter", "cellView")
METADATA = {"kernelspec": {"display_name": "Python 3", "name": "python3"}, "language_info": {"name": "python"}}
MEMORY_ADDRESS = re.compile(r"\bat 0x[0-9a-f]{6,}")
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
    problems = [*stderr_lines(executed), *machine_traces(executed, private)]
    if problems:
        raise NotCommittable("; ".join(problems))
    cells, ids, executions = [], Counter[str](), 0
    for cell in executed.cells:
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:8]
        ids[digest] += 1
        name = digest if ids[digest] == 1 else f"{digest}-{ids[digest]}"
        metadata = {key: cell.metadata[key] for key in KEPT_CELL_METADATA if cell.metadata.get(key)}
        new = {"cell_type": cell.cell_type, "id": name, "metadata": metadata, "source": cell.source}
        if cell.cell_type == "code":
            executions += bool(cell.source.strip())
            number = executions if cell.source.strip() else None
            outputs = [{**o, "execution_count": number} if "execution_count" in o else dict(o) for o in _lasting(cell)]
            for output in outputs:
                if picture := output.get("data", {}).get("image/png"):
                    output["data"] = {**output["data"], "image/png": _in_256_colours(picture)}
            new |= {"execution_count": number, "outputs": outputs}
        cells.append(new)
    curated = nbformat.from_dict({"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5})
    nbformat.validate(curated)
    return curated


def save(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Write ``notebook`` to ``path``, or leave the file there unchanged."""
    write_whole(path, nbformat.writes(notebook) + "\n")


def remake(path: Path) -> str | None:
    """Execute the notebook and save its curated form in its place; returns the reason if that fails, else None."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / path.name
        result = execute(path, output, environment={"EMC2_COURSE_OUTPUT": "static"})
        if result.error:
            return result.error
        executed = nbformat.read(output, as_version=4)
    folders = (Path.home(), path.resolve().parents[1], Path(tempfile.gettempdir()), Path(sys.prefix))
    try:
        save(curate(executed, private=folders), path)
    except NotCommittable as problem:
        return str(problem)
    return None


def machine_traces(notebook: nbformat.NotebookNode, private: tuple[Path, ...] = ()) -> Iterator[str]:
    """One line for each path of a folder and each memory address that a cell's output shows."""
    names = [re.escape(str(path)) + r"\b" for path in private if len(path.parts) > 1]
    path = re.compile(f"{BEFORE_A_FOLDER}(?:{'|'.join([*names, USUAL_FOLDERS])})|{INSTALLED}")
    for cell in notebook.cells:
        for output in _lasting(cell):
            data = {kind: value for kind, value in output.get("data", {}).items() if not kind.startswith("image/")}
            text = output.get("text", "") + "\n".join(output.get("traceback", ())) + json.dumps(data)
            if found := path.search(text):
                around = text[found.start() : found.end() + 40].splitlines()[0]
                yield f"cell [{cell.execution_count}] shows a path of this machine: {around}"
            if found := MEMORY_ADDRESS.search(text):
                yield f"cell [{cell.execution_count}] shows a memory address: {found.group()}"


def _lasting(cell: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """The outputs that need no kernel; a widget's view does, and the text beside the view means nothing."""
    return [output for output in cell.get("outputs", ()) if WIDGET_VIEW not in output.get("data", {})]


def _in_256_colours(picture: str) -> str:
    """A PNG in base64 with a palette, a quarter of the size or less; figures and small photographs look the same."""
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGBA")
    content = io.BytesIO()
    image.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(content, "PNG", optimize=True)
    return base64.b64encode(content.getvalue()).decode()


def main(paths: list[str]) -> int:
    """Remake the notebooks one after another; the exit status is 1 if any could not be saved."""
    failed = False
    for number, path in enumerate(map(Path, paths), start=1):
        print(f"[{number}/{len(paths)}] {path.stem} ...", end=" ", flush=True)
        problem = remake(path)
        print(f"not saved: {problem}" if problem else "saved", flush=True)
        failed |= problem is not None
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
