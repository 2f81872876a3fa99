"""Checks at the edge: settings, described once beside what they set, and tensors. Each refusal is one sentence.

A setting's description is its annotation: a kind (`int`, `float`, `bool`, `str`, a `Literal` of choices, `X | None`, a
tuple or a sequence of these) with `Annotated` bounds, such as ``Annotated[float, Bounds(least=0, below=1)]``. `Unread`
says where nothing reads the setting. Constructors (`checked_settings`), configurations and experiments all go through
`check_values`.
"""

import inspect
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache, wraps
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import torch
from torch import Generator, Tensor


@dataclass(frozen=True)
class Bounds:
    """A number's range: `least` and `most` are in it, `above` and `below` are not."""

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf

    def hold(self, value: float) -> bool:
        return self.least <= value <= self.most and self.above < value < self.below

    def __str__(self) -> str:
        closed = self.least > -math.inf
        upper = f"at most {self.most:,}" if self.most < math.inf else f"below {self.below:,}"
        if not closed and self.above == -math.inf:
            return upper
        if min(self.most, self.below) == math.inf:
            return f"of {self.least:,} or more" if closed else f"above {self.above:,}"
        if not closed:
            return f"above {self.above:,} and {upper}"
        return f"from {self.least:,} to {self.most:,}" if self.most < math.inf else f"from {self.least:,}, and {upper}"


@dataclass(frozen=True)
class Unread:
    """Nothing reads the setting where another one of its section, `setting`, has one of these values."""

    setting: str
    values: tuple[Any, ...]

    def __init__(self, setting: str, *values: Any):
        object.__setattr__(self, "setting", setting)
        object.__setattr__(self, "values", values)


class Increasing(NamedTuple):
    """Marks a list of at least `count` numbers that must grow."""

    count: int = 1


class Distinct(NamedTuple):
    """Marks a list in which nothing may come twice."""


Share = Annotated[float, Bounds(least=0, most=1)]
Temperature = Annotated[float, Bounds(above=0)]
Seed = Annotated[int, Bounds(least=0, most=2**63 - 1)]
Width = Annotated[int, Bounds(least=1, most=65_536)]

_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def checked(name: str, value: Any, hint: Any) -> Any:
    """The value as the description `hint` says: a whole number as a float, a list as a tuple where it asks for these.

    Raises:
        ValueError: on a value of another kind or outside the bounds, with the setting's name.
    """
    hint, marks = _taken_apart(hint)
    if get_origin(hint) in (UnionType, Union):
        kinds = [kind for kind in get_args(hint) if kind is not NoneType]
        return None if value is None else checked(name, value, Annotated[kinds[0], *marks] if marks else kinds[0])
    if get_origin(hint) is Literal:
        if not isinstance(value, str) or value not in get_args(hint):
            raise ValueError(f"{name} is {_shown(value)}: use one of {', '.join(get_args(hint))}.")
        return value
    if get_origin(hint) in (tuple, Sequence):
        return _checked_list(name, value, hint, marks)
    bounds = next((mark for mark in marks if isinstance(mark, Bounds)), Bounds())
    number = _as_kind(value, hint)
    if number is None or (isinstance(number, int | float) and not bounds.hold(number)):
        kind = f"{_KINDS[hint]} {bounds}" if bounds != Bounds() else _KINDS[hint]
        raise ValueError(f"{name} is {_shown(value)}: it must be {kind}.")
    return number


def check_values(
    hints: Mapping[str, Any], given: Mapping[str, Any], defaults: Mapping[str, Any], section: str = ""
) -> dict[str, Any]:
    """The given settings, checked against their descriptions; `section` and a dot go before their names.

    Raises:
        ValueError: on a name without a description, a value that its description refuses, or one that nothing reads.
    """
    before = f"{section}." if section else ""
    values = {}
    for name, value in given.items():
        if name not in hints:
            raise ValueError(f"There is no setting {before}{name}: use {', '.join(hints) or 'none'}.")
        values[name] = checked(before + name, value, hints[name])
    chosen = {**defaults, **values}
    for name, mark in unread(hints, chosen).items():
        if name in given:
            raise ValueError(
                f"{before}{name} is {_shown(given[name])}, and nothing reads it where {before}{mark.setting} is "
                f"{_shown(chosen[mark.setting])}: leave it out."
            )
    return values


def unread(hints: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Unread]:
    """The settings that nothing reads where the others have these values, with the reason."""
    found = {}
    for name, hint in hints.items():
        for mark in _taken_apart(hint)[1]:
            if isinstance(mark, Unread) and values.get(mark.setting) in mark.values:
                found[name] = mark
    return found


@lru_cache
def descriptions(of: Callable) -> dict[str, Any]:
    """The described parameters of a function or fields of a dataclass, by name."""
    hints = get_type_hints(of, include_extras=True)
    return {name: hint for name, hint in hints.items() if name != "return" and _describes(hint)}


