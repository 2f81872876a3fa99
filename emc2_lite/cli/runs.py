"""The commands of training runs: train, evaluate."""

from pathlib import Path

import click

from emc2_lite.cli.options import (
    CHANGES,
    Folder,
    check_writable,
    config_of,
    device_option,
    download_option,
    literals,
    numbers,
    output_option,
    parameters_option,
    skip_option,
    write_page,
)
from emc2_lite.cli.sentences import Command, command_again, in_a_sentence

RUNS = Path("build/runs")


@click.command(cls=Command)
@click.argument("config")
@output_option(RUNS, "Folder of the run: checkpoints, metrics, record.")
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

    The folder gets last.pt and best.pt (the highest 1-NN accuracy on held-out labels), metrics.jsonl, record.json and,
    where plotly is installed, figure.html. A run that was interrupted, or killed, goes on with --resume and ends with
    the same weights.
    """
    output = output or RUNS / Path(config).stem
    with in_a_sentence(lambda: _left(output, dry_run)):
        from emc2_lite.runs import train_run
        from emc2_lite.training import LAST

        chosen = config_of(config, parameters, device, skip_corrupt)
        if dry_run:
            click.echo(_forecast(chosen))
            return
        there = (output / LAST).exists()
        if there and not resume:
            raise ValueError(f"{output} holds a run: go on with --resume, or choose another --output.")
        check_writable(output)
        click.echo(f"{'Going on with the run in' if there else 'New run in'} {output}")
        record = train_run(chosen, output, download=download, tell=click.echo)
        write_page(output / "figure.html", lambda runs: [runs.along_the_run(record["metrics"], f"Run {output.name}")])
    final = record["final"][0]
    best = "" if final["best_accuracy"] is None else f", best 1-NN accuracy {final['best_accuracy']:.3f}"
    click.echo(f"{final['step']} steps, {record['seconds']:.0f} s{best}. Now: emc2-lite evaluate {output}")


def _left(output: Path, dry_run: bool) -> str:
    """What an interrupted `train` leaves, and how to go on."""
    if dry_run:
        return "Interrupted. A dry run leaves nothing."
    if (output / "last.pt").exists():
        return f"The run is saved in {output}; go on with: {command_again('--resume')}"
    return f"Interrupted before anything was saved; start again with: {command_again()}"


@click.command(cls=Command)
@click.argument("run", type=Folder())
@click.option("--checkpoint", type=click.Choice(["last", "best"]), default="last", show_default=True)
@click.option(
    "--labels", default="", metavar="N,N,...", help="Also the probe with so few labels a class, such as 1,5,10."
)
@click.option(
    "--supervised",
    "epochs",
    type=click.IntRange(0),
    default=0,
    metavar="EPOCHS",
    help="Also the supervised baseline, so many epochs.",
)
@device_option
@download_option
@skip_option
@parameters_option("Say where the images are now, such as -p data.folder ~/images; may be repeated.")
def evaluate(run, checkpoint, labels, epochs, device, download, skip_corrupt, parameters):
    """Say how good the features of a RUN are on the test set, with 95 % intervals; RUN is the folder of `train`.

    1-NN, weighted 20-NN, a linear probe tuned on held-out training labels, and the probe of the paper's released code.
    The rows are also written to evaluation.json in the folder, those of the best checkpoint to evaluation-best.json.
    """
    with in_a_sentence(lambda: "Interrupted. No evaluation was written."):
        from emc2_lite.runs import evaluate_run

        values = literals(parameters) | ({"data.skip_corrupt": True} if skip_corrupt else {})
        rows = evaluate_run(
            run,
            checkpoint=f"{checkpoint}.pt",
            device=device or "auto",
            labels_a_class=numbers(labels, int, "--labels") if labels else (),
            supervised_epochs=epochs,
            download=download,
            values=values,
            tell=lambda line: click.echo(line, err=True),
        )
    width = max(len(row["measure"]) for row in rows)
    for row in rows:
        interval = f"  ({row['low']:.3f} to {row['high']:.3f})" if "low" in row else f"  draw {row['draw']}"
        click.echo(f"{row['measure']:{width}}  {row['accuracy']:.3f}{interval}")


def _forecast(config) -> str:
    """What a dry run says, line by line."""
    from emc2_lite.runs import device_name, pick_device, settings_of
    from emc2_lite.training import plan
    from emc2_lite.training.progress import duration
    from emc2_lite.vision import DATASETS

    device = pick_device(config.training.device)
    with settings_of(config, device):
        samples, shape, in_memory = _images(config)
        forecast = plan(config, samples, shape, device, in_memory=in_memory)
    lines = [
        f"{config.data.name}: {samples:,} images, {config.training.epochs} epochs of {forecast.steps_per_epoch:,} "
        f"steps, {forecast.steps:,} steps in all",
        f"encoder: {forecast.parameters:,} weights",
        f"time on {device_name(device)}: {duration(forecast.seconds)}, {1000 * forecast.seconds_per_step:.1f} ms "
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
