"""The command that runs an experiment of the laboratory."""

import time
from pathlib import Path

import click

from emc2_lite.cli.options import check_writable, columns, literals, parameters_option
from emc2_lite.cli.sentences import in_a_sentence

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("name")
@click.option("--output", type=FILE, help="File for the record.  [default: build/records/NAME.json]")
@parameters_option("Set a parameter of the experiment, such as -p seeds 2; may be repeated.")
@in_a_sentence(lambda: "Interrupted. No record was written.")
def experiment(name, output, parameters):
    """Run an experiment of the gradient laboratory and write its record.

    \b
    gradient-error  the paper's: each gradient against the exact one, from scratch
                    (-p data stl10 for the paper's images, in data/downloads)
    jump            what stale states cost when the encoder has moved
    quality         bias, error and direction of every estimator's gradient
    stationarity    the exact gradient's squared norm over the number of steps
    training        training from scratch, and the exact global loss

    With the default parameters these are the runs of data/records: minutes to an hour each. The table at the end has
    means over seeds; the record also has every measurement, the settings and the versions.
    """
    from emc2_lite.laboratory.experiments import EXPERIMENTS, run_experiment
    from emc2_lite.records import write_record

    if name not in EXPERIMENTS:
        raise click.UsageError(f"there is no experiment {name!r}: use one of {', '.join(EXPERIMENTS)}")
    output = output or Path("build/records") / f"{name.replace('-', '_')}.json"
    try:
        config = EXPERIMENTS[name].config(literals(parameters))
    except ValueError as problem:
        raise click.UsageError(str(problem)) from None
    check_writable(output.parent)
    started = time.perf_counter()
    record = run_experiment(
        name, config, progress=lambda text: click.echo(f"[{time.perf_counter() - started:6.0f} s] {text}", err=True)
    )
    click.echo(columns(record["final"]))
    write_record(output, record)
    click.echo(f"{output} ({record['seconds']:.0f} s)")
