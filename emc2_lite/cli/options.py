"""What several commands share: options, tables, checks."""

import ast
import tempfile
from collections.abc import Callable
from pathlib import Path

import click

from emc2_lite.records import write_whole


class Folder(click.Path):
    """A folder, ~ for the home folder included."""

    def __init__(self):
        super().__init__(file_okay=False, path_type=Path)

    def convert(self, value, param, ctx):
        return super().convert(Path(value).expanduser(), param, ctx)


CHANGES = "Change a value of the configuration, such as -p training.batch_size 8; may be repeated."
download_option = click.option("--download", is_flag=True, help="Fetch the data set if it is not there.")
skip_option = click.option("--skip-corrupt", is_flag=True, help="Leave out image files that cannot be read.")
device_option = click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), help="Where to compute.")


def output_option(default: Path, words: str):
    return click.option("--output", type=Folder(), help=f"{words}  [default: {default}/NAME]")


def parameters_option(words: str):
    """The option -p NAME VALUE of a command."""
    return click.option("-p", "--parameter", "parameters", nargs=2, multiple=True, metavar="NAME VALUE", help=words)


def columns(rows: list[dict]) -> str:
    """A table of the rows' fields, intervals left to the record."""
    names = [name for name in rows[0] if not name.endswith(("_low", "_high"))]
    cells = [names] + [[f"{row[n]:.4g}" if isinstance(row[n], float) else str(row[n]) for n in names] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(f"{cell:{w}}" for cell, w in zip(line, widths, strict=True)).rstrip() for line in cells)


def check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as failure:
        raise click.ClickException(f"cannot write to {folder} ({failure.strerror}): choose another --output") from None


WORDS = {"true": True, "false": False, "none": None}


def literals(parameters: tuple[tuple[str, str], ...]) -> dict:
    """Python literals where they are such, true, false and none as TOML and people write them, text otherwise."""
    values = {}
    for name, text in parameters:
        try:
            value = WORDS[text] if text in WORDS else ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            value = text
        if not isinstance(value, int | float | bool | str | list | tuple | dict | None):
            raise click.UsageError(f"{name} is {text}: a parameter is a number, a text, a list or a dictionary")
        values[name] = list(value) if isinstance(value, tuple) else value
    return values


def config_of(name: str, parameters: tuple, device: str | None, skip_corrupt: bool):
    from emc2_lite.training import changed, read_config

    values = literals(parameters)
    if device:
        values["training.device"] = device
    if skip_corrupt:
        values["data.skip_corrupt"] = True
    return changed(read_config(name), **values)


def numbers(text: str, kind: type, option: str) -> tuple:
    try:
        return tuple(kind(item) for item in text.split(","))
    except ValueError:
        raise click.UsageError(f"{option} is {text}: write numbers with commas between, such as 1,5,10") from None


def write_page(path: Path, figures: Callable) -> None:
    """A page of the figures that `figures(emc2_lite.course.figures.runs)` returns, where plotly is installed."""
    try:
        from emc2_lite.course.figures import runs
    except ModuleNotFoundError:
        click.echo('no figure: plotly is not installed (pip install "emc2-lite[widgets]")', err=True)
        return
    write_whole(path, runs.page(figures(runs), path.parent.name))
