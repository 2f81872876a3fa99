"""The commands of training runs: train, evaluate, sweep."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from emc2_lite.cli.options import INTERRUPTED, check_writable, columns, literals, parameters_option

RUNS, SWEEPS = Path("build/runs"), Path("build/sweeps")
CHANGES = "Change a value of the configuration, such as -p training.batch_size 8; may be repeated."
download_option = click.option("--download", is_flag=True, help="Fetch the data set if it is not there.")
skip_option = click.option("--skip-corrupt", is_flag=True, help="Leave out image files that cannot be read.")
device_option = click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), help="Where to compute.")


def _output_option(default: Path, words: str):
    return click.option(
        "--output",
        type=click.Path(file_okay=False, path_type=Path),
        help=f"{words}  [default: {default}/NAME]",
    )


@click.command()
@click.argument("config")
@_output_option(RUNS, "Folder of the run: checkpoints, metrics, record.")
@click.option(
    "--resume", is_flag=True, help="Go on where the run in the folder stopped; a new one starts from scratch."
)
@click.option("--dry-run", is_flag=True, help="Say what the run will take, and stop.")
@device_option
@download_option
@skip_option
@parameters_option(CHANGES)
def train(config, output, resume, dry_run, device, download, skip_corrupt, parameters):
    """Train an encoder as CONFIG says, a TOML file or one of: cifar10, digits, imagenet100, stl10.

    The folder gets last.pt and best.pt (the highest 1-NN accuracy on held-out labels), metrics.jsonl and record.json.
    A run that was interrupted, or killed, goes on with --resume and ends with the same weights.
    """
    with _in_a_sentence(f"The run is saved; go on with: emc2-lite train {config} --resume"):
        from emc2_lite.runs import train_run
        from emc2_lite.training import LAST

        chosen = _config(config, parameters, device, skip_corrupt)
        if dry_run:
            click.echo(_forecast(chosen))
            return
        output = output or RUNS / Path(config).stem
        there = (output / LAST).exists()
        if there and not resume:
            raise ValueError(f"{output} holds a run: go on with --resume, or choose another --output.")
        check_writable(output)
        click.echo(f"{'Going on with the run in' if there else 'New run in'} {output}")
        record = train_run(chosen, output, download=download)
    final = record["final"][0]
    best = "" if final["best_accuracy"] is None else f", best 1-NN accuracy {final['best_accuracy']:.3f}"
    click.echo(f"{final['step']} steps, {record['seconds']:.0f} s{best}. Now: emc2-lite evaluate {output}")


@click.command()
@click.argument("run", type=click.Path(file_okay=False, path_type=Path))
@click.option("--checkpoint", type=click.Choice(["last", "best"]), default="last", show_default=True)
@click.option(
    "--labels", default="", metavar="N,N,...", help="Also the probe with so few labels a class, such as 1,5,10."
)
@click.option(
    "--supervised", "epochs", default=0, metavar="EPOCHS", help="Also the supervised baseline, so many epochs."
)
@device_option
@download_option
def evaluate(run, checkpoint, labels, epochs, device, download):
    """Say how good the features of a RUN are on the test set, with 95 % intervals; RUN is the folder of `train`.

    1-NN, weighted 20-NN, a linear probe tuned on held-out training labels, and the probe of the paper's released code.
    The rows are also written to evaluation.json in the folder.
    """
    with _in_a_sentence("Interrupted. No evaluation was written."):
        from emc2_lite.runs import evaluate_run

        rows = evaluate_run(
            run,
            checkpoint=f"{checkpoint}.pt",
            device=device or "auto",
            labels_a_class=_numbers(labels, int, "--labels") if labels else (),
            supervised_epochs=epochs,
            download=download,
        )
    width = max(len(row["measure"]) for row in rows)
    for row in rows:
        interval = f"  ({row['low']:.3f} to {row['high']:.3f})" if "low" in row else f"  draw {row['draw']}"
        click.echo(f"{row['measure']:{width}}  {row['accuracy']:.3f}{interval}")


@click.command()
@click.argument("config")
@click.option("--methods", default="NT-Xent,DCL,SogCLR,cache,EMC2", show_default=True)
@click.option("--batch-sizes", default="32", show_default=True)
@click.option("--temperatures", default="0.2", show_default=True)
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Seeds 0, 1, ...")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Runs at a time, a process each.")
@_output_option(SWEEPS, "Folder of the sweep; each run has its own in it.")
@device_option
@download_option
@parameters_option(CHANGES)
def sweep(config, methods, batch_sizes, temperatures, seeds, jobs, output, device, download, parameters):
    """Train and evaluate CONFIG for all METHODS x BATCH_SIZES x TEMPERATURES x seeds, lists with commas between.

    The same command goes on with a sweep that was stopped. At the end there are a table and a figure: means over seeds
    of 1-NN and linear-probe accuracy on the test set, with 95 % intervals, in record.json, table.md and figure.html.
    """
    output = output or SWEEPS / Path(config).stem
    with _in_a_sentence("The sweep is saved; the same command goes on with it."):
        from emc2_lite.laboratory.sweep import cells_of
        from emc2_lite.laboratory.sweep import sweep as run_sweep
        from emc2_lite.vision import load_images

        base = _config(config, parameters, device, False)
        cells = cells_of(
            base,
            output,
            methods=[name.strip() for name in methods.split(",")],
            batch_sizes=_numbers(batch_sizes, int, "--batch-sizes"),
            temperatures=_numbers(temperatures, float, "--temperatures"),
            seeds=seeds,
        )
        check_writable(output)
        if download:
            load_images(base.data.name, "test", base.data.folder, download=True)  # with all other parts
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill must reach the processes too
        failed = []
        with click.progressbar(length=len(cells), label="runs", show_pos=True, file=sys.stderr) as bar:

            def tell(cell, failure):
                bar.update(1)
                if failure:
                    failed.append(f"{cell.folder.name}: {failure}")

            record = run_sweep(base, output, cells, jobs=jobs, tell=tell)
        table = columns(record["final"])
        (output / "table.md").write_text(_markdown(record["final"]), encoding="utf-8")
        _draw(record, output / "figure.html")
    click.echo(table)
    click.echo(f"{output}: record.json, table.md" + (", figure.html" if (output / "figure.html").exists() else ""))
    if failed:
        raise click.ClickException(f"{len(failed)} of {len(cells)} runs failed: {'; '.join(failed)}")


@contextmanager
def _in_a_sentence(interrupted: str) -> Iterator[None]:
    """Errors that a user can mend, in one sentence; Ctrl-C with a word on what is left."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"\n{interrupted}", err=True)
        sys.exit(INTERRUPTED)
    except OSError as failure:
        words = failure.strerror or str(failure)
        raise click.ClickException(f"{failure.filename}: {words}" if failure.filename else words) from None
    except ValueError as problem:
        raise click.ClickException(str(problem)) from None
    except RuntimeError as failure:
        if type(failure).__name__ != "OutOfMemoryError":
            raise
        raise click.ClickException(
            "the GPU's memory is full: take a smaller training.batch_size, or training.precision bfloat16 or float16 "
            "(--dry-run says what a run needs)"
        ) from None


