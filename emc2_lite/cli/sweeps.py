"""The command of many runs: sweep."""

import sys
from pathlib import Path

import click

from emc2_lite.cli.options import (
    CHANGES,
    check_writable,
    columns,
    config_of,
    device_option,
    download_option,
    numbers,
    output_option,
    parameters_option,
    write_page,
)
from emc2_lite.cli.sentences import Command, command_again, in_a_sentence
from emc2_lite.records import write_whole

SWEEPS = Path("build/sweeps")


@click.command(cls=Command)
@click.argument("config")
@click.option("--methods", default="NT-Xent,DCL,SogCLR,cache,EMC2", show_default=True)
@click.option("--batch-sizes", default="32", show_default=True)
@click.option("--temperatures", default="0.2", show_default=True)
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Seeds 0, 1, ...")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Runs at a time, a process each.")
@output_option(SWEEPS, "Folder of the sweep; each run has its own in it.")
@device_option
@download_option
@parameters_option(CHANGES)
def sweep(config, methods, batch_sizes, temperatures, seeds, jobs, output, device, download, parameters):
    """Train and evaluate CONFIG for all METHODS x BATCH_SIZES x TEMPERATURES x seeds, lists with commas between.

    The same command goes on with a sweep that was stopped. At the end there are a table and a figure: means over seeds
    of 1-NN and linear-probe accuracy on the test set, with 95 % intervals, in record.json, table.md and figure.html.
    """
    output = output or SWEEPS / Path(config).stem
    with in_a_sentence(lambda: _left(output)):
        from emc2_lite.laboratory.sweep import cells_of
        from emc2_lite.laboratory.sweep import sweep as run_sweep
        from emc2_lite.vision import load_images

        base = config_of(config, parameters, device, False)
        cells = cells_of(
            base,
            output,
            methods=[name.strip() for name in methods.split(",")],
            batch_sizes=numbers(batch_sizes, int, "--batch-sizes"),
            temperatures=numbers(temperatures, float, "--temperatures"),
            seeds=seeds,
        )
        check_writable(output)
        if download:
            load_images(base.data.name, "test", base.data.folder, download=True)  # with all other parts
        failed = []
        with click.progressbar(length=len(cells), label="runs", show_pos=True, file=sys.stderr) as bar:

            def tell(cell, failure):
                bar.update(1)
                if failure:
                    failed.append(f"{cell.folder.name}: {failure}")
                if not sys.stderr.isatty():
                    click.echo(f"{bar.pos} of {len(cells)}: {cell.folder.name} {failure or 'done'}", err=True)

            record = run_sweep(base, output, cells, jobs=jobs, tell=tell)
        table = columns(record["final"])
        write_whole(output / "table.md", _markdown(record["final"]))
        write_page(output / "figure.html", lambda runs: _figures(runs, record))
    click.echo(table)
    click.echo(f"{output}: record.json, table.md" + (", figure.html" if (output / "figure.html").exists() else ""))
    if failed:
        raise click.ClickException(f"{len(failed)} of {len(cells)} runs failed: {'; '.join(failed)}")


def _left(output: Path) -> str:
    """What an interrupted `sweep` leaves, and how to go on."""
    if any(output.glob("*/last.pt")):
        return f"The runs of the sweep are saved in {output}; go on with: {command_again()}"
    return f"Interrupted before anything was saved; start again with: {command_again()}"


def _markdown(rows: list[dict]) -> str:
    """The table with intervals, percent for accuracies."""
    lines = ["| method | temperature | b | seeds | linear probe | 1-NN |", "| --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        cells = [row["method"], f"{row['temperature']:g}", str(row["batch_size"]), str(row["seeds"])]
        for name in ("linear_probe", "nearest_neighbour"):
            reach = "" if row[f"{name}_low"] is None else f" ({row[f'{name}_low']:.3f} to {row[f'{name}_high']:.3f})"
            cells.append(f"{row[name]:.3f}{reach}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _figures(runs, record: dict) -> list:
    """Two figures a temperature: linear probe and 1-NN over the batch size."""
    figures = []
    for temperature in dict.fromkeys(row["temperature"] for row in record["final"]):
        rows = [row for row in record["final"] if row["temperature"] == temperature]
        title = f"temperature {temperature:g}, {record['config']['data']['name']}"
        figures += [runs.accuracies(rows, value, title) for value in ("linear_probe", "nearest_neighbour")]
    return figures
