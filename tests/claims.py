"""The numbers of a page of prose, and the values that the ledger in tests/ledger binds them to.

A page is a chapter or a Markdown file. Its ledger, PAGE.toml, names each sentence with numbers, in order, and for each
number its source: an expression of `Sources`, or one of the words in GIVEN, for a number that nothing computes.
"""

import ast
import base64
import json
import math
import re
import tomllib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import nbformat
import numpy as np
from number_words import WORDS, is_rough, number_of

from emc2_lite.laboratory import Interval, leads
from emc2_lite.laboratory.board import board
from emc2_lite.records import read_record, rows_where
from emc2_lite.training import read_config

ROOT = Path(__file__).parents[1]
LEDGER = Path(__file__).parent / "ledger"
CHAPTERS = sorted((ROOT / "chapters").glob("0*.ipynb"))
NUMBER = re.compile(
    r"(?<![\w.,\-\u2011])(?<!\w[\u2013/])[-\u2212]?\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?(?!\w|-[A-Za-z]|\.\d)"
)
# What is no prose: code, displayed formulas, targets of links, tags, an exercise's stars. Each is blanked.
NO_PROSE = re.compile(
    r"```.*?```|(?<!`)`[^`]+`(?!`)|\$\$.*?\$\$|\]\([^)]*\)|<summary>.*?</summary>|<!--.*?-->|</?\w[^>]*>"
    r"|https?://\S+|\\begin\{.*?\\end\{\w+\*?\}|\([●○] .*?minutes\)|\*\*(?:Bug to find|Build|Open build) [\d.]+",
    re.DOTALL,
)
FORMULA = re.compile(r"(?<!\\)\$[^$\n]+(?:\n[^$\n]+)*\$")  # in a line; only its decimals are numbers of the prose
UNIT = r"(?=\s?%|\s(?:nats?|m?s|seconds?|minutes?|hours?|days?|seeds?|times|[MG]B|pixels?|degrees?|points?)\b)"
SMALL = re.compile(rf"[-\u2212]?[012](?!{UNIT})(?!e-?\d|[\d.,]*\d)")  # as good as words: no claims, but with a unit
# Numbers that name a part of the course; a test finds the part.
PLACES = re.compile(r"(?i)\b(chapters?|sections?|exercises?)((?:,? (?:and|or|to|of) |, | )(?:chapter )?\d+(?:\.\d+)?)+")
GIVEN = ("example", "name", "definition", "count", "minutes", "cited: ")
HEADINGS_WITHOUT_CLAIMS = re.compile(r"#+ (?:References|Exercise\b|\d+[.:]|\d+ )")


class Claim(NamedTuple):
    """A sentence with its numbers as they are written."""

    sentence: str
    numbers: tuple[str, ...]


def claims(text: str) -> Iterator[Claim]:
    """The sentences of Markdown ``text`` that hold numbers; references, headings' numbers and code do not count."""
    text = re.split(r"^#+ References", text, flags=re.MULTILINE)[0]
    prose = PLACES.sub(_blank, FORMULA.sub(_decimals, NO_PROSE.sub(_blank, text)))
    for start, end in _sentences(prose):
        shown = prose[start:end]
        if HEADINGS_WITHOUT_CLAIMS.match(shown):
            shown = re.sub(r"^(#+ (?:Exercise )?)[\d.]+.*$" if "Exercise" in shown else r"^(#+ )[\d.:]+", _blank, shown)
        digits = [found for found in NUMBER.finditer(shown) if not SMALL.match(shown, found.start())]
        found = sorted([*digits, *WORDS.finditer(shown)], key=re.Match.start)
        if numbers := tuple(" ".join(number.group().split()) for number in found):
            yield Claim(" ".join(text[start:end].split()), numbers)


def places(text: str) -> Iterator[tuple[str, str]]:
    """The parts of the course that ``text`` names by number: ("chapter", "05")."""
    for found in PLACES.finditer(NO_PROSE.sub(_blank, text)):
        for number in re.findall(r"\d+(?:\.\d+)?", found.group()):
            yield found.group(1).lower().rstrip("s"), number


def _blank(found: re.Match) -> str:
    return re.sub(r"[^\n]", "\u00a0", found.group())


def _decimals(found: re.Match) -> str:
    return re.sub(r"\d+\.\d+|.", lambda part: part.group() if len(part.group()) > 1 else _blank(part), found.group())


