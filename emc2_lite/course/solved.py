"""Copies of a chapter for a class: solved, with each exercise's stub replaced by its solution, or without solutions.

``python -m emc2_lite.course.solved chapters/*.ipynb --output FOLDER`` writes the solved copies, ``--without`` those
without solutions; chapters/solutions is the one source of the solutions.
"""

import ast
import re
from pathlib import Path

import click
import nbformat

SOLUTION = re.compile(r"\n*<details><summary>Solution.*?</details>", re.DOTALL)
CHECKED = re.compile(r"\bchecks\.(\w+)\(")


def solved(notebook: nbformat.NotebookNode, solutions: Path) -> nbformat.NotebookNode:
    """A copy of ``notebook`` without outputs, with the solutions of the file ``solutions`` in place of the stubs.

    A cell that calls ``checks.NAME`` has the definition of NAME, or the line ``NAME = ...``, replaced by the
    definition of NAME in the file. The first of these cells gets the file's imports too.
    Raises: ValueError: the file has no solution to an exercise of the notebook, or one to no exercise.
    """
    written = definitions(solutions)
    statements = ast.parse(solutions.read_text(encoding="utf-8")).body
    imports = [ast.unparse(part) for part in statements if isinstance(part, ast.Import | ast.ImportFrom)]
    copy = nbformat.from_dict(notebook)
    unused = set(written)
    for cell in copy.cells:
        if cell.cell_type != "code":
            continue
        cell.outputs, cell.execution_count = [], None
        for name in CHECKED.findall(cell.source):
            if name not in written:
                raise ValueError(f"{solutions.name} has no solution to the exercise {name}")
            cell.source = _replaced(cell.source, name, written[name])
            if len(unused) == len(written):
                cell.source = "\n".join([*imports, "\n", cell.source])
            unused.discard(name)
    if unused:
        raise ValueError(f"{solutions.name} has solutions to no exercise: {', '.join(sorted(unused))}")
    return copy


def unsolved(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy of ``notebook`` without outputs and without its folded solutions; the hints stay."""
    copy = nbformat.from_dict(notebook)
    for cell in copy.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        else:
            cell.source = SOLUTION.sub("", cell.source)
    return copy


def definitions(solutions: Path) -> dict[str, str]:
    """The code of each solution in a file of solutions, by the exercise's name."""
    text = solutions.read_text(encoding="utf-8")
    written = [part for part in ast.parse(text).body if isinstance(part, ast.FunctionDef | ast.ClassDef)]
    return {part.name: ast.get_source_segment(text, part) or "" for part in written}


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
@click.option("--without", is_flag=True, help="Copies without solutions, in place of solved ones.")
def main(chapters: tuple[Path, ...], output: Path, without: bool) -> None:
    """Write the solved copies of CHAPTERS, or copies without solutions."""
    output.mkdir(parents=True, exist_ok=True)
    for path in chapters:
        file = path.parent / "solutions" / f"{path.stem}.py"
        if file.exists():
            notebook = nbformat.read(path, as_version=4)
            nbformat.write(unsolved(notebook) if without else solved(notebook, file), output / path.name)
            click.echo(output / path.name)


if __name__ == "__main__":
    main()
