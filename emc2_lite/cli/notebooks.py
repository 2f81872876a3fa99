"""The commands that execute or open the chapters."""

import os
import sys
from glob import escape
from importlib.util import find_spec
from pathlib import Path

import click

from emc2_lite.cli.options import Folder, check_writable, literals, parameters_option
from emc2_lite.cli.sentences import INTERRUPTED


@click.command()
@click.argument("chapters", nargs=-1)
@click.option(
    "--output",
    type=Folder(),
    default=Path("build/course"),
    show_default=True,
    help="Folder for the executed notebooks.",
)
@parameters_option("Set a value of the parameters cell in the chapters that have it; may be repeated.")
def course(chapters, output, parameters):
    """Execute the chapters, all or those named by number or file, and say which of them work.

    A chapter that fails is named with its cell and error, and the others still run. The executed notebooks are left
    in the output folder. The exit status is 1 if any chapter failed.
    """
    notebooks = _chapters(chapters)
    _check_output(notebooks, output)
    _need("papermill", "ipykernel", "nbformat", "plotly", "anywidget", "ipywidgets")
    try:
        results = _execute(notebooks, output, literals(parameters))
    except KeyboardInterrupt:
        click.echo(f"\nInterrupted. The chapters that were finished are in {output}.", err=True)
        sys.exit(INTERRUPTED)
    click.echo(_table(results))
    failed = [result.chapter for result in results if result.error]
    if failed:
        raise click.ClickException(f"{len(failed)} of {len(results)} chapters failed: {', '.join(failed)}.")


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def lab(arguments):
    """Open the chapters in JupyterLab; further arguments are handed to it."""
    folder = _folder()
    _need("jupyterlab", "ipykernel", "plotly", "anywidget", "ipywidgets")
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", str(folder), *arguments])


def _check_output(notebooks: list[Path], output: Path) -> None:
    """The executed copies must not take the place of the chapters, nor of each other, and there must be a place."""
    if any((output / notebook.name).resolve() == notebook.resolve() for notebook in notebooks):
        raise click.UsageError(f"--output is {output}, where the chapters lie: choose another, such as build/course")
    if len({notebook.name for notebook in notebooks}) < len(notebooks):
        raise click.UsageError("two of the notebooks have the same file name: execute them one at a time")
    check_writable(output)


def _execute(notebooks: list[Path], output: Path, parameters: dict) -> list:
    try:
        from papermill import inspect_notebook
        from tqdm import tqdm

        from emc2_lite.course.runner import execute
    except Exception as failure:
        message = f'The course cannot be run ({failure}). "emc2-lite doctor" says what to do.'
        raise click.ClickException(message) from None
    known = {notebook: set(inspect_notebook(notebook)) for notebook in notebooks} if parameters else {}
    if unknown := set(parameters).difference(*known.values()):
        raise click.UsageError(f"no parameter {', '.join(sorted(unknown))} in the chosen chapters")
    for notebook in notebooks:
        (output / notebook.name).unlink(missing_ok=True)
    results = []
    for number, notebook in enumerate(notebooks, start=1):
        place = f"[{number}/{len(notebooks)}] {notebook.stem}"
        own = {name: value for name, value in parameters.items() if name in known[notebook]}
        click.echo(place)
        with tqdm(desc="  cells", bar_format="{desc} {n}/{total} {elapsed}", leave=False, disable=None) as bar:

            def show(cell, total, bar=bar):
                bar.total = total
                bar.update()

            result = execute(notebook, output / notebook.name, parameters=own, on_cell=show)
        results.append(result)
        for warning in result.warnings:
            click.echo(f"  warning: {warning}")
        outcome = f"failed in {result.error}" if result.error else "ok"
        click.echo(f"  {outcome} ({result.cells} cells, {result.seconds:.1f} s)")
    return results


def _table(results: list) -> str:
    width = max(len(result.chapter) for result in results)
    lines = [f"{'chapter':{width}}  seconds  cells  result"]
    for result in results:
        outcome = "failed" if result.error else "ok"
        lines.append(f"{result.chapter:{width}}  {result.seconds:7.1f}  {result.cells:5d}  {outcome}")
    return "\n" + "\n".join(lines)


def _folder() -> Path:
    """``chapters/`` here, or else in the repository that this package was installed from."""
    for folder in (Path("chapters"), Path(__file__).parents[2] / "chapters"):
        if folder.is_dir():
            return folder
    raise click.UsageError("there is no folder chapters/ here: run this in a clone of the repository")


def _chapters(wanted: tuple[str, ...]) -> list[Path]:
    """The notebooks named in ``wanted`` by path, by name or by the beginning of it; all of them if it is empty."""
    if not wanted:
        notebooks = sorted(_folder().glob("*.ipynb"))
        if not notebooks:
            raise click.UsageError(f"there are no notebooks in {_folder()}")
        return notebooks
    chosen = []
    for name in wanted:
        matches = [Path(name)] if name.endswith(".ipynb") else sorted(_folder().glob(f"{escape(name)}*.ipynb"))
        if not name or not matches or not all(match.is_file() for match in matches):
            raise click.UsageError(f"there is no chapter {name!r}")
        chosen += [match for match in matches if match not in chosen]
    return chosen


def _need(*modules: str) -> None:
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise click.ClickException(
            f"{', '.join(missing)} not installed, which the course needs: "
            'run "make setup" in the repository, or "pip install -e .[course]" there.'
        )
