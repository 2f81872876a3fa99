"""The solved copy of a chapter: the learner's notebook with each exercise's stub replaced by its solution.

``python -m emc2_lite.course.solved chapters/*.ipynb --output FOLDER`` writes the copies; chapters/solutions is the
one source of the solutions.
"""

import ast
import re
from pathlib import Path

import click
import nbformat

CHECKED = re.compile(r"\bchecks\.(\w+)\(")


def solved(notebook: nbformat.NotebookNode, solutions: Path) -> nbformat.NotebookNode:
    """A copy of ``notebook`` without outputs, with the solutions of the file ``solutions`` in place of the stubs.

    A cell that calls ``checks.NAME`` has the definition of NAME, or the line ``NAME = ...``, replaced by the
    definition of NAME in the file. The first of these cells gets the file's imports too.
    Raises: ValueError: the file has no solution to an exercise of the notebook, or one to no exercise.
    """
    text = solutions.read_text(encoding="utf-8")
    statements = ast.parse(text).body
    imports = [ast.unparse(part) for part in statements if isinstance(part, ast.Import | ast.ImportFrom)]
    written = [part for part in statements if isinstance(part, ast.FunctionDef | ast.ClassDef)]
    definitions = {part.name: ast.get_source_segment(text, part) or "" for part in written}
    copy = nbformat.from_dict(notebook)
    unused = set(definitions)
    for cell in copy.cells:
        if cell.cell_type != "code":
            continue
        cell.outputs, cell.execution_count = [], None
        for name in CHECKED.findall(cell.source):
            if name not in definitions:
                raise ValueError(f"{solutions.name} has no solution to the exercise {name}")
            cell.source = _replaced(cell.source, name, definitions[name])
            if len(unused) == len(definitions):
                cell.source = "\n".join([*imports, "\n", cell.source])
            unused.discard(name)
    if unused:
        raise ValueError(f"{solutions.name} has solutions to no exercise: {', '.join(sorted(unused))}")
    return copy


def _replaced(source: str, name: str, solution: str) -> str:
    """``source`` with the definition of ``name``, or the line ``name = ...``, replaced by ``solution``."""
    lines = source.splitlines()
    for part in ast.parse(source).body:
        if getattr(part, "name", None) == name or ast.unparse(part) == f"{name} = ...":
            return "\n".join([*lines[: part.lineno - 1], solution, *lines[part.end_lineno :]])
    raise ValueError(f"the cell that checks {name} has neither a definition of {name} nor the line {name} = ...")


@click.command()
@click.argument("chapters", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of the copies.")
def main(chapters: tuple[Path, ...], output: Path) -> None:
    """Write the solved copies of CHAPTERS."""
    output.mkdir(parents=True, exist_ok=True)
    for path in chapters:
        file = path.parent / "solutions" / f"{path.stem}.py"
        if file.exists():
            nbformat.write(solved(nbformat.read(path, as_version=4), file), output / path.name)
            click.echo(output / path.name)


if __name__ == "__main__":
    main()
