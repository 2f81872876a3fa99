"""The commands that execute or open the chapters."""

import os
import sys
from glob import escape
from importlib.util import find_spec
from pathlib import Path

import click

from emc2_lite.cli.chapters import chapters_folder
from emc2_lite.cli.options import FOLDER, check_writable, columns, literals, parameters_option
from emc2_lite.cli.sentences import INTERRUPTED
from emc2_lite.doctor import INSTALL

DEFAULT = Path("build/course")
folder_option = click.option(
    "--folder",
    type=FOLDER,
    help="Copy the chapters to this folder first, keeping what you changed there.  [default outside of a clone: "
    "emc2-lite-chapters]",
)


@click.command()
@click.argument("chapters", nargs=-1)
@click.option("--output", type=FOLDER, default=DEFAULT, show_default=True, help="Folder for the executed notebooks.")
@folder_option
@parameters_option("Set a value of the parameters cell in the chapters that have it; may be repeated.")
def course(chapters, output, folder, parameters):
    """Execute the chapters, all or those named by number or file, and say which of them work.

    A chapter that fails is named with its cell and error, and the others still run. The executed notebooks are left
    in the output folder. The exit status is 1 if any chapter failed.
    """
    notebooks = _chapters(chapters, folder)
    if any((output / notebook.name).resolve() == notebook.resolve() for notebook in notebooks):
        raise click.UsageError(f"--output is {output}, where the chapters lie: choose another, such as {DEFAULT}")
    if len({notebook.name for notebook in notebooks}) < len(notebooks):
        raise click.UsageError("two of the notebooks have the same file name: execute them one at a time")
    check_writable(output)
    _need("papermill", "nbformat")
    try:
        rows = _execute(notebooks, output, literals(parameters))
    except KeyboardInterrupt:
        click.echo(f"\nInterrupted. The chapters that were finished are in {output}.", err=True)
        sys.exit(INTERRUPTED)
    click.echo(f"\n{columns(rows)}")
    if failed := [row["chapter"] for row in rows if row["result"] == "failed"]:
        raise click.ClickException(f"{len(failed)} of {len(rows)} chapters failed: {', '.join(failed)}.")


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@folder_option
def lab(arguments, folder):
    """Open the chapters in JupyterLab, which gets all further arguments.

    In a clone of the repository these are its chapters/, elsewhere a copy of those that came with the package.
    """
    _need("jupyterlab")
    folder = chapters_folder(folder)
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", str(folder), *arguments])


def _execute(notebooks: list[Path], output: Path, parameters: dict) -> list[dict]:
    """Execute the notebooks one after the other, and return a row of the final table for each."""
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
    rows = []
    for number, notebook in enumerate(notebooks, start=1):
        own = {name: value for name, value in parameters.items() if name in known[notebook]}
        click.echo(f"[{number}/{len(notebooks)}] {notebook.stem}")
        with tqdm(desc="  cells", bar_format="{desc} {n}/{total} {elapsed}", leave=False, disable=None) as bar:

            def show(cell, total, bar=bar):
                bar.total = total
                bar.update()

            result = execute(notebook, output / notebook.name, parameters=own, on_cell=show)
        for warning in result.warnings:
            click.echo(f"  warning: {warning}")
        verdict, seconds = "failed" if result.error else "ok", f"{result.seconds:.1f}"
        click.echo(f"  {verdict}{f' in {result.error}' if result.error else ''} ({result.cells} cells, {seconds} s)")
        rows.append({"chapter": result.chapter, "seconds": seconds, "cells": result.cells, "result": verdict})
    return rows


def _chapters(wanted: tuple[str, ...], folder: Path | None) -> list[Path]:
    """The notebooks that have a path or the beginning of a name in ``wanted``; all notebooks if ``wanted`` is empty."""
    chosen: list[Path] = []
    by_name = not wanted or not all(name.endswith(".ipynb") for name in wanted)
    found = chapters_folder(folder) if by_name else Path()
    for name in wanted or ("",):
        matches = [Path(name)] if name.endswith(".ipynb") else sorted(found.glob(f"{escape(name)}*.ipynb"))
        if not matches or not all(match.is_file() for match in matches) or (wanted and not name):
            raise click.UsageError(f"there is no chapter {name!r}")
        chosen += [match for match in matches if match not in chosen]
    return chosen


def _need(*modules: str) -> None:
    """Refuse, naming them, where some of the modules or of those that every chapter needs are not installed."""
    needed = (*modules, "ipykernel", "plotly", "anywidget", "ipywidgets")
    if missing := [module for module in needed if find_spec(module) is None]:
        raise click.ClickException(f"{', '.join(missing)} not installed, which the course needs: {INSTALL}.")