def _config(name: str, parameters: tuple, device: str | None, skip_corrupt: bool):
    from emc2_lite.training import changed, read_config

    words = {"true": True, "false": False}
    values = {key: words.get(value, value) for key, value in literals(parameters).items()}
    if device:
        values["training.device"] = device
    if skip_corrupt:
        values["data.skip_corrupt"] = True
    return changed(read_config(name), **values)


def _forecast(config) -> str:
    """What a dry run says, line by line."""
    from emc2_lite.runs import device_name, pick_device, settings_of
    from emc2_lite.training import plan
    from emc2_lite.vision import DATASETS

    device = pick_device(config.training.device)
    with settings_of(config, device):
        samples, shape, in_memory = _images(config)
        forecast = plan(config, samples, shape, device, in_memory=in_memory)
    lines = [
        f"{config.data.name}: {samples:,} images, {config.training.epochs} epochs of {forecast.steps_per_epoch:,} "
        f"steps, {forecast.steps:,} steps in all",
        f"encoder: {forecast.parameters:,} weights",
        f"time on {device_name(device)}: {_duration(forecast.seconds)}, {1000 * forecast.seconds_per_step:.1f} ms "
        f"a step (measured; evaluation and the decoding of files not counted); {forecast.encoder_share:.0%} of it is "
        "the encoder on the batch alone",
        f"encoded again: {forecast.encoded_again:.2f} views for each view of the batch",
        "memory: " + ", ".join(f"{name} {count / 2**20:,.0f} MiB" for name, count in forecast.memory.items()),
    ]
    download = DATASETS[config.data.name].download_bytes
    return "\n".join(lines + ([f"download: {download / 1e9:.2f} GB, once"] if download else []))


def _images(config) -> tuple[int, tuple[int, int, int], bool]:
    """Number and shape of the images to train on, and whether they lie in memory; a folder is looked into."""
    from emc2_lite.vision import DATASETS, load_images

    known = DATASETS[config.data.name]
    in_memory = known.in_memory or config.data.in_memory
    side = config.views.size if config.views else None
    if known.samples is None or config.data.in_memory:
        files = load_images(
            config.data.name,
            "train",
            config.data.folder,
            samples=config.data.samples,
            skip_corrupt=config.data.skip_corrupt,
        )
        return len(files), tuple(files[0].shape) if in_memory else (3, side, side), in_memory
    return config.data.samples or known.samples, known.shape or (3, side, side), in_memory


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _numbers(text: str, kind: type, option: str) -> tuple:
    try:
        return tuple(kind(item) for item in text.split(","))
    except ValueError:
        raise click.UsageError(f"{option} is {text}: write numbers with commas between, such as 1,5,10") from None


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


def _draw(record: dict, path: Path) -> None:
    """The figures as a page that needs no network, one a temperature, where plotly is installed."""
    try:
        from emc2_lite.course.figures.runs import accuracies
    except ModuleNotFoundError:
        click.echo('no figure: plotly is not installed (pip install "emc2-lite[widgets]")', err=True)
        return
    parts = []
    for temperature in dict.fromkeys(row["temperature"] for row in record["final"]):
        rows = [row for row in record["final"] if row["temperature"] == temperature]
        for value in ("linear_probe", "nearest_neighbour"):
            figure = accuracies(rows, value, f"temperature {temperature:g}, {record['config']['data']['name']}")
            parts.append(figure.to_html(full_html=False, include_plotlyjs=not parts))
    path.write_text(f"<!doctype html><meta charset='utf-8'><title>Sweep</title>{''.join(parts)}", encoding="utf-8")
