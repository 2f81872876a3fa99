"""A configuration as TOML with a comment for every value, from the docstrings and annotations of its sections."""

import dataclasses
import inspect
import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from emc2_lite.checks import checked, descriptions, unread
from emc2_lite.losses import LOSSES
from emc2_lite.training import Config
from emc2_lite.training.config import Loss, settings_of_method
from emc2_lite.training.configuring import SECTIONS

WIDTH = 120


def commented(config: Config) -> str:
    """TOML that `read_config` reads as the same configuration.

    Lines that begin with # are values that are not set, and values that nothing reads beside the others.

    >>> commented(Config()).splitlines()[:2]
    ['[data]', 'name = "digits"  # digits, cifar10, stl10, imagenet100, or folder (of images)']
    """
    sections = (_section(name, values, config.loss.method) for name, values in config.as_dict().items())
    return "\n".join("\n".join(lines) + "\n" for lines in sections)


def allowed(hint: Any) -> str:
    """What `checked` accepts for an annotation, such as "a whole number of 1 or more", in the words of its refusal."""
    try:
        checked("", object(), hint)
    except ValueError as refusal:
        return str(refusal).partition(">: ")[2].removeprefix("it must be ").removeprefix("use ").removesuffix(".")
    return ""


def meanings(described: Any, names: Iterable[str]) -> dict[str, str]:
    """The first sentence of a docstring on each of the `names`, which stand before a colon: "flip, blur: chances".

    >>> from emc2_lite.losses import SogCLRLoss
    >>> meanings(SogCLRLoss, ["gamma"])
    {'gamma': 'the share of the new mean, in (0, 1]; 0.9 in the papers'}
    """
    text = " ".join((inspect.getdoc(described) or "").partition(">>>")[0].replace("Args:", "").split())
    known = {*names}
    found: dict[str, str] = {}
    for match in re.finditer(r"(?:^|(?<=[.;] ))((?:\w+, )*\w+): (.*?)(?:\. |\.?$|; (?=\w+: ))", text):
        if known.issuperset(keys := match[1].split(", ")):
            found |= dict.fromkeys(keys, match[2].replace(", see above", ""))
    return found


def _section(name: str, values: Mapping[str, Any], method: str) -> Iterator[str]:
    """The lines of a section with these values; that of the loss has the settings of the method too."""
    kind = SECTIONS[name]
    hints, known = descriptions(kind), meanings(kind, descriptions(kind))
    defaults: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(kind)}
    if kind is Loss:
        own = settings_of_method(method)
        hints, defaults = hints | own[0], defaults | own[1]
        known |= meanings(LOSSES[method], hints)
    chosen = {**defaults, **values}
    idle = unread(hints, chosen)
    yield f"[{name}]"
    for key, hint in hints.items():
        words = _words(known.get(key, ""), allowed(hint))
        if key in idle:
            words = f"nothing reads it where {idle[key].setting} is {_toml(chosen[idle[key].setting])}"
        elif key not in values:
            words = f"{'not set' if chosen[key] is None else 'the default'}; {words}"
        off = "# " if key in idle or key not in values else ""
        line = f"{off}{key} = {'...' if chosen[key] is None else _toml(chosen[key])}  # "
        first, *others = textwrap.wrap(words, max(WIDTH - len(line), 40), break_long_words=False)
        yield line + first
        yield from (" " * (len(line) - 2) + f"# {words}" for words in others)


def _words(meaning: str, range_: str) -> str:
    """What a value means, and its choices if the meaning does not name them; its range if there is no meaning."""
    choices = range_.removeprefix("one of ").split(", ") if range_.startswith("one of ") else []
    unnamed = not all(choice in meaning for choice in choices)
    return "; ".join([meaning] * bool(meaning) + [range_] * (not meaning or unnamed))


def _toml(value: Any) -> str:
    """JSON's texts, numbers, truth values and lists are TOML's too, but for one control character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
