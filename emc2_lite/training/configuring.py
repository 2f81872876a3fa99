"""Configurations read from TOML, changed by name, compared."""

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emc2_lite.checks import check_values, descriptions, unread
from emc2_lite.losses import LOSSES
from emc2_lite.training.config import Config, Data, Encoder, Loss, Optimiser, Training, settings_of_method
from emc2_lite.vision import Augmentation

SHIPPED = Path(__file__).parent / "configs"
KINDS = (Data, Encoder, Loss, Optimiser, Training)
SECTIONS = {kind.__name__.lower(): kind for kind in KINDS} | {"views": Augmentation}
# A resumed run may change these settings, which do not enter the computation, or (CUDA graphs) its last bits at most.
_FREE = (
    *("data.folder", "data.workers", "data.skip_corrupt"),
    *("training.device", "training.processes", "training.cuda_graphs", "training.checkpoint_seconds"),
    "training.loggers",
)


def read_config(name: str | Path) -> Config:
    """The configuration in a TOML file, or the shipped one of that name (`shipped_configs`).

    Raises: FileNotFoundError: if neither a file nor a shipped configuration has that name; ValueError: if the file is
        no TOML, or `from_dict` refuses its content.

    >>> read_config("stl10").encoder.name
    'resnet18'
    """
    path = Path(name).expanduser()
    if path.suffix != ".toml":
        path = SHIPPED / f"{name}.toml"
    if not path.is_file():
        words = f"There is no configuration {name}: name a file that ends in .toml, "
        raise FileNotFoundError(f"{words}or one of {', '.join(shipped_configs())}.")
    try:
        return from_dict(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise ValueError(f"{path} is no TOML: {problem}.") from None
    except RecursionError:
        raise ValueError(f"{path} is no configuration: its lists are nested too deeply.") from None
    except ValueError as problem:
        raise ValueError(f"{path}: {problem}") from None


def shipped_configs() -> list[str]:
    """The names of the configurations that come with the library.

    >>> shipped_configs()
    ['cifar10', 'cifar10_small', 'digits', 'imagenet100', 'stl10']
    """
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def from_dict(sections: Mapping[str, Mapping[str, Any]]) -> Config:
    """A configuration from sections of literals; a missing value takes its default.

    Raises: ValueError: on an unknown section or key, a wrong kind or range, or a non-default value that nothing reads.

    >>> from_dict({"training": {"epochs": 5}}).training.epochs
    5
    """
    made: dict[str, Any] = {}
    for name, values in sections.items():
        if (kind := SECTIONS.get(name)) is None:
            raise ValueError(f"There is no section [{name}]: use {', '.join(SECTIONS)}.")
        if not isinstance(values, Mapping):
            raise ValueError(f"{name} is {values!r}: it is a section, [{name}], with keys in it.")
        if kind is Loss:
            known = {key: values[key] for key in ("method", "temperature") if key in values}
            made[name] = Loss(**known, settings={key: value for key, value in values.items() if key not in known})
            continue
        for key in values:
            if key not in descriptions(kind):
                raise ValueError(f"[{name}] has no {key!r}: it has {', '.join(descriptions(kind))}.")
        if kind is Augmentation and "size" not in values:
            raise ValueError("[views] lacks size.")
        try:
            made[name] = kind(**values)
        except ValueError as problem:
            raise ValueError(f"[views] {problem}" if kind is Augmentation else str(problem)) from None
    return Config(**made)


def changed(config: Config, **values: Any) -> Config:
    """The configuration with new values, named "section.key", such as ``training.batch_size``.

    Settings of the old configuration that nothing reads in the new one, as gamma where the method is no longer SogCLR,
    are dropped.

    Raises: ValueError: as `from_dict`, and on a named value that nothing reads in the new configuration.

    >>> changed(Config(), **{"loss.method": "SogCLR", "loss.gamma": 0.5}).as_dict()["loss"]
    {'method': 'SogCLR', 'temperature': 0.07, 'gamma': 0.5}
    """
    sections = config.as_dict()
    named: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        section, _, key = name.partition(".")
        if not (section and key):
            raise ValueError(f"{name!r} names no value: write section.key, such as training.batch_size.")
        named.setdefault(section, {})[key] = value
    if named.get("loss", {}).get("method", config.loss.method) != config.loss.method:
        sections["loss"] = {"temperature": config.loss.temperature}
    for section in sections | named:
        chosen = sections.get(section, {}) | named.get(section, {})
        hints, defaults = _settings(section, chosen)
        dropped = unread(hints, defaults | chosen).keys() - named.get(section, {})
        sections[section] = {key: value for key, value in chosen.items() if key not in dropped}
    new = from_dict(sections)
    for section, chosen in new.as_dict().items():
        hints, defaults = _settings(section, chosen)
        given = {key: value for key, value in chosen.items() if key in named.get(section, {})}
        check_values(hints, given, defaults | chosen, section)
    return new


def differences(old: Config, new: Config) -> list[str]:
    """What would not continue the same run, as "section.key was X and is Y"; `_FREE` may differ."""
    before, after = (
        {f"{section}.{key}": value for section, values in config.as_dict().items() for key, value in values.items()}
        for config in (old, new)
    )
    return [
        f"{name} was {before.get(name)!r} and is {after.get(name)!r}"
        for name in before | after
        if name not in _FREE and before.get(name) != after.get(name)
    ]


def _settings(section: str, chosen: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The descriptions and the defaults of a section's settings, for the loss with those of the chosen method."""
    if (kind := SECTIONS.get(section)) is None:
        return {}, {}
    hints, defaults = descriptions(kind), {field.name: field.default for field in dataclasses.fields(kind)}
    if kind is Loss and (method := chosen.get("method", Loss.method)) in list(LOSSES):
        own = settings_of_method(method)
        hints, defaults = hints | own[0], defaults | own[1]
    return hints, defaults
