"""The command that runs an experiment of the laboratory."""

import time
from contextlib import nullcontext
from pathlib import Path

import click

from emc2_lite.cli.completion import complete_experiments
from emc2_lite.cli.options import FILE, check_writable, columns, literals, parameters_option
from emc2_lite.cli.sentences import in_a_sentence

WORDS = "File for the record.  [default: build/records/NAME.json]"


def default_output(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path:
    return value or Path("build/records") / f"{ctx.params['name'].replace('-', '_')}.json"


def interrupted() -> str:
    kept = kept_beside(click.get_current_context().params["output"])
    if kept.exists():
        return f"Interrupted. {kept} has the cells that are finished: the same command goes on with the others."
    return "Interrupted. No record was written."


def kept_beside(output: Path) -> Path:
    """The file that keeps finished cells until the record is written."""
    return output.with_name(f"{output.name}.cells")


@click.command()
@click.argument("name", is_eager=True, shell_complete=complete_experiments)
@click.option("--output", type=FILE, callback=default_output, help=WORDS)
@click.option(
    "--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes, for experiments of hours."
)
@parameters_option("Set a parameter of the experiment, such as -p seeds 2; may be repeated.")
@in_a_sentence(interrupted)
def experiment(name, output, jobs, parameters):
    """Run an experiment of the gradient laboratory and write its record.

    \b
    gradient-error  the paper's figure 2: photographs, a ResNet-18, each gradient
                    against the exact one, at beta and at beta squared (hours;
                    -p data stl10 -p folder data/downloads for the paper's images)
    jump            what stale states cost when the encoder has moved
    map             training at equal price: who leads at which batch size,
                    temperature and kind of views (hours; --jobs 2)
    patience        the same at one place, for runs of several lengths (hours)
    quality         bias, noise and price of every estimator's gradient
    stationarity    the exact gradient's squared norm over the number of steps
    step-times      a training step in 1, 2 and 4 processes, for the cost model
    towers          two encoders, of digits and of their names, at equal price
    untrained       where gradient-error begins: a new ResNet-18, by norm and projector
    variants        what else could pay: variants of EMC2, and other methods of
                    2024 to 2026, at one place of the map (hours)

    With the default parameters these are the runs of data/records: minutes to an hour each, and hours where it says so.
    Those that take hours keep what is finished beside the record, and the same command goes on when it was stopped. The
    table at the end has means over seeds; the record also has every measurement, the settings and the versions.
    """
    from emc2_lite.laboratory.experiments import EXPERIMENTS, run_experiment
    from emc2_lite.laboratory.experiments.cells import forget, kept_results, name_of
    from emc2_lite.locking import locked
    from emc2_lite.records import write_record

    if name not in EXPERIMENTS:
        raise click.UsageError(f"there is no experiment {name!r}: use one of {', '.join(EXPERIMENTS)}")
    try:
        config = EXPERIMENTS[name].config(literals(parameters))
    except ValueError as problem:
        raise click.UsageError(str(problem)) from None
    cells, kept = EXPERIMENTS[name].cells(config), kept_beside(output)
    if jobs > 1 and EXPERIMENTS[name].timed:
        raise click.UsageError(f"{name} measures times, which other work would disturb: leave out --jobs")
    if jobs > 1 and not cells:
        raise click.UsageError(f"{name} runs in one process: leave out --jobs")
    check_writable(output.parent)
    started = time.perf_counter()

    def progress(text: str) -> None:
        click.echo(f"[{time.perf_counter() - started:6.0f} s] {text}", err=True)

    with locked(kept.with_suffix(".lock"), f"the cells of {output}") if cells else nullcontext():
        record = run_experiment(name, config, progress=progress, jobs=jobs, kept=kept)
        click.echo(columns(record["final"]))
        write_record(output, record)
        done = kept_results(kept)
        if failed := sum(name_of(cell) not in done for cell in cells):
            words = f"{failed} of {len(cells)} cells failed, for the reasons above: {output} has the others; "
            raise click.ClickException(f"{words}the same command tries the failed ones again")
        forget(kept, cells)
    click.echo(f"{output} ({record['seconds']:.0f} s)")
