"""What several commands share: options, tables, checks."""

import ast
import tempfile
from collections.abc import Callable
from pathlib import Path

import click

from emc2_lite.cli.completion import complete_configs, complete_settings
from emc2_lite.installation import installation
from emc2_lite.records import write_whole


class HomePath(click.Path):
    """A path in which ~ is the home folder."""

    def convert(self, value, param, ctx):
        return super().convert(Path(value).expanduser(), param, ctx)


FOLDER = HomePath(file_okay=False, path_type=Path)
FILE = HomePath(dir_okay=False, path_type=Path)
download_option = click.option("--download", is_flag=True, help="Fetch the data set if it is missing.")
skip_option = click.option("--skip-corrupt", is_flag=True, help="Leave out image files that cannot be read.")
labels_option = click.option(
    "--labels", default="", metavar="N,N,...", help="Also the probe with N labels per class, such as 1,5,10."
)
supervised_option = click.option(
    "--supervised", metavar="EPOCHS", type=click.IntRange(0), default=0, help="Also EPOCHS of the supervised baseline."
)
device_option = click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), help="Where to compute.")


def parameters_option(words: str, complete: Callable | None = None) -> Callable:
    """The option -p NAME VALUE of a command; `complete` says what the Tab key offers."""
    return click.option(
        *("-p", "--parameter", "parameters"),
        nargs=2,
        multiple=True,
        metavar="NAME VALUE",
        help=words,
        shell_complete=complete,
    )


def training_options(folder: str, words: str) -> Callable:
    """CONFIG and the options that `train` and `sweep` share; the default of --output is the folder FOLDER/CONFIG."""

    def output(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path:
        return value or Path(folder) / Path(ctx.params["config"]).stem

    output_option = click.option("--output", type=FOLDER, callback=output, help=f"{words}  [default: {folder}/NAME]")
    words = "Change a value of CONFIG, such as -p training.batch_size 8; may be repeated."
    config, changes = (
        click.argument("config", shell_complete=complete_configs),
        parameters_option(words, complete_settings),
    )
    return lambda command: config(output_option(device_option(download_option(changes(command)))))


def columns(rows: list[dict]) -> str:
    """A table of the rows' fields, without the ends of intervals, which are in the record."""
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


def literals(parameters: tuple[tuple[str, str], ...], *, skip_corrupt: bool = False) -> dict:
    """The values of -p and --skip-corrupt by name: Python literals, true, false and none as in TOML, or else texts."""
    values = {}
    for name, text in parameters:
        try:
            value = ast.literal_eval(text.capitalize() if text in ("true", "false", "none") else text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            value = text
        if not isinstance(value, int | float | bool | str | list | tuple | dict | None):
            raise click.UsageError(f"{name} is {text}: a parameter is a number, a text, a list or a dictionary")
        values[name] = list(value) if isinstance(value, tuple) else value
    return values | ({"data.skip_corrupt": True} if skip_corrupt else {})


def config_of(name: str, parameters: tuple, device: str | None, skip_corrupt: bool):
    from emc2_lite.training import changed, read_config

    values = literals(parameters, skip_corrupt=skip_corrupt) | ({"training.device": device} if device else {})
    return changed(read_config(name), **values)


def numbers(text: str, kind: type, option: str) -> tuple:
    try:
        return tuple(kind(item) for item in text.split(","))
    except ValueError:
        raise click.UsageError(f"{option} is {text}: write numbers with commas between, such as 1,5,10") from None


def write_page(folder: Path, figures: Callable) -> None:
    """Write the figures of `figures(emc2_lite.course.figures.runs)` to figure.html, where plotly is installed."""
    try:
        from emc2_lite.course.figures import runs
    except ModuleNotFoundError:
        click.echo(f"no figure: plotly is not installed ({installation('widgets').remedy})", err=True)
        return
    write_whole(folder / "figure.html", runs.page(figures(runs), folder.name))
