"""The command line ``emc2-lite``. Each command imports what it needs when it runs, so that ``doctor`` always runs."""

import click

from emc2_lite.cli.completion import HOW
from emc2_lite.cli.configs import config
from emc2_lite.cli.data import fetch
from emc2_lite.cli.experiments import experiment
from emc2_lite.cli.notebooks import course, lab
from emc2_lite.cli.runs import evaluate, export, train
from emc2_lite.cli.sentences import Main
from emc2_lite.cli.sweeps import sweep


@click.group(cls=Main, epilog=HOW, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="emc2-lite")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug):
    """EMC2, contrastive learning with Markov-chain negatives: the course, training runs and experiments."""


for command in (course, lab, experiment, fetch, config, train, evaluate, export, sweep):
    main.add_command(command)


@main.command()
def doctor():
    """Check this machine, and say what is lacking and what to do about it.

    The exit status is 1 if something that the library needs is lacking, or if a part of the course is broken. Warnings
    do not change it.
    """
    from emc2_lite.doctor import COURSE, examine

    lacks, user, colours = 0, "course", {"ok": "green", "warning": "yellow", "lack": "red"}
    for finding in examine():
        verdict = click.style(f"{finding.verdict:8}", fg=colours[finding.verdict])
        click.echo(f"{verdict} {finding.subject}: {finding.words}" + (f" ({finding.remedy})" if finding.remedy else ""))
        lacks += finding.verdict == "lack"
        user = "library" if finding.verdict == "warning" and finding.subject in COURSE else user
    if lacks:
        raise click.ClickException(f"{lacks} of the things above are lacking; the brackets say what to do.")
    click.echo(f"Everything that the {user} needs is here.")
