"""The command that runs an experiment of the laboratory."""

import time
from pathlib import Path

import click

from emc2_lite.cli.options import check_writable, columns, literals, parameters_option
from emc2_lite.cli.sentences import Command, in_a_sentence


@click.command(cls=Command)
@click.argument("name")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File for the record.  [default: build/records/NAME.json]",
)
@parameters_option("Set a parameter of the experiment, such as -p seeds 2; may be repeated.")
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
    with in_a_sentence(lambda: "Interrupted. No record was written."):
        from emc2_lite.laboratory.experiments import EXPERIMENTS
        from emc2_lite.records import write_record

        if name not in EXPERIMENTS:
            raise click.UsageError(f"there is no experiment {name!r}: use one of {', '.join(EXPERIMENTS)}")
        output = output or Path("build/records") / f"{name.replace('-', '_')}.json"
        try:
            config = EXPERIMENTS[name].config(literals(parameters))
        except ValueError as problem:
            raise click.UsageError(str(problem)) from None
        check_writable(output.parent)
        record = _record(name, config)
        click.echo(columns(record["final"]))
        write_record(output, record)
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
