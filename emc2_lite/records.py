"""Records of runs in data/records: what was run, with what, how long it took and what came of it; never edited by hand.

A record is one JSON file: ``experiment``, ``config``, ``seeds``, ``device``, ``versions``, ``revision`` (of git, with
"+changes" if the working tree differed), ``seconds``, ``metrics`` (a row for each measurement along the way) and
``final`` (a row for each outcome). A row is a flat dictionary.
"""

import json
import math
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, files, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "data" / "records"
FIELDS = ("experiment", "config", "seeds", "device", "versions", "revision", "seconds", "metrics", "final")


def read_record(name: str) -> dict[str, Any]:
    """The record ``name`` of the repository that this package runs from, or of the installed package.

    Raises:
        FileNotFoundError: if there is no such record.
        ValueError: if the file is not a record.
    """
    return read_record_file(_path(name), "make it again with emc2-lite experiment")


def read_record_file(path: Path, remedy: str = "make it again") -> dict[str, Any]:
    """The record in a file; `remedy` ends the sentence about one that is damaged.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a record.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as problem:  # no JSON, or not even text
        raise ValueError(f"{path} is no record: {problem}; {remedy}.") from None
    missing = [field for field in FIELDS if field not in record] if isinstance(record, dict) else FIELDS
    if missing:
        raise ValueError(f"{path} is no record: it lacks {', '.join(missing)}; {remedy}.")
    return record


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a record, a row a line, whole or not at all; numbers that are not finite become null, as JSON has none.

    Raises:
        OSError: as `write_whole`.
    """
    rows = {name: [json_line(row) for row in record[name]] for name in ("metrics", "final")}
    head = json.dumps({name: record[name] for name in FIELDS if name not in rows}, indent=1)[:-2]
    parts = [f' "{name}": [\n  ' + ",\n  ".join(lines) + "\n ]" for name, lines in rows.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, head + ",\n" + ",\n".join(parts) + "\n}\n")


def json_line(row: dict[str, Any]) -> str:
    """A flat dictionary as JSON, with null in the place of numbers that are not finite."""
    finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
    return json.dumps(finite, allow_nan=False)


def write_whole(path: Path, text: str) -> None:
    """Write the text under a temporary name, then rename: the file is whole, or as it was, and no draft is left.

    Raises:
        OSError: if the disk is full or cannot be written to; what was there stays.
    """
    draft = path.with_name(f".{path.name}.draft")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as failure:
        raise cannot_write(path, failure) from None
    finally:
        draft.unlink(missing_ok=True)


def cannot_write(path: Path, failure: OSError) -> OSError:
    """The system's error with the file and what to do."""
    reason = failure.strerror or failure
    words = f"cannot write {path} ({reason}): make room or choose another place, then give the command again"
    return OSError(failure.errno, words)


def rows_where(rows: Sequence[dict[str, Any]], **values: Any) -> list[dict[str, Any]]:
    """The rows that have all of these values."""
    return [row for row in rows if all(row[name] == value for name, value in values.items())]


def circumstances(device: str) -> dict[str, Any]:
    """The fields of a record that the machine and the checkout decide."""
    packages = ("emc2-lite", "torch", "torchvision", "numpy", "scikit-learn")
    return {
        "device": device,
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in packages}},
        "revision": _revision(),
    }


def _path(name: str) -> Path:
    here = FOLDER / f"{name}.json"
    if here.is_file():
        return here
    try:
        installed = files("emc2-lite") or ()
    except PackageNotFoundError:
        installed = ()
    for file in installed:
        if file.parts[-2:] == ("records", f"{name}.json"):
            return Path(file.locate())
    raise FileNotFoundError(
        f"There is no record {name}: make it with emc2-lite experiment, or take it from data/records."
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _revision() -> str | None:
    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
