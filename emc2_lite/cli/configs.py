"""The commands of configurations: config list, show and export."""

import click

from emc2_lite.cli.completion import SHIPPED, complete_configs, complete_settings
from emc2_lite.cli.options import FILE, config_of, parameters_option
from emc2_lite.cli.sentences import in_a_sentence
from emc2_lite.records import write_whole

changes = parameters_option("Change a value, such as -p training.batch_size 8; may be repeated.", complete_settings)


@click.group()
def config():
    """List, show or write out configurations of training runs."""


@config.command("list")
def list_configs():
    """Name the configurations that come with the library, and say what each is for."""
    paths = sorted(SHIPPED.glob("*.toml"))
    width = max(len(path.stem) for path in paths)
    for path in paths:
        click.echo(f"{path.stem:{width}}  {path.read_text(encoding='utf-8').splitlines()[0].removeprefix('# ')}")


@config.command()
@click.argument("name", shell_complete=complete_configs)
@changes
@in_a_sentence(lambda: "Interrupted.")
def show(name, parameters):
    """Print the configuration NAME, of the library or of a TOML file: every value, and what each means.

    Lines that begin with # are values that are not set, with their defaults, and values that nothing reads here.
    """
    from emc2_lite.cli.commented import commented

    click.echo(commented(config_of(name, parameters, None, False)), nl=False)


@config.command()
@click.argument("name", shell_complete=complete_configs)
@click.argument("file", type=FILE)
@changes
@in_a_sentence(lambda: "Interrupted. No configuration was written.")
def export(name, file, parameters):
    """Write what `config show` prints to FILE, which `train` takes in place of a name."""
    from emc2_lite.cli.commented import commented

    if file.suffix != ".toml":
        raise click.UsageError(f"FILE is {file}: its name must end in .toml, so that train reads it")
    text = commented(config_of(name, parameters, None, False))
    if file.exists():
        raise ValueError(f"{file} exists: delete it, or choose another name.")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, text)
    click.echo(f"{file}. Now: emc2-lite train {file}")
