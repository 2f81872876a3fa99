"""What the Tab key offers: names of configurations, experiments and methods, names and values of settings."""

from collections.abc import Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

SHIPPED = Path(__file__).parents[1] / "training" / "configs"
HOW = """\b
Tab completes names after one of these lines:
  bash, in ~/.bashrc:  eval "$(_EMC2_LITE_COMPLETE=bash_source emc2-lite)"
  zsh, in ~/.zshrc:    eval "$(_EMC2_LITE_COMPLETE=zsh_source emc2-lite)"
  fish, config.fish:   _EMC2_LITE_COMPLETE=fish_source emc2-lite | source
"""


def complete_configs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The shipped configurations; files where none begins so."""
    names = _beginning(incomplete, (path.stem for path in SHIPPED.glob("*.toml")))
    return names or [CompletionItem(incomplete, type="file")]


def complete_experiments(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from emc2_lite.laboratory.experiments import EXPERIMENTS

    return _beginning(incomplete, EXPERIMENTS)


def complete_methods(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Methods for a list with commas, without those whose names have blanks, at which a shell cuts."""
    from emc2_lite.losses import METHODS

    before, comma, _ = incomplete.rpartition(",")
    names = [name for name in METHODS if " " not in name and name not in before.split(",")]
    return _beginning(incomplete, (before + comma + name for name in names))


def complete_settings(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of settings after -p, such as training.batch_size; after such a name its values, where they are few."""
    from emc2_lite.checks import descriptions
    from emc2_lite.cli.commented import allowed
    from emc2_lite.losses import LOSSES
    from emc2_lite.training.config import settings_of_method
    from emc2_lite.training.configuring import SECTIONS

    hints = {f"{name}.{key}": hint for name, kind in SECTIONS.items() for key, hint in descriptions(kind).items()}
    for method in LOSSES:
        hints |= {f"loss.{key}": hint for key, hint in settings_of_method(method)[0].items()}
    last = ctx.meta["emc2_lite.typed"][-1]
    if last in param.opts:
        return _beginning(incomplete, hints)
    words = allowed(hints[last]) if last in hints else ""
    values = words.removeprefix("one of ").split(", ") if words.startswith("one of ") else []
    return _beginning(incomplete, ["true", "false"] if words == "true or false" else values)


def _beginning(incomplete: str, names: Iterable[str]) -> list[CompletionItem]:
    return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]
