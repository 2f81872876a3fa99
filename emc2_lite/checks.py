"""Checks at the edge: settings, described once beside what they set, and tensors. Each refusal is one sentence.

The annotation of a setting is its description: a kind (`int`, `float`, `bool`, `str`, a `Literal` of choices,
`X | None`, a tuple or a sequence of these), `Annotated` with its `Bounds` and with `Unread` where nothing reads it.
`check_values` checks the settings of constructors, configurations and experiments.
"""

import inspect
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import lru_cache, wraps
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import torch
from torch import Generator, Tensor

from emc2_lite.tracing import Arguments, Result


@dataclass(frozen=True)
class Bounds:
    """The range of a number: `least` and `most` are inside, `above` and `below` are outside."""

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf

    def hold(self, value: float) -> bool:
        return self.least <= value <= self.most and self.above < value < self.below

    def __str__(self) -> str:
        if self.least > -math.inf and self.most < math.inf:
            return f"from {self.least:,} to {self.most:,}"
        words = {
            f"of {self.least:,} or more" if self.below == math.inf else f"from {self.least:,},": self.least > -math.inf,
            f"above {self.above:,}": self.above > -math.inf,
            f"at most {self.most:,}": self.most < math.inf,
            f"below {self.below:,}": self.below < math.inf,
        }
        return " and ".join(text for text, applies in words.items() if applies)


class Unread:
    """Nothing reads the marked setting where `setting`, another one of its section, has one of the `values`."""

    def __init__(self, setting: str, *values: Any):
        self.setting, self.values = setting, values


class Increasing(NamedTuple):
    """Marks a list of at least `least` numbers, each above the one before."""

    least: int = 1


class Distinct(NamedTuple):
    """Marks a list without repeated values."""


Settings = Mapping[str, Any]
Share = Annotated[float, Bounds(least=0, most=1)]
Temperature = Annotated[float, Bounds(above=0)]
Seed = Annotated[int, Bounds(least=0, most=2**63 - 1)]
Width = Annotated[int, Bounds(least=1, most=65_536)]

_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def checked(name: str, value: Any, hint: Any, verb: str = "is") -> Any:
    """The value in the form that its description `hint` asks for: a float for a whole number, a tuple for a list.

    `name` and `verb` begin the refusal: "size is 0" for a setting, "sizes holds 0" for an item of a list.

    Raises: ValueError: on a value of another kind or outside the bounds.
    """
    hint, marks = _taken_apart(hint)
    if get_origin(hint) in (UnionType, Union):
        if value is None:
            return None
        hint, more = _taken_apart(next(kind for kind in get_args(hint) if kind is not NoneType))
        marks += more
    if get_origin(hint) in (tuple, Sequence):
        return _checked_list(name, value, hint, marks, verb)
    refused = f"{name} {verb} {_shown(value)}"
    if get_origin(hint) is Literal:
        if not isinstance(value, str) or value not in get_args(hint):
            raise ValueError(f"{refused}: use one of {', '.join(get_args(hint))}.")
        return value
    bounds = next((mark for mark in marks if isinstance(mark, Bounds)), None)
    number = _as_kind(value, hint)
    if number is None or (bounds and not bounds.hold(number)):
        raise ValueError(f"{refused}: it must be {_KINDS[hint]}{f' {bounds}' if bounds else ''}.")
    return number


def check_values(
    hints: Settings, given: Settings, defaults: Settings, section: str = "", *, defaults_pass: bool = False
) -> dict[str, Any]:
    """The given settings, checked against their descriptions; `section` and a dot go before their names.

    With `defaults_pass`, a setting that is given with its default value is accepted even where nothing reads it.

    Raises: ValueError: on a name without description, a value that its description refuses, or one that nothing reads.
    """
    before = f"{section}." if section else ""
    values = {}
    for name, value in given.items():
        if name not in hints:
            raise ValueError(f"There is no setting {before}{name}: use {', '.join(hints) or 'none'}.")
        values[name] = checked(before + name, value, hints[name])
    chosen = {**defaults, **values}
    for name, mark in unread(hints, chosen).items():
        if name in given and not (defaults_pass and values[name] == defaults.get(name)):
            words = f"{before}{name} is {_shown(given[name])}, and nothing reads it where "
            raise ValueError(f"{words}{before}{mark.setting} is {_shown(chosen[mark.setting])}: leave it out.")
    return values


def unread(hints: Settings, values: Settings) -> dict[str, Unread]:
    """The settings that nothing reads when the others have these values, each with the mark that says so."""
    marks = [(name, mark) for name, hint in hints.items() for mark in _taken_apart(hint)[1] if isinstance(mark, Unread)]
    return {name: mark for name, mark in marks if values.get(mark.setting) in mark.values}


