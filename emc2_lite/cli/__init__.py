"""The command line ``emc2-lite``. What a command needs is imported inside it, so that ``doctor`` always runs."""

import click

from emc2_lite.cli.experiments import experiment
from emc2_lite.cli.notebooks import course, lab
from emc2_lite.cli.runs import evaluate, train
from emc2_lite.cli.sentences import Main
from emc2_lite.cli.sweeps import sweep

COLOURS = {"ok": "green", "warning": "yellow", "lack": "red"}


@click.group(cls=Main, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="emc2-lite")
@click.option("--debug", is_flag=True, help="Show the traceback of what goes wrong.")
def main(debug):
    """EMC2, contrastive learning with Markov-chain negatives: the course, training runs and experiments."""


for command in (course, lab, experiment, train, evaluate, sweep):
    main.add_command(command)


@main.command()
def doctor():
    """Look at this machine and say what is lacking, and what to do about it.

    The exit status is 1 if something that the library needs is lacking, or a part of the course is broken; warnings do
    not count.
    """
    from emc2_lite.doctor import COURSE, examine

    lacks, whole = 0, "course"
    for finding in examine():
        verdict = click.style(f"{finding.verdict:8}", fg=COLOURS[finding.verdict])
        click.echo(f"{verdict} {finding.subject}: {finding.words}" + (f" ({finding.remedy})" if finding.remedy else ""))
        lacks += finding.verdict == "lack"
        if finding.verdict == "warning" and finding.subject in COURSE:
            whole = "library"
    if lacks:
        raise click.ClickException(f"{lacks} of the things above are lacking; the brackets say what to do.")
    click.echo(f"Everything that the {whole} needs is here.")
