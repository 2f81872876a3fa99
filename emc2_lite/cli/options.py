"""What several commands share: options, tables, checks."""

import ast
import tempfile
from pathlib import Path

import click

INTERRUPTED = 130


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


def literals(parameters: tuple[tuple[str, str], ...]) -> dict:
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
