"""Each record's entry in tests/ledger/records.toml: a digest of the code that the record measures, and what differs.

``code`` is a digest of the source files that the record's experiment imports. It stays when comments, docstrings or
layout change. ``differs`` says in plain words what changed in those files since the record's revision, and how somebody
checked that its numbers still hold.

``python tests/test_records_fresh.py`` prints today's digests; with a record's name, the files behind its digest.
"""

import ast
import hashlib
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from emc2_lite.course.pages import card_of_records
from emc2_lite.laboratory.experiments import EXPERIMENTS
from emc2_lite.records import DATA, ROOT, read_record

LEDGER = Path(__file__).parent / "ledger" / "records.toml"
RECORDS = sorted(path.stem for path in (DATA / "records").glob("*.json"))
PLACES = {"emc2_lite": ROOT, "bench": ROOT / "tests"}  # the folders that hold our packages
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def roots_of(record: str) -> list[str]:
    """The modules that make a record."""
    if record.startswith("bench_"):
        names = ["bench_steps"] if record == "bench_gpu_replayed" else ["bench_data", "bench_losses", "bench_sampler"]
        return [f"bench.{name}" for name in dict.fromkeys([*names, "bench_steps"])]
    if record.startswith("sweep_"):
        return ["emc2_lite.laboratory.sweep"]
    experiment = EXPERIMENTS[record.replace("_", "-")]
    return [(experiment.cell or experiment.run).__module__]


def file_of(module: str, places: Mapping[str, Path]) -> Path | None:
    """The source of a module or package of ours; None for any other."""
    top, *_ = module.split(".")
    path = places.get(top, Path("nowhere")).joinpath(*module.split("."))
    return next(filter(Path.is_file, (path.with_suffix(".py"), path / "__init__.py")), None)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path: Path, places: Mapping[str, Path]) -> Iterator[Path]:
    """Our files that a file imports from; of a package, the file that defines the name."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from filter(None, (file_of(alias.name, places) for alias in node.names))
        elif isinstance(node, ast.ImportFrom) and node.module and file_of(node.module, places):
            yield from (home_of(node.module, alias.name, places) for alias in node.names)


def home_of(module: str, name: str, places: Mapping[str, Path]) -> Path:
    """The file behind ``from module import name``, found through packages that only hand the name on."""
    if submodule := file_of(f"{module}.{name}", places):
        return submodule
    path = file_of(module, places)
    assert path is not None, f"no module {module}"
    for node in parsed(path).body if path.name == "__init__.py" else ():
        if isinstance(node, ast.ImportFrom) and node.module and file_of(node.module, places):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return home_of(node.module, alias.name, places)
    return path


def measured_files(roots: Sequence[str], places: Mapping[str, Path] = PLACES) -> list[Path]:
    """The files of these modules, and all of ours that they import, through any number of others."""
    found: set[Path] = set()
    waiting = [path for path in (file_of(root, places) for root in roots) if path]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += imported(path, places)
    return sorted(found)


def canonical(value: Any) -> str:
    """A syntax tree as text, the same for all versions of Python: no positions, docstrings or empty fields."""
    if isinstance(value, list):
        return f"[{', '.join(map(canonical, value))}]"
    if not isinstance(value, ast.AST):
        return repr(value)
    fields = dict(ast.iter_fields(value))
    if isinstance(value, DOCUMENTED) and ast.get_docstring(value) is not None:
        fields["body"] = value.body[1:]
    kept = (f"{name}={canonical(field)}" for name, field in fields.items() if field is not None and field != [])
    return f"{type(value).__name__}({', '.join(kept)})"


def digest(roots: Sequence[str], places: Mapping[str, Path] = PLACES) -> str:
    """The digest of `measured_files`: twelve hexadecimal digits."""
    whole = hashlib.sha256()
    for path in measured_files(roots, places):
        whole.update(f"{path.name}\n{canonical(parsed(path))}\n".encode())
    return whole.hexdigest()[:12]


def entries() -> dict[str, dict[str, str]]:
    return tomllib.loads(LEDGER.read_text(encoding="utf-8"))


COMPARED = sorted(set(RECORDS) & set(entries()))


def stale(record: str, entry: Mapping[str, str], today: str) -> str:
    """What to do about an entry whose digest is not today's; empty if it is."""
    if entry["code"] == today:
        return ""
    revision = read_record(record)["revision"]
    return (
        f"the code that `{record}` measures has changed since it was compared with revision {revision}: make the "
        "record anew or check a seed, then say in tests/ledger/records.toml what differs, with "
        f'code = "{today}" (python tests/test_records_fresh.py {record} lists the files)'
    )


