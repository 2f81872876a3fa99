"""Configurations read from TOML, changed by name, compared."""

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_type_hints

from emc2_lite.training.config import Config, Data, Encoder, Loss, Optimiser, Training
from emc2_lite.vision import Augmentation

SHIPPED = Path(__file__).parent / "configs"
# What may differ when a run is taken up again: where things lie and what is told of it, not what is computed.
_FREE = (
    "data.folder",
    "data.workers",
    "training.device",
    "training.checkpoint_seconds",
)


def read_config(name: str | Path) -> Config:
    """The configuration in a TOML file, or the shipped one of that name (`shipped_configs`).

    Raises:
        FileNotFoundError: if there is no such file and no shipped configuration of that name.
        ValueError: if the file is no TOML, or holds what `from_dict` refuses.
    """
    path = Path(name)
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
        ValueError: on a section or a key that there is not, or a value of the wrong kind or out of range.
    """
    kinds = {"views": Augmentation, "data": Data, "encoder": Encoder, "optimiser": Optimiser, "training": Training}
    made: dict[str, Any] = {}
    for name, values in sections.items():
        if name not in (*kinds, "loss"):
            raise ValueError(f"There is no section [{name}]: use {', '.join(['loss', *kinds])}.")
        if not isinstance(values, Mapping):
            raise ValueError(f"{name} is {values!r}: it is a section, [{name}], with keys in it.")
        made[name] = _loss(values) if name == "loss" else _section(name, kinds[name], values)
    return Config(**made)


def changed(config: Config, **values: Any) -> Config:
    """The configuration with values in the place of some, named "section.key", such as ``training.batch_size``.

    Raises:
        ValueError: as `from_dict`.
    """
    sections = config.as_dict()
    for name, value in values.items():
        section, dot, key = name.partition(".")
        if not (section and dot and key):
            raise ValueError(f"{name!r} names no value: write section.key, such as training.batch_size.")
        if section == "loss" and key == "method" and value != config.loss.method:
            sections["loss"] = {"temperature": sections["loss"]["temperature"]}
        sections.setdefault(section, {})[key] = value
    return from_dict(sections)


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
    settings = {key: value for key, value in values.items() if key not in known}
    return dataclasses.replace(_section("loss", Loss, known), settings=settings)


def _section(name: str, kind: type, values: Mapping[str, Any]) -> Any:
    hints = get_type_hints(kind)
    checked = {}
    for key, value in values.items():
        if key not in hints:
            raise ValueError(f"[{name}] has no {key!r}: it has {', '.join(hints)}.")
        checked[key] = _of_kind(f"{name}.{key}", value, hints[key])
    try:
        return kind(**checked)
    except TypeError:
        needed = [f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING and f.name not in values]
        raise ValueError(f"[{name}] lacks {', '.join(needed)}.") from None


def _of_kind(name: str, value: Any, hint: Any) -> Any:
    """The value, a whole number made a float and a list a tuple where the hint says so."""
    wanted = [kind for kind in get_args(hint) if kind is not type(None)] if isinstance(hint, UnionType) else [hint]
    kind = getattr(wanted[0], "__origin__", wanted[0])
    if kind is float and type(value) is int:
        return float(value)
    if kind is tuple and isinstance(value, list | tuple):
        inner = get_args(wanted[0])
        if len(value) != len(inner):
            raise ValueError(f"{name} is {value!r}: it must be a list of {len(inner)} numbers.")
        return tuple(_of_kind(name, item, of) for item, of in zip(value, inner, strict=True))
    if type(value) is not kind:
        raise ValueError(f"{name} is {value!r}: it must be {_KINDS[kind]}.")
    return value


_KINDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text in quotes",
    tuple: "a list of numbers",
}