@lru_cache
def descriptions(described: Callable) -> dict[str, Any]:
    """The described parameters of a function or fields of a dataclass, by name."""
    hints = get_type_hints(described, include_extras=True)
    return {name: hint for name, hint in hints.items() if name != "return" and _describes(hint)}


def checked_settings(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Check a function's described parameters before each call, by `check_values` with `defaults_pass`."""
    signature = inspect.signature(function)
    defaults = {name: parameter.default for name, parameter in signature.parameters.items()}

    @wraps(function)
    def call(*arguments: Arguments.args, **settings: Arguments.kwargs) -> Result:
        bound, hints = signature.bind(*arguments, **settings), descriptions(function)
        given = {name: value for name, value in bound.arguments.items() if name in hints}
        bound.arguments.update(check_values(hints, given, defaults, defaults_pass=True))
        return function(*bound.args, **bound.kwargs)

    return call


def check_fields(section: Any, name: str = "") -> None:
    """Check the described fields of a frozen dataclass in its ``__post_init__``, and set them to the checked values.

    `name` is the section in the refusals; a default value is accepted even where nothing reads the field.
    """
    hints, defaults = descriptions(section.__class__), {field.name: field.default for field in fields(section)}
    given = {key: getattr(section, key) for key in hints}
    for key, value in check_values(hints, given, defaults, name, defaults_pass=True).items():
        object.__setattr__(section, key, value)


def check_tensor(value: object, name: str) -> None:
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} is a {type(value).__name__}: pass a torch.Tensor.")


def check_generator(value: object, device: torch.device) -> None:
    """Accept None, or a torch.Generator on the `device` of the tensors."""
    if not isinstance(value, Generator | None):
        raise ValueError(f"generator is a {type(value).__name__}: pass a torch.Generator, or None for torch's default.")
    if value is not None and value.device.type != device.type:
        words = f"generator is on {value.device} and the tensors on {device}: "
        raise ValueError(f"{words}pass torch.Generator({str(device)!r}).")


def _taken_apart(hint: Any) -> tuple[Any, tuple]:
    """The kind and the marks of a description."""
    return (get_args(hint)[0], hint.__metadata__) if get_origin(hint) is Annotated else (hint, ())


def _describes(hint: Any) -> bool:
    kind, _ = _taken_apart(hint)
    if get_origin(kind) in (UnionType, Union, tuple, Sequence):
        return all(inner in (NoneType, Ellipsis) or _describes(inner) for inner in get_args(kind))
    return kind in _KINDS or get_origin(kind) is Literal


def _as_kind(value: Any, kind: type) -> Any:
    """The value as `kind`, or None for a value of another kind; truth values are not numbers."""
    if kind in (bool, str):
        return value if type(value) is kind else None
    with suppress(OverflowError):  # a whole number too large for a float
        is_number = isinstance(value, numbers.Integral if kind is int else numbers.Real) and not isinstance(value, bool)
        return kind(value) if is_number and (kind is int or math.isfinite(value)) else None
    return None


def _checked_list(name: str, value: Any, hint: Any, marks: tuple, verb: str) -> tuple:
    inner = get_args(hint)
    many = get_origin(hint) is Sequence or inner[-1] is Ellipsis
    increasing = next((mark for mark in marks if isinstance(mark, Increasing)), None)
    least = (increasing or Increasing()).least if many else len(inner)
    if not isinstance(value, list | tuple) or len(value) < least or (not many and len(value) > least):
        words = f"{'at least ' if many else ''}{least} value{'s' if least > 1 else ''}"
        raise ValueError(f"{name} {verb} {_shown(value)}: it must be a list of {words}.")
    kinds = [inner[0]] * len(value) if many else inner
    values = tuple(checked(name, item, kind, "holds") for item, kind in zip(value, kinds, strict=True))
    if increasing and list(values) != sorted(set(values)):
        raise ValueError(f"{name} is {_shown(value)}: its numbers must grow from one to the next.")
    if Distinct() in marks and len(set(values)) < len(values):
        twice = next(item for item in values if values.count(item) > 1)
        raise ValueError(f"{name} holds {_shown(twice)} more than once: name each value once.")
    return values


def _shown(value: Any) -> str:
    """The value as Python writes it, shortened where it is long."""
    try:
        text = repr(value)
    except Exception:  # such as a number with more digits than Python prints
        text = f"a {type(value).__name__} that cannot be printed"
    return text if len(text) <= 80 else f"{text[:77]}..."