def checked_settings(function: Callable) -> Callable:
    """Check a function's described parameters before each call; those without a description pass as they are.

    A setting that is given as what it would be anyway is not refused where nothing reads it.
    """
    signature = inspect.signature(function)
    defaults = {name: p.default for name, p in signature.parameters.items() if p.default is not inspect.Parameter.empty}

    @wraps(function)
    def call(*arguments: Any, **settings: Any) -> Any:
        bound = signature.bind(*arguments, **settings)
        hints = descriptions(function)
        given = {name: value for name, value in bound.arguments.items() if name in hints}
        bound.arguments.update(_checked_changes(hints, given, defaults))
        return function(*bound.args, **bound.kwargs)

    return call


def check_fields(section: Any, name: str = "") -> None:
    """Check the fields of a frozen dataclass in its ``__post_init__``, and set them to what their descriptions make of
    them; `name` and a dot go before theirs. What is as the default has it is not refused where nothing reads it."""
    given = {field.name: getattr(section, field.name) for field in fields(section)}
    defaults = {field.name: field.default for field in fields(section)}
    for key, value in _checked_changes(descriptions(type(section)), given, defaults, name).items():
        object.__setattr__(section, key, value)


def check_tensor(value: object, name: str) -> None:
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} is a {type(value).__name__}: pass a torch.Tensor.")


def check_generator(value: object, device: torch.device) -> None:
    """None, or a torch.Generator on the device of what it draws."""
    if value is None:
        return
    if not isinstance(value, Generator):
        raise ValueError(f"generator is a {type(value).__name__}: pass a torch.Generator, or None for torch's default.")
    if value.device.type != device.type:
        raise ValueError(
            f"generator is on {value.device} and the tensors on {device}: pass torch.Generator({str(device)!r})."
        )


def _taken_apart(hint: Any) -> tuple[Any, tuple]:
    return (get_args(hint)[0], hint.__metadata__) if get_origin(hint) is Annotated else (hint, ())


def _describes(hint: Any) -> bool:
    kind, _ = _taken_apart(hint)
    if get_origin(kind) in (UnionType, Union):
        return all(of is NoneType or _describes(of) for of in get_args(kind))
    if get_origin(kind) in (tuple, Sequence):
        return all(of is Ellipsis or _describes(of) for of in get_args(kind))
    return kind in _KINDS or get_origin(kind) is Literal


def _as_kind(value: Any, kind: type) -> Any:
    """The value as `kind`, or None if it is of another one; truth values are no numbers."""
    truth = isinstance(value, bool)
    if kind is int and isinstance(value, numbers.Integral) and not truth:
        return int(value)
    if kind is float and isinstance(value, numbers.Real) and not truth:
        return _finite(value)
    return value if type(value) is kind and kind in (bool, str) else None


def _finite(value: Any) -> float | None:
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _checked_list(name: str, value: Any, hint: Any, marks: tuple) -> tuple:
    inner = get_args(hint)
    many = get_origin(hint) is Sequence or inner[-1] is Ellipsis
    least = max([mark.count for mark in marks if isinstance(mark, Increasing)], default=1) if many else len(inner)
    if not isinstance(value, list | tuple) or len(value) < least or (not many and len(value) > least):
        words = f"{'at least ' if many else ''}{least} value{'s' if least > 1 else ''}"
        raise ValueError(f"{name} is {_shown(value)}: it must be a list of {words}.")
    kinds = [inner[0]] * len(value) if many else inner
    values = tuple(checked(name, item, kind) for item, kind in zip(value, kinds, strict=True))
    if any(isinstance(mark, Increasing) for mark in marks) and list(values) != sorted(set(values)):
        raise ValueError(f"{name} is {_shown(value)}: its numbers must grow from one to the next.")
    if any(isinstance(mark, Distinct) for mark in marks) and len(set(values)) < len(values):
        twice = next(item for item in values if values.count(item) > 1)
        raise ValueError(f"{name} holds {_shown(twice)} more than once: name each value once.")
    return values


def _checked_changes(
    hints: Mapping[str, Any], given: Mapping[str, Any], defaults: Mapping[str, Any], section: str = ""
) -> dict[str, Any]:
    """The described settings: the defaults where they are the same, `check_values` of the others."""
    same = {name: defaults[name] for name in given if name in hints and _same(defaults.get(name, ...), given[name])}
    changed = {name: value for name, value in given.items() if name in hints and name not in same}
    return same | check_values(hints, changed, {**defaults, **given}, section)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return (type(one) is type(other) or {type(one), type(other)} == {int, float}) and one == other


def _shown(value: Any) -> str:
    """The value as Python writes it, cut where it is long."""
    try:
        text = repr(value)
    except Exception:  # a number of more digits than Python prints, say
        text = f"a {type(value).__name__} that cannot be printed"
    return text if len(text) <= 80 else f"{text[:77]}..."
