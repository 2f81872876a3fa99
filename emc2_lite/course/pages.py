"""Pages of the book that no notebook has: the reference of public names, and the records."""

import ast
import inspect
import json
import re
import shutil
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat

from emc2_lite.course.solved import CHECKED
from emc2_lite.records import ROOT

# The packages of the reference, in the order of the course, and the chapters' names for what they do.
PACKAGES = {
    "emc2_lite.sampling": "Sampling",
    "emc2_lite.losses": "Losses",
    "emc2_lite.vision": "Images, views, encoders",
    "emc2_lite.training": "Training",
    "emc2_lite.evaluation": "Evaluation",
    "emc2_lite.laboratory": "Laboratory",
    "emc2_lite.laboratory.neighbours": "Newer estimators",
    "emc2_lite.runs": "Runs",
    "emc2_lite.records": "Records",
}
CHAPTERS = ROOT / "chapters"
# Pages that are one file of the repository each.
TEXTS = {
    "notation.md": CHAPTERS / "notation.md",
    "data.md": ROOT / "data" / "README.md",
    "contributing.md": ROOT / "CONTRIBUTING.md",
    "changelog.md": ROOT / "CHANGELOG.md",
}
LONGEST_TABLE = 8  # rows of a record's outcome on the page; the file has all


@cache
def public_names() -> dict[str, str]:
    """The full name of each public object, by its short and its full name; a short name of two objects is no key."""
    full = [f"{package}.{name}" for package, names in members().items() for name in names]
    short: dict[str, list[str]] = {}
    for name in full:
        short.setdefault(name.rpartition(".")[2], []).append(name)
    return {name: names[0] for name, names in short.items() if len(names) == 1} | {name: name for name in full}


@cache
def documented_modules() -> frozenset[str]:
    """The modules that define the public objects."""
    objects = (
        getattr(import_module(name.rpartition(".")[0]), name.rpartition(".")[2]) for name in public_names().values()
    )
    return frozenset(
        module for thing in objects if (module := getattr(thing, "__module__", "")).startswith("emc2_lite")
    )


def chapters_of(name: str) -> list[str]:
    """The chapters (stems) that use the public object of that full name in their code or name it in their text."""
    return [stem for stem, names in _used().items() if name.rpartition(".")[2] in names]


@cache
def _cells() -> dict[str, list[nbformat.NotebookNode]]:
    """The cells of each chapter, by the chapter's stem."""
    paths = sorted(CHAPTERS.glob("*.ipynb"))
    return {path.stem: nbformat.read(path, as_version=4).cells for path in paths}


@cache
def _code() -> dict[str, list[ast.Module]]:
    """The code of each chapter, cell by cell."""
    return {stem: [_parsed(c.source) for c in cells if c.cell_type == "code"] for stem, cells in _cells().items()}


def _parsed(code: str) -> ast.Module:
    """A cell's code without the notebook's own commands."""
    return ast.parse(re.sub(r"^[%!].*$", "", code, flags=re.MULTILINE))


@cache
def _used() -> dict[str, frozenset[str]]:
    """The names in each chapter's code, and those that its text writes as code."""
    used = {}
    for stem, code in _code().items():
        nodes = [node for part in code for node in ast.walk(part)]
        names = {node.id for node in nodes if isinstance(node, ast.Name)}
        names |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        texts = [cell.source for cell in _cells()[stem] if cell.cell_type == "markdown"]
        written = [name for text in texts for name in re.findall(r"`(?:emc2_lite[\w.]*\.)?(\w+)[(`]", text)]
        used[stem] = frozenset(names | set(written))
    return used


@cache
def members() -> dict[str, tuple[str, ...]]:
    """The public names of each package; a name that two packages have belongs to the first."""
    result, seen = {}, set()
    for package in PACKAGES:
        module = import_module(package)
        own = {name: id(getattr(module, name)) for name in _members(module)}
        result[package] = tuple(sorted(name for name, thing in own.items() if thing not in seen))
        seen |= set(own.values())
    return result


def _members(module: ModuleType) -> list[str]:
    names = getattr(module, "__all__", None)
    if names is None:
        own = inspect.getmembers(module, lambda thing: getattr(thing, "__module__", None) == module.__name__)
        names = [name for name, _ in own if not name.startswith("_")]
    things = {name: getattr(module, name) for name in names}
    return [name for name, thing in things.items() if inspect.isclass(thing) or inspect.isroutine(thing)]


