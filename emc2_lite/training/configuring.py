"""Configurations read from TOML, changed by name, compared."""

import dataclasses
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from emc2_lite.checks import descriptions, unread
from emc2_lite.losses import LOSSES
from emc2_lite.training.config import Config, Data, Encoder, Loss, Optimiser, Training, settings_of_method
from emc2_lite.vision import Augmentation

SHIPPED = Path(__file__).parent / "configs"
SECTIONS = {"loss": Loss, "views": Augmentation} | {
    "data": Data,
    "encoder": Encoder,
    "optimiser": Optimiser,
    "training": Training,
}
# What may differ when a run is taken up again: where things lie and what is told of it, not what is computed.
_FREE = (
    "data.folder",
    "data.workers",
    "data.skip_corrupt",
    "training.device",
    "training.checkpoint_seconds",
)


def read_config(name: str | Path) -> Config:
    """The configuration in a TOML file, or the shipped one of that name (`shipped_configs`).

    Raises:
        FileNotFoundError: if there is no such file and no shipped configuration of that name.
        ValueError: if the file is no TOML, or holds what `from_dict` refuses.
    """
    path = Path(name).expanduser()
    if path.suffix != ".toml":
        path = SHIPPED / f"{name}.toml"
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no configuration {name}: name a file that ends in .toml, "
            f"or one of {', '.join(shipped_configs())}."
        )
    try:
        sections = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as problem:
        raise ValueError(f"{path} is no TOML: {problem}.") from None
    except RecursionError:
        raise ValueError(f"{path} is no configuration: its lists lie too deep in one another.") from None
    try:
        return from_dict(sections)
    except ValueError as problem:
        raise ValueError(f"{path}: {problem}") from None


def shipped_configs() -> list[str]:
    """The names of the configurations that come with the library."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def from_dict(sections: Mapping[str, Mapping[str, Any]]) -> Config:
    """A configuration from sections of literals; what is left out has its default.

    Raises:
        ValueError: on a section or a key that there is not, a value of the wrong kind or out of range, or one that
            nothing reads and that is not the default.
    """
    made: dict[str, Any] = {}
    for name, values in sections.items():
        if name not in SECTIONS:
            raise ValueError(f"There is no section [{name}]: use {', '.join(SECTIONS)}.")
        if not isinstance(values, Mapping):
            raise ValueError(f"{name} is {values!r}: it is a section, [{name}], with keys in it.")
        made[name] = _loss(values) if name == "loss" else _section(name, values)
    return Config(**made)


def changed(config: Config, **values: Any) -> Config:
    """The configuration with values in the place of some, named "section.key", such as ``training.batch_size``.

    Settings of the old configuration that nothing reads in the new one, as gamma where the method is no longer SogCLR,
    fall away.

    Raises:
        ValueError: as `from_dict`, and on a named value that nothing reads in the new configuration.
    """
    sections = config.as_dict()
    for name, value in values.items():
        section, dot, key = name.partition(".")
        if not (section and dot and key):
            raise ValueError(f"{name!r} names no value: write section.key, such as training.batch_size.")
        if section == "loss" and key == "method" and value != config.loss.method:
            kept = {key: sections["loss"][key] for key in sections["loss"] if f"loss.{key}" in values}
            sections["loss"] = {"temperature": sections["loss"]["temperature"], **kept}
        sections.setdefault(section, {})[key] = value
    for section, chosen in sections.items():
        for key in _unread(section, chosen):
            if f"{section}.{key}" not in values:
                del chosen[key]
    new = from_dict(sections)
    _refuse_unread(new, values)
    return new


def differences(old: Config, new: Config) -> list[str]:
    """What would not continue the same run, as "section.key was X and is Y"; where things lie may differ."""
    flat = [
        {f"{section}.{key}": value for section, values in config.as_dict().items() for key, value in values.items()}
        for config in (old, new)
    ]
    names = dict.fromkeys([*flat[0], *flat[1]])
    return [
        f"{name} was {flat[0].get(name)!r} and is {flat[1].get(name)!r}"
        for name in names
        if name not in _FREE and flat[0].get(name) != flat[1].get(name)
    ]


def _loss(values: Mapping[str, Any]) -> Loss:
    known = {key: values[key] for key in ("method", "temperature") if key in values}
    return Loss(**known, settings={key: value for key, value in values.items() if key not in known})


def _section(name: str, values: Mapping[str, Any]) -> Any:
    kind = SECTIONS[name]
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for key in values:
        if key not in fields:
            raise ValueError(f"[{name}] has no {key!r}: it has {', '.join(fields)}.")
    needed = [key for key, field in fields.items() if field.default is dataclasses.MISSING and key not in values]
    if needed:
        raise ValueError(f"[{name}] lacks {', '.join(needed)}.")
    try:
        return kind(**values)
    except ValueError as problem:
        raise ValueError(f"[views] {problem}" if kind is Augmentation else str(problem)) from None


def _refuse_unread(config: Config, named: Iterable[str]) -> None:
    """Raise ValueError if nothing reads one of the values that were named, "section.key"."""
    sections = config.as_dict()
    for name in named:
        section, _, key = name.partition(".")
        if mark := _unread(section, sections.get(section, {})).get(key):
            raise ValueError(
                f"{name} is given, and nothing reads it where {section}.{mark.setting} is one of "
                f"{', '.join(map(repr, mark.values))}: leave it out."
            )


def _unread(section: str, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a section that nothing reads where the others have these values."""
    if section == "loss":
        method = chosen.get("method", Loss.method)
        hints, defaults = settings_of_method(method) if method in list(LOSSES) else ({}, {})
    else:
        kind = SECTIONS.get(section)
        hints = descriptions(kind) if kind else {}
        defaults = {field.name: field.default for field in dataclasses.fields(kind)} if kind else {}
    found = unread(hints, {**defaults, **chosen})
    return {key: mark for key, mark in found.items() if key in chosen}