def test_every_record_has_an_entry_and_every_entry_a_record():
    without = sorted(set(RECORDS) - set(entries()))
    assert not without, f"tests/ledger/records.toml lacks {', '.join(without)}: add what differs since the revision"
    gone = sorted(set(entries()) - set(RECORDS))
    assert not gone, f"data/records has no {', '.join(gone)}: delete the entry in tests/ledger/records.toml"


@pytest.mark.parametrize("record", COMPARED)
def test_the_code_that_a_record_measures_is_the_code_that_was_compared(record):
    problem = stale(record, entries()[record], digest(roots_of(record)))
    assert not problem, problem


@pytest.mark.parametrize("record", COMPARED)
def test_an_entry_says_what_differs(record):
    assert set(entries()[record]) == {"code", "differs"}
    said = entries()[record]["differs"]
    assert said == "nothing" or (said[0].isupper() and said.endswith(".") and len(said.split()) >= 5)


def test_a_changed_digest_is_told_with_what_to_do():
    assert stale("jump", {"code": "0" * 12}, "0" * 12) == ""
    told = stale("jump", {"code": "0" * 12}, "1" * 12)
    assert "`jump`" in told and "make the record anew" in told and "1" * 12 in told


@pytest.fixture
def package(tmp_path):
    """package({name: text}) -> the digest of module `root`, which imports `near` by way of a package."""

    def digest_of(changed: Mapping[str, str]) -> str:
        files = {
            "root": "from ours.part import value\n\n\ndef run():\n    return value\n",
            "part/__init__": '"""A package."""\n\nfrom ours.part.far import other\nfrom ours.part.near import value\n',
            "part/near": '"""Values."""\n\nvalue = 1\n',
            "part/far": "other = 2\n",
        }
        for name, text in (files | changed).items():
            path = tmp_path / "ours" / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        parsed.cache_clear()
        return digest(["ours.root"], {"ours": tmp_path})

    return digest_of


def test_a_comment_or_a_docstring_does_not_change_the_digest(package):
    before = package({})
    assert package({"part/near": '"""The chain\'s values."""\n\nvalue   = 1  # one\n'}) == before
    documented = 'from ours.part import value\n\ndef run():\n    """Return the value."""\n    return value\n'
    assert package({"root": documented}) == before


def test_a_changed_value_in_an_imported_module_changes_the_digest(package):
    before = package({})
    assert package({"part/near": "value = 3\n"}) != before
    assert package({"part/near": "value = 1.0\n"}) != before


def test_a_module_that_nobody_imports_does_not_change_the_digest(package):
    before = package({})
    assert package({"part/far": "other = 3\n"}) == before


def test_the_sampler_is_among_the_files_of_every_record():
    sampler = ROOT / "emc2_lite" / "sampling" / "metropolis.py"
    without = [record for record in RECORDS if sampler not in measured_files(roots_of(record))]
    assert not without


def duration(seconds: float) -> str:
    """As the table writes it: seconds up to 2 minutes, minutes up to 2 hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def chapters_that_read(record: str) -> str:
    """Numbers of the chapters whose code reads the record, with commas; a dash where none does."""
    found = []
    for path in sorted((ROOT / "chapters").glob("0*.ipynb")):
        names = re.findall(r'read_record\((f?)\\"(\w+)', path.read_text(encoding="utf-8"))
        if any(record == name or (prefix and record.startswith(name)) for prefix, name in names):
            found.append(path.name[:2])
    return ", ".join(found) or "–"


def test_the_table_of_the_data_card_has_every_record():
    assert sorted(card_of_records(DATA / "README.md")) == RECORDS


@pytest.mark.parametrize("record", RECORDS)
def test_the_table_of_the_data_card_has_the_records_revision_time_and_chapters(record):
    kept, row = read_record(record), card_of_records(DATA / "README.md")[record]
    assert row["revision"] == kept["revision"]
    assert row["time"] == duration(kept["seconds"])
    assert row["chapter"] == chapters_that_read(record)
    kinds = {"bench": "make ", "sweep": "emc2-lite sweep "}
    assert (
        kinds.get(kept["experiment"], f"emc2-lite experiment {kept['experiment']}")
        in row["command that makes it again"]
    )


if __name__ == "__main__":
    for asked in sys.argv[1:] or RECORDS:
        print(f'[{asked}]\ncode = "{digest(roots_of(asked))}"')
        if sys.argv[1:]:
            print(*(f"# {path.relative_to(ROOT).as_posix()}" for path in measured_files(roots_of(asked))), sep="\n")