def reference() -> dict[str, str]:
    """The pages of the reference by file name: one for each package, and their list."""
    pages, rows = {}, []
    for package, title in PACKAGES.items():
        file = package.removeprefix("emc2_lite.").replace(".", "_")
        names = members()[package]
        listed = "\n".join(f"- {{py:obj}}`{name} <{package}.{name}>`" for name in names)
        automodule = f".. automodule:: {package}\n   :members: {', '.join(names)}\n   :member-order: bysource"
        pages[f"{file}.md"] = f"# {title}\n\n{listed}\n\n```{{eval-rst}}\n{automodule}\n```\n"
        first = (import_module(package).__doc__ or "").strip().partition("\n\n")[0].replace("\n", " ")
        rows.append(f"| [{title}]({file}.md) | `{package}` | {first} |")
    table = "\n".join(["| page | package | what it has |", "| --- | --- | --- |", *rows])
    tree = "\n".join(f"{name.removesuffix('.md')}" for name in pages)
    words = "The examples behind `>>>` are run by the tests. Below a description stand the chapters that use the name."
    pages["index.md"] = f"# The library\n\n{words}\n\n{table}\n\n```{{toctree}}\n:hidden:\n\n{tree}\n```\n"
    return pages


def times() -> str:
    """The table of the chapters' minutes, as their first cells state them, and of their exercises."""
    rows, total = [], [0, 0, 0]
    for stem, cells in _cells().items():
        found = re.search(r"\*\*Time\*\* (\d+) minutes to read, (\d+) for the exercises?", cells[0].source)
        assert found, f"chapter {stem} does not say how long it takes"
        counts = [
            int(found[1]),
            int(found[2]),
            sum(len(set(CHECKED.findall(c.source))) for c in cells if c.cell_type == "code"),
        ]
        total = [one + other for one, other in zip(total, counts, strict=True)]
        title = cells[0].source.partition("\n")[0].lstrip("# ")
        rows.append(f"| [{title}]({stem}.ipynb) | {' | '.join(map(str, counts))} |")
    head = ["| chapter | to read | for the exercises | exercises |", "| --- | --- | --- | --- |"]
    return "\n".join([*head, *rows, f"| all | {' | '.join(map(str, total))} |"])


def plain_docstring(lines: list[str]) -> list[str]:
    """A docstring as reStructuredText: paragraphs and items on a line each; formulas and examples as they are."""
    result: list[str] = []
    listed = False
    for paragraph in "\n".join(lines).strip("\n").split("\n\n"):
        rows = paragraph.split("\n")
        depth = min(len(row) - len(row.lstrip()) for row in rows)
        if rows[0].lstrip().startswith(">>>"):
            result += [row[depth:] for row in rows]
        elif depth >= (6 if listed else 4):  # a formula stands deeper than the text or the item around it
            result += ["::", "", *(f"   {row}" for row in rows)]
        else:
            listed = rows[0].startswith(("* ", "- ", "Args:")) or (listed and depth > 0)
            result += _items(rows)
        result.append("")
    return result


def _items(rows: list[str]) -> list[str]:
    """Lines joined to paragraphs; an item of a list, a named argument and a line of "Raises:" begin a new one."""
    joined: list[str] = []
    for row in rows:
        text = row.strip()
        argument = row.startswith("    ") and re.match(r"[\w, *]+: ", text)
        if argument:
            names, _, words = text.partition(": ")
            joined.append(f"* `{names}`: {words}")
        elif re.match(r"(?:\* |- |Args:|Raises:|Source:|Call )", text) or not joined:
            joined.append(text)
        else:
            joined[-1] += f" {text}"
    return [line for text in joined for line in (_escaped(text), "")]


def _escaped(text: str) -> str:
    """Text without signs that mean something to reStructuredText, but for the back-ticks of code."""
    parts = re.split(r"(``[^`]+``|`[^`]+`)", text)
    for place in range(0, len(parts), 2):
        parts[place] = re.sub(r"(?<!\\)([*|_])", r"\\\1", parts[place])
        if text.startswith("* ") and place == 0:
            parts[place] = parts[place].replace("\\*", "*", 1)
    return "".join(parts)


def records(root: Path, source: Path, files: Path) -> str:
    """The page of the records: what each is, how it was made, its outcome, and the figures that chapters draw of it."""
    parts, card = ["# Records", "", RECORDS_INTRODUCTION, ""], card_of_records(root / "data" / "README.md")
    for path in sorted((root / "data" / "records").glob("*.json")):
        shutil.copy(path, files)
        parts += [_record(path, source, card[path.stem]), ""]
    return "\n".join(parts)