def _sentences(prose: str) -> Iterator[tuple[int, int]]:
    """Where the sentences lie: a blank line, a list item, a heading, a table row or an end of sentence parts them."""
    ends = r"\n\s*\n|\n(?=\s*(?:[-*|#>]|\d+\.) ?)|(?<=[.?!:])[)\"']?\s+(?=[^a-z\s])"
    start = 0
    for found in re.finditer(ends, prose):
        yield start, found.start()
        start = found.end()
    yield start, len(prose)


class About(NamedTuple):
    """A value that the prose gives roughly."""

    value: float
    within: float


class Sources:
    """What a ledger's expressions may use: the chapter's outputs, code and figures, records and configurations."""

    def __init__(self, page: Path):
        self.page = page

    @cached_property
    def notebook(self):
        return nbformat.read(self.page, as_version=4)

    @cached_property
    def outputs(self) -> list[dict[str, Any]]:
        code = (cell for cell in self.notebook.cells if cell.cell_type == "code")
        return [output for cell in code for output in cell.outputs]

    @cached_property
    def figures(self) -> list[dict[str, Any]]:
        shown = (output.get("data", {}).get("application/vnd.plotly.v1+json") for output in self.outputs)
        return [figure for figure in shown if figure]

    def printed(self, pattern: str, which: int = 0) -> float:
        """The number at {} in what the chapter prints; `which` chooses among several {}."""
        texts = [o.get("text", "") + o.get("data", {}).get("text/plain", "") for o in self.outputs]
        return self._one(pattern, texts, which)

    def described(self, pattern: str, which: int = 0) -> float:
        """The number at {} in the description of a figure."""
        texts = [str(o.get("metadata", {}).get("image/png", {}).get("alt", "")) for o in self.outputs]
        return self._one(pattern, texts, which)

    def code(self, pattern: str, which: int = 0) -> float:
        """The number at {} in the chapter's code cells."""
        return self._one(pattern, [c.source for c in self.notebook.cells if c.cell_type == "code"], which)

    def source(self, file: str, pattern: str, which: int = 0) -> float:
        """The number at {} in a file of the repository."""
        return self._one(pattern, [(ROOT / file).read_text(encoding="utf-8")], which)

    def parameter(self, name: str) -> Any:
        """The literal that a code cell sets ``name`` to."""
        for cell in self.notebook.cells:
            if cell.cell_type == "code" and (found := re.search(rf"^{name} = (.+?)(?:  #.*)?$", cell.source, re.M)):
                return ast.literal_eval(found[1])
        raise LookupError(f"no code cell sets {name} to a literal")

    def trace(self, title: str, name: str | int) -> SimpleNamespace:
        """x, y and z of a trace, by its name or its place, in the figure with ``title`` in its title."""
        for figure in self.figures:
            words = re.sub(r"<[^>]*>", " ", json.dumps(figure["layout"].get("title", {}).get("text", "")))
            if title in " ".join(words.split()):
                known = {trace.get("name"): trace for trace in figure["data"]}
                trace = figure["data"][name] if isinstance(name, int) else known[name]
                return SimpleNamespace(**{axis: _values(trace.get(axis)) for axis in "xyz"})
        raise LookupError(f"no figure has {title!r} in its title")

    @staticmethod
    def record(name: str) -> dict:
        """A record of data/records."""
        return read_record(name)

    @staticmethod
    def row(name: str, **where: Any) -> dict:
        """The one row of a record's outcome with these values."""
        (row,) = rows_where(read_record(name)["final"], **where)
        return row

    @staticmethod
    def best(name: str, **where: Any) -> dict:
        """The one row of a sweep's board with these values: means, intervals, and the shortest seconds."""
        (row,) = rows_where(board(read_record(name)), **where)
        return row

    @staticmethod
    def lead(name: str, first: str, second: str, value: str) -> Interval:
        """How far method `first` is above `second` in a record, seed by seed: mean and 95 % interval."""
        apart = leads(read_record(name)["metrics"], second, first, value).difference
        return Interval(-apart.value, -apart.high, -apart.low)

    @staticmethod
    def setting(config: str, name: str) -> Any:
        """A value of a shipped configuration: setting("digits", "training.batch_size")."""
        value: Any = read_config(config)
        for part in name.split("."):
            value = getattr(value, part)
        return value

    @staticmethod
    def _one(pattern: str, texts: list[str], which: int) -> float:
        # {} is the number, {*} any text, and white space matches any white space.
        parts = re.split(r"(\{\*?\}|\s+)", pattern)
        number = r"([-\u2212]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?)"
        known = {"{}": number, "{*}": ".*?"}
        wanted = "".join(known.get(part, r"\s+" if part.isspace() else re.escape(part)) for part in parts)
        found = {_number(match.group(1 + which)) for text in texts for match in re.finditer(wanted, text)}
        if len(found) != 1:
            raise LookupError(f"{pattern!r} is there with {len(found)} different numbers; it must be with one")
        return found.pop()

    def value(self, expression: str) -> Any:
        """The value of a ledger's expression."""
        own = (
            "printed",
            "described",
            "code",
            "source",
            "parameter",
            "trace",
            "record",
            "row",
            "best",
            "lead",
            "setting",
        )
        names = {name: getattr(self, name) for name in own}
        return eval(expression, {"math": math, "np": np, "re": re, "about": About, "ROOT": ROOT} | names)


