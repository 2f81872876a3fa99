"""The command line ``emc2-lite``. What a command needs is imported inside it, so that ``doctor`` always runs."""

import ast
import os
import sys
import tempfile
import time
from glob import escape
from importlib.util import find_spec
from pathlib import Path

import click

INTERRUPTED = 130
COLOURS = {"ok": "green", "warning": "yellow", "lack": "red"}


def _parameters(words: str):
    """The option -p NAME VALUE of a command."""
    return click.option("-p", "--parameter", "parameters", nargs=2, multiple=True, metavar="NAME VALUE", help=words)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="emc2-lite")
def main():
    """EMC2, contrastive learning with Markov-chain negatives: the course and the library's experiments."""


@main.command()
def doctor():
    """Look at this machine and say what is lacking, and what to do about it.

    The exit status is 1 if something that the course needs is lacking; warnings do not count.
    """
    from emc2_lite.doctor import examine

    lacks = 0
    for finding in examine():
        verdict = click.style(f"{finding.verdict:8}", fg=COLOURS[finding.verdict])
        click.echo(f"{verdict} {finding.subject}: {finding.words}" + (f" ({finding.remedy})" if finding.remedy else ""))
        lacks += finding.verdict == "lack"
    if lacks:
        raise click.ClickException(f"{lacks} of the things above are lacking; the brackets say what to do.")
    click.echo("Everything that the course needs is here.")


@main.command()
@click.argument("chapters", nargs=-1)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("build/course"),
    show_default=True,
    help="Folder for the executed notebooks.",
)
@_parameters("Set a value of the parameters cell in the chapters that have it; may be repeated.")
def course(chapters, output, parameters):
    """Execute the chapters, all or those named by number or file, and say which of them work.

    A chapter that fails is named with its cell and error, and the others still run. The executed notebooks are left
    in the output folder. The exit status is 1 if any chapter failed.
    """
    notebooks = _chapters(chapters)
    _check_output(notebooks, output)
    _need("papermill", "ipykernel", "nbformat", "plotly", "anywidget", "ipywidgets")
    try:
        results = _execute(notebooks, output, _literals(parameters))
    except KeyboardInterrupt:
        click.echo(f"\nInterrupted. The chapters that were finished are in {output}.", err=True)
        sys.exit(INTERRUPTED)
    click.echo(_table(results))
    failed = [result.chapter for result in results if result.error]
    if failed:
        raise click.ClickException(f"{len(failed)} of {len(results)} chapters failed: {', '.join(failed)}.")


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def lab(arguments):
    """Open the chapters in JupyterLab; further arguments are handed to it."""
    folder = _folder()
    _need("jupyterlab", "ipykernel", "plotly", "anywidget", "ipywidgets")
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", str(folder), *arguments])


@main.command()
@click.argument("name")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File for the record.  [default: build/records/NAME.json]",
)
@_parameters("Set a parameter of the experiment, such as -p seeds 2; may be repeated.")
def experiment(name, output, parameters):
    """Run an experiment of the gradient laboratory and write its record.

    \b
    gradient-error  the paper's: each gradient against the exact one, from scratch
                    (-p data stl10 for its own images, in data/downloads)
    jump            what stale states cost when the encoder has moved
    quality         bias, error and direction of every estimator's gradient
    stationarity    the exact gradient's squared norm over the number of steps
    training        training from scratch, and the exact global loss

    With their defaults these are the runs of data/records: minutes to an hour each. The table at the end has means
    over seeds; the record also has every measurement, the settings and the versions.
    """
    from emc2_lite.laboratory.experiments import EXPERIMENTS

    if name not in EXPERIMENTS:
        raise click.UsageError(f"there is no experiment {name!r}: use one of {', '.join(EXPERIMENTS)}")
    output = output or Path("build/records") / f"{name.replace('-', '_')}.json"
    try:
        config = EXPERIMENTS[name].config(_literals(parameters))
    except ValueError as problem:
        raise click.UsageError(str(problem)) from None
    _check_writable(output.parent)
    try:
        record = _record(name, config)
    except (ValueError, OSError) as problem:
        raise click.ClickException(str(problem)) from None
    except KeyboardInterrupt:
        click.echo("\nInterrupted. No record was written.", err=True)
        sys.exit(INTERRUPTED)
    from emc2_lite.records import write_record

    try:
        write_record(output, record)
    except OSError as failure:
        raise click.ClickException(f"cannot write {output} ({failure.strerror}): choose another --output") from None
    click.echo(_columns(record["final"]))
    click.echo(f"{output} ({record['seconds']:.0f} s)")


def _record(name: str, config: dict) -> dict:
    """Run the experiment on one thread, which is fastest for its small tensors, and tell of its progress."""
    import torch

    from emc2_lite.laboratory.experiments import EXPERIMENTS
    from emc2_lite.records import circumstances

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    started = time.perf_counter()

    def progress(text: str) -> None:
        click.echo(f"[{time.perf_counter() - started:6.0f} s] {text}", err=True)

    try:
        rows = list(EXPERIMENTS[name].run(**config, progress=progress))
    finally:
        torch.set_num_threads(threads)
    return {
        "experiment": name,
        "config": config,
        "seeds": list(range(config["seeds"])),
        **circumstances("cpu"),
        "seconds": round(time.perf_counter() - started, 1),
        "metrics": rows,
        "final": EXPERIMENTS[name].final(rows),
    }


def _columns(rows: list[dict]) -> str:
    """A table of the rows' fields, intervals left to the record."""
    names = [name for name in rows[0] if not name.endswith(("_low", "_high"))]
    cells = [names] + [[f"{row[n]:.4g}" if isinstance(row[n], float) else str(row[n]) for n in names] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(f"{cell:{w}}" for cell, w in zip(line, widths, strict=True)).rstrip() for line in cells)


def _check_output(notebooks: list[Path], output: Path) -> None:
    """The executed copies must not take the place of the chapters, nor of each other, and there must be a place."""
    if any((output / notebook.name).resolve() == notebook.resolve() for notebook in notebooks):
        raise click.UsageError(f"--output is {output}, where the chapters lie: choose another, such as build/course")
    if len({notebook.name for notebook in notebooks}) < len(notebooks):
        raise click.UsageError("two of the notebooks have the same file name: execute them one at a time")
    _check_writable(output)


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as failure:
        raise click.ClickException(f"cannot write to {folder} ({failure.strerror}): choose another --output") from None


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


def _literals(parameters: tuple[tuple[str, str], ...]) -> dict:
    """Python literals where they are such, text otherwise."""
    values = {}
    for name, text in parameters:
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            value = text
        if not isinstance(value, int | float | bool | str | list | dict | None):
            raise click.UsageError(f"{name} is {text}: a parameter is a number, a text, a list or a dictionary")
        values[name] = value
    return values


def _folder() -> Path:
    """``chapters/`` here, or else in the repository that this package was installed from."""
    for folder in (Path("chapters"), Path(__file__).parents[1] / "chapters"):
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


if __name__ == "__main__":
    main()
