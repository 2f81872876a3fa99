"""The commands of training runs: train, evaluate, export."""

import os
from typing import Any

import click

from emc2_lite.cli import options
from emc2_lite.cli.sentences import in_a_sentence, what_is_left

checkpoint_option = click.option(
    "--checkpoint", type=click.Choice(["last", "best"]), default="last", show_default=True, help="Which of the run's."
)


@click.command()
@options.training_options("build/runs", "Folder of the run: checkpoints, metrics, record.")
@click.option("--resume", is_flag=True, help="Continue the run in the folder; without one, start a new run.")
@click.option("--dry-run", is_flag=True, help="Say how long the run will take and how much memory, and stop.")
@options.skip_option
@in_a_sentence(lambda: what_is_left("The run is", "last.pt", "--resume"))
def train(config, output, resume, dry_run, device, download, skip_corrupt, parameters):
    """Train an encoder as CONFIG says, a TOML file or one of: cifar10, cifar10_small, digits,
    imagenet100, stl10.

    The folder gets last.pt and best.pt (the highest 1-NN accuracy on held-out labels), metrics.jsonl, record.json and,
    where plotly is installed, figure.html. A run that was interrupted, or killed, goes on with --resume and ends with
    the same weights.

    Several processes share a run under torchrun --nproc-per-node=K -m emc2_lite train ...: each takes a part of every
    batch, on a GPU of its own where there are GPUs.
    """
    from emc2_lite.runs import train_run
    from emc2_lite.training import LAST
    from emc2_lite.training.processes import leads

    chosen = options.config_of(config, parameters, device, skip_corrupt)
    if dry_run:
        if leads():
            click.echo(_forecast(chosen))
        return
    begun = (output / LAST).exists()
    if begun and not resume:
        raise ValueError(f"{output} holds a run: go on with --resume, or choose another --output.")
    options.check_writable(output)
    tell = click.echo if leads() else lambda line: None
    tell(f"{'Going on with the run in' if begun else 'New run in'} {output}")
    record = train_run(chosen, output, download=download, tell=tell)
    if not leads():
        return
    options.write_page(output, lambda runs: [runs.along_the_run(record["metrics"], f"Run {output.name}")])
    final = record["final"][0]
    best = "" if final["best_accuracy"] is None else f", best 1-NN accuracy {final['best_accuracy']:.3f}"
    click.echo(f"{final['step']} steps, {record['seconds']:.0f} s{best}. Now: emc2-lite evaluate {output}")


@click.command()
@click.argument("run", type=options.FOLDER)
@checkpoint_option
@options.labels_option
@options.supervised_option
@options.device_option
@options.download_option
@options.skip_option
@options.parameters_option("Say where the images are now, such as -p data.folder ~/images; may be repeated.")
@in_a_sentence(lambda: "Interrupted. No evaluation was written.")
def evaluate(run, checkpoint, labels, supervised, device, download, skip_corrupt, parameters):
    """Say how good the features of a RUN are on the test set, with 95 % intervals; RUN is the folder of `train`.

    1-NN, weighted 20-NN, a linear probe tuned on held-out training labels, and the probe of the paper's released code.
    The rows are also written to evaluation.json in the folder, or to evaluation-best.json for the best checkpoint, with
    the accuracy of chance.
    """
    from emc2_lite.cli.measures import explained
    from emc2_lite.runs import evaluate_run

    rows = evaluate_run(
        run,
        checkpoint=f"{checkpoint}.pt",
        device=device or "auto",
        labels_a_class=options.numbers(labels, int, "--labels") if labels else (),
        supervised_epochs=supervised,
        download=download,
        values=options.literals(parameters, skip_corrupt=skip_corrupt),
        tell=lambda line: click.echo(line, err=True),
    )
    click.echo("\n".join(explained(rows)))


@click.command()
@click.argument("run", type=options.FOLDER)
@click.argument("file", type=options.FILE)
@checkpoint_option
@in_a_sentence(lambda: "Interrupted. No encoder was written.")
def export(run, file, checkpoint):
    """Write the encoder of a RUN to FILE: its weights in half precision and the run's configuration, with a digest.

    `emc2_lite.runs.exported_encoder` reads the file. The encoder takes images of whole numbers from 0 to 255, or of
    values from 0 to 1. A FILE that ends in .pt2 is a program of torch.export instead, which runs without this library.
    """
    from emc2_lite.runs import export_encoder

    export_encoder(run, file, checkpoint=f"{checkpoint}.pt")
    click.echo(f"{file}: {file.stat().st_size / 1e6:.2f} MB")


def _forecast(config) -> str:
    """The lines of a dry run; the images are read only where their number or their shape is unknown."""
    from emc2_lite.laboratory.scaling import step_work
    from emc2_lite.runs import device_name, length_in_words, pick_device, settings_of
    from emc2_lite.training import plan
    from emc2_lite.training.progress import duration
    from emc2_lite.vision import DATASETS, load_images

    data, known, device = config.data, DATASETS[config.data.name], pick_device(config.training.device)
    with settings_of(config, device):
        shape = known.shape or (3, config.views.size, config.views.size)
        if known.samples is None or data.in_memory:
            images: Any = load_images(
                data.name, "train", data.folder, samples=data.samples, skip_corrupt=data.skip_corrupt
            )
            samples, shape = len(images), images[0].shape if data.in_memory else shape
        else:
            samples = data.samples or known.samples
        count = config.training.processes or int(os.environ.get("WORLD_SIZE", "1"))
        in_memory = known.in_memory or data.in_memory
        forecast = plan(config, samples, shape, device, in_memory=in_memory, processes=count)
    lines = [
        f"{data.name}: {samples:,} images, {length_in_words(config, forecast.steps_per_epoch)}, "
        f"{forecast.steps:,} steps in all",
        f"encoder: {forecast.parameters:,} weights",
        f"time on {device_name(device)}, in {forecast.precision}: {duration(forecast.seconds)}, "
        f"{1000 * forecast.seconds_per_step:.1f} ms a step (measured; evaluation and the "
        f"decoding of files not counted); {forecast.encoder_share:.0%} of it is the encoder on the batch alone",
        f"encoded again: {forecast.encoded_again:.2f} views for each view of the batch",
        "memory: " + ", ".join(f"{name} {count / 2**20:,.0f} MiB" for name, count in forecast.memory.items()),
    ]
    if count > 1:
        size = {"batch_size": config.training.batch_size, "dim": config.encoder.dim, "weights": forecast.parameters}
        sent = step_work("NT-Xent", samples=samples, processes=count, **size).bytes / 1e6
        lines.append(f"time and memory are those of one of {count} processes, which also sends {sent:,.1f} MB a step")
    return "\n".join(lines + [f"download: {known.download_bytes / 1e9:.2f} GB, once"] * bool(known.download_bytes))