def agrees(written: str, value: Any) -> bool:
    """Whether the number as written is the value, rounded as written, or the value within what `about` allows.

    A part or a multiple in words, such as "a sixth" or "twice", is the value within a tenth.
    """
    number = _number(written)
    if isinstance(value, About):
        return abs(number - value.value) <= value.within * abs(value.value)
    if written[0].isalpha():
        return abs(number - float(value)) <= (0.1 * abs(value) if is_rough(written) else 0.5)
    mantissa, _, exponent = written.partition("e")
    decimals = len(mantissa.partition(".")[2]) - int(exponent or 0)
    return abs(number - float(value)) <= 0.5 * 10**-decimals * (1 + 1e-6) + 1e-12


def _number(text: str) -> float:
    return number_of(text) if text[0].isalpha() else float(text.replace(",", "").replace("\u2212", "-"))


def _values(data: Any) -> np.ndarray | None:
    if isinstance(data, dict):  # plotly's typed array
        values = np.frombuffer(base64.b64decode(data["bdata"]), dtype=data["dtype"])
        return values.reshape([int(n) for n in str(data["shape"]).split(",")]) if "shape" in data else values
    return None if data is None else np.array(data)


def text_of(page: Path) -> str:
    """The prose of a page."""
    if page.suffix == ".ipynb":
        cells = nbformat.read(page, as_version=4).cells
        return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return page.read_text(encoding="utf-8")


def ledger(page: Path) -> list[tuple[str, list[str]]]:
    """The entries of a page's ledger: a sentence, and the source of each of its numbers."""
    path = LEDGER / f"{page.relative_to(ROOT).with_suffix('').as_posix().replace('/', '-')}.toml"
    if not path.exists():
        return []
    return [(entry["says"], entry["from"]) for entry in tomllib.loads(path.read_text(encoding="utf-8"))["claim"]]


def problems(page: Path) -> list[str]:
    """What does not hold: a sentence that the ledger lacks or has too much, a number that is not its source's."""
    found, sources, said = [], Sources(page), list(claims(text_of(page)))
    entries = dict(ledger(page))
    for sentence, numbers in said:
        origin = entries.get(sentence)
        if origin is None:
            found.append(f"not in the ledger: {sentence}")
        elif len(origin) != len(numbers):
            found.append(f"{len(numbers)} numbers {numbers} and {len(origin)} sources: {sentence}")
        else:
            found += [
                p
                for written, of in zip(numbers, origin, strict=True)
                if (p := _problem(sources, written, of, sentence))
            ]
    return found + [f"in the ledger and not on the page: {one}" for one in entries.keys() - {one for one, _ in said}]


def _problem(sources: Sources, written: str, origin: str, sentence: str) -> str | None:
    if origin.startswith(GIVEN):
        return None
    try:
        value = sources.value(origin)
    except Exception as error:
        return f"{origin}: {type(error).__name__}: {error} ({sentence})"
    if agrees(written, value):
        return None
    return f"{written} is written, and {value} is the value of {origin}: {sentence}"


def main(arguments: list[str]) -> None:
    """`python tests/claims.py PAGE`: what does not hold; with --missing, entries to fill in for what is not there."""
    for name in arguments:
        page = (ROOT / name).resolve() if not name.startswith("-") else None
        if page is None:
            continue
        if "--missing" in arguments:
            known = dict(ledger(page))
            for sentence, numbers in claims(text_of(page)):
                if sentence not in known:
                    print(f"[[claim]]\nsays = {json.dumps(sentence, ensure_ascii=False)}")
                    print(f"from = {json.dumps(list(numbers), ensure_ascii=False)}\n")
        else:
            print(*problems(page), sep="\n")


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