RECORDS_INTRODUCTION = (
    "What takes longer than a chapter may was run once and recorded, with its configuration, seeds, device, versions "
    "and the revision of the code. Nothing in a record is edited by hand, and the chapters read the files themselves. "
    'The time is that of all runs, one after the other. [Data](data.md) says what "no number" and "+changes" mean.'
)


def card_of_records(page: Path) -> dict[str, dict[str, str]]:
    """The rows of the table of records in the card of the data, by the record and the column's name."""
    head, _, *rows = (
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in page.read_text(encoding="utf-8").partition("| record |")[2].partition("\n\n")[0].splitlines()
    )
    return {row[0].strip("` "): dict(zip(head, row[1:], strict=True)) for row in rows}


def _record(path: Path, source: Path, card: dict[str, str]) -> str:
    record = json.loads(path.read_text(encoding="utf-8"))
    readers = [stem for stem in _readers(path.stem) if (source / f"{stem}.ipynb").exists()]
    facts = {
        "made by": card["command that makes it again"],
        "time": card["time"],
        "read in": ", ".join(f"[chapter {stem[:2]}]({stem}.ipynb)" for stem in readers) or "no chapter; see the README",
        "settings": "; ".join(f"{name}: {value}" for name, value in _settings(record["config"])),
        "seeds": len(record["seeds"]),
        "device": record["device"],
        "versions": ", ".join(f"{name} {number}" for name, number in record["versions"].items() if number),
        "revision": f"`{record['revision']}`",
        "differs since": card["what differs since"],
        "file": f'<a href="_static/records/{path.name}">{path.name}</a>',
    }
    table = "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in facts.items())])
    figures = "\n\n".join(html for stem in readers for html in _figures(source / f"{stem}.ipynb", path.stem))
    title, what = path.stem.replace("_", " "), card["what it measures"]
    sentence = f"{what[0].upper()}{what[1:]}."
    return "\n\n".join(filter(None, [f"## {title}", sentence, table, figures, _outcome(record["final"], title)]))


def _settings(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The settings of a record but its seeds, by their names, with dots where they lie in sections."""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{inner}", text) for inner, text in _settings(value))
        elif name != "seeds":
            values = value if isinstance(value, list) else [value]
            yield name, ", ".join(f"`{one}`" if isinstance(one, str) else _short(one) for one in values)


def _outcome(rows: list[dict[str, Any]], title: str) -> str:
    columns = list(rows[0])
    head = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    body = [f"| {' | '.join(_short(row.get(name)) for name in columns)} |" for row in rows[:LONGEST_TABLE]]
    more = f"\n\nThe first {LONGEST_TABLE} of {len(rows)} rows; the file has all." if len(rows) > LONGEST_TABLE else ""
    table = "\n".join([*head, *body])
    return f"<details><summary>Outcome: {title}</summary>\n\n{table}{more}\n\n</details>"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).replace("|", "\\|") if value is not None else "–"


def _readers(record: str) -> list[str]:
    return [stem for stem, code in _code().items() if any(_reads(part, record) for part in code)]


def _reads(tree: ast.AST, record: str) -> bool:
    """Whether the code calls read_record with the record's name."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "read_record")
    return any(ast.unparse(call) == f"read_record({record!r})" for call in calls)


def _figures(page: Path, record: str) -> list[str]:
    """The figures of the page's cells that use what was read from the record."""
    known: set[str] = set()
    found = []
    for cell in nbformat.read(page, as_version=4).cells:
        if cell.cell_type != "code":
            continue
        uses = [_follow(part, known, record) for part in _parsed(cell.source).body]
        if any(uses):
            found += [output.data["text/html"] for output in cell.outputs if "text/html" in output.get("data", {})]
    return [html.replace('id="figure-', 'id="record-figure-') for html in found]


def _follow(part: ast.stmt, known: set[str], record: str) -> bool:
    """Add to ``known`` the names that a statement makes from the record, drop those that it makes from other things.

    Returns whether the statement makes no name, and so draws or prints, of what comes from the record.
    """
    nodes = [*ast.walk(part)]
    own = {node.arg for node in nodes if isinstance(node, ast.arg)}
    made = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    read = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    uses = _reads(part, record) or bool(known & read - own - made)
    if isinstance(part, ast.FunctionDef):
        made = {part.name}
    if isinstance(part, ast.Assign | ast.FunctionDef | ast.For | ast.AnnAssign):
        if uses:
            known |= made
        else:
            known -= made
        return False
    return uses
