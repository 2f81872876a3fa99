"""The command of many runs: sweep."""

import sys

import click

from emc2_lite.cli.completion import complete_methods
from emc2_lite.cli.options import (
    check_writable,
    columns,
    config_of,
    labels_option,
    numbers,
    supervised_option,
    training_options,
    write_page,
)
from emc2_lite.cli.sentences import in_a_sentence, what_is_left
from emc2_lite.records import rows_where, write_whole


@click.command()
@training_options("build/sweeps", "Folder of the sweep, with a folder for each run.")
@click.option("--methods", default="NT-Xent,DCL,SogCLR,cache,EMC2", show_default=True, shell_complete=complete_methods)
@click.option("--batch-sizes", default="32", show_default=True)
@click.option("--temperatures", default="0.2", show_default=True)
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Number of seeds: 0, 1, ...")
@labels_option
@supervised_option
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Runs at a time, a process each.")
@in_a_sentence(lambda: what_is_left("The runs of the sweep are", "*/last.pt"))
def sweep(
    config, methods, batch_sizes, temperatures, seeds, labels, supervised, jobs, output, device, download, parameters
):
    """Train and evaluate CONFIG for all METHODS x BATCH_SIZES x TEMPERATURES x seeds, lists with commas between.

    The same command goes on with a sweep that was stopped. At the end there are a table and a figure: means over seeds
    of 1-NN and linear-probe accuracy on the test set, with 95 % intervals, in record.json, table.md and figure.html.
    """
    from emc2_lite.laboratory import sweep as sweeps
    from emc2_lite.vision import load_images

    base = config_of(config, parameters, device, False)
    methods = [name.strip() for name in methods.split(",")]
    sizes = numbers(batch_sizes, int, "--batch-sizes")
    temperatures = numbers(temperatures, float, "--temperatures")
    grid = {"methods": methods, "batch_sizes": sizes, "temperatures": temperatures, "seeds": seeds}
    counts = numbers(labels, int, "--labels") if labels else None
    cells = sweeps.cells_of(base, output, **grid, labels=counts, supervised_epochs=supervised)
    check_writable(output)
    if download:
        load_images(base.data.name, "test", base.data.folder, download=True)  # fetches every part of the data set
    failed = []
    with click.progressbar(length=len(cells), label="runs", show_pos=True, file=sys.stderr) as bar:

        def tell(cell, failure):
            bar.update(1)
            if failure:
                failed.append(f"{cell.folder.name}: {failure}")
            if not sys.stderr.isatty():
                click.echo(f"{bar.pos} of {len(cells)}: {cell.folder.name} {failure or 'done'}", err=True)

        record = sweeps.sweep(base, output, cells, jobs=jobs, tell=tell)
    write_whole(output / "table.md", _markdown(record["final"]))
    write_page(output, lambda runs: _figures(runs, record))
    click.echo(columns(record["final"]))
    click.echo(f"{output}: record.json, table.md" + (", figure.html" if (output / "figure.html").exists() else ""))
    if failed:
        raise click.ClickException(f"{len(failed)} of {len(cells)} runs failed: {'; '.join(failed)}")


def _markdown(rows: list[dict]) -> str:
    """The table of table.md: mean accuracies with the ends of their intervals."""
    titles = {"linear_probe": "linear probe", "nearest_neighbour": "1-NN"}
    titles |= {name: f"probe, {name[7:]} labels a class" for name in rows[0] if name.removeprefix("labels_").isdigit()}
    lines = [
        "| method | temperature | b | seeds | " + " | ".join(titles.values()) + " |",
        "| --- " * (4 + len(titles)) + "|",
    ]
    for row in rows:
        cells = [row["method"], f"{row['temperature']:g}", str(row["batch_size"]), str(row["seeds"])]
        for name in titles:
            ends = "" if row[f"{name}_low"] is None else f" ({row[f'{name}_low']:.3f} to {row[f'{name}_high']:.3f})"
            cells.append("" if row[name] is None else f"{row[name]:.3f}{ends}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _figures(runs, record: dict) -> list:
    """Two figures for each temperature: linear probe and 1-NN over the batch size."""
    figures = []
    for temperature in dict.fromkeys(row["temperature"] for row in record["final"]):
        rows = rows_where(record["final"], temperature=temperature)
        title = f"temperature {temperature:g}, {record['config']['data']['name']}"
        for value in ("linear_probe", "nearest_neighbour"):
            figures.append(runs.accuracies([row for row in rows if row[value] is not None], value, title))
    return figures
