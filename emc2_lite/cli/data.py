"""The command of data sets: fetch."""

import click

from emc2_lite.cli.options import FOLDER
from emc2_lite.cli.sentences import in_a_sentence


@click.command()
@click.argument("name", type=click.Choice(["cifar10", "stl10"]))
@click.option(
    "--folder", type=FOLDER, default="data/downloads", show_default=True, help="Where the data set is needed."
)
@click.option("--keep", type=FOLDER, help="A folder that outlives this machine, such as one on a mounted Drive.")
@in_a_sentence(lambda: "Interrupted. The same command goes on from there.")
def fetch(name, folder, keep):
    """Fetch the data set NAME, check it and unpack it; nothing is fetched twice.

    With --keep the archive is taken from that folder if it is there, and a copy is left there otherwise.
    """
    from emc2_lite.vision import datasets

    kept = datasets.fetch(name, folder, keep)
    click.echo(f"{name} is in {folder}" + (f", its archive in {keep}" if kept else ""))
    if keep and not kept:
        words = f"Its archive was deleted, so that none is in {keep}: delete {name}'s files in {folder}, and the same "
        click.echo(f"{words}command fetches it anew.")
