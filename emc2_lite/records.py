"""Records of runs in data/records: what was run, on what, for how long, and the results; never edited by hand.

A record is one JSON file: ``experiment``, ``config``, ``seeds``, ``device``, ``versions``, ``revision`` (of git, with
"+changes" if the working tree differed), ``seconds``, ``metrics`` (a row for each measurement along the way) and
``final`` (a row for each outcome). A row is a flat dictionary.
"""

import json
import math
import platform
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, files, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DATA = ROOT / "data"
FIELDS = ("experiment", "config", "seeds", "device", "versions", "revision", "seconds", "metrics", "final")
Row = dict[str, Any]
Rows = list[Row]


def read_record(name: str) -> Row:
    """The record ``name`` of the repository that this package runs from, or of the installed package.

    Raises: FileNotFoundError: if there is no such record; ValueError: if the file is not a record.

    >>> read_record("quality")["device"]
    'cpu'
    """
    if found := data_file("records", f"{name}.json"):
        return read_record_file(found, "make it again with emc2-lite experiment")
    words = f"There is no record {name}: make it with emc2-lite experiment, "
    raise FileNotFoundError(words + "or take it from data/records.")


def data_file(folder: str, name: str) -> Path | None:
    """data/FOLDER/NAME of the repository that this package runs from, or else the installed package's copy."""
    paths = [DATA / folder / name]
    with suppress(PackageNotFoundError):
        installed = files("emc2-lite") or ()
        paths += [Path(str(file.locate())) for file in installed if file.parts[-2:] == (folder, name)]
    return next(filter(Path.is_file, paths), None)


def read_record_file(path: Path, remedy: str = "make it again") -> Row:
    """The record in a file; `remedy` ends the sentence about a damaged file.

    Raises: FileNotFoundError: if there is no such file; ValueError: if the file is not a record.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as problem:  # no JSON, or no text
        raise ValueError(f"{path} is no record: {problem}; {remedy}.") from None
    missing = [field for field in FIELDS if field not in record] if isinstance(record, dict) else FIELDS
    if missing:
        raise ValueError(f"{path} is no record: it lacks {', '.join(missing)}; {remedy}.")
    return record


def write_record(path: Path, record: Row) -> None:
    """Write a record by `write_whole`, a row a line; numbers that are not finite become null, as JSON has none.

    Raises: OSError: as `write_whole`.
    """
    rows = {name: [json_line(row) for row in record[name]] for name in ("metrics", "final")}
    head = json.dumps({name: record[name] for name in FIELDS if name not in rows}, indent=1)[:-2]
    parts = [f' "{name}": [\n  ' + ",\n  ".join(lines) + "\n ]" for name, lines in rows.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, head + ",\n" + ",\n".join(parts) + "\n}\n")


def json_line(row: Row) -> str:
    """A flat dictionary as JSON, with null in the place of numbers that are not finite."""
    finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
    return json.dumps(finite, allow_nan=False)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write text or bytes under a temporary name, then rename: the file is complete or unchanged, and no draft is left.

    Raises: OSError: if the disk is full or cannot be written to; the file stays unchanged.
    """
    draft = path.with_name(f".{path.name}.draft")
    try:
        draft.write_bytes(content.encode() if isinstance(content, str) else content)
        draft.replace(path)
    except OSError as failure:
        raise cannot_write(path, failure) from None
    finally:
        draft.unlink(missing_ok=True)


def cannot_write(path: Path, failure: OSError) -> OSError:
    """The system's error with the file and what to do."""
    words = f"cannot write {path} ({failure.strerror or failure}): make room or choose another place, then try again"
    return OSError(failure.errno, words)


def rows_where(rows: Sequence[Row], **values: Any) -> list[Row]:
    """The rows that have all of these values.

    >>> rows_where([{"method": "DCL", "b": 4}, {"method": "EMC2", "b": 4}], method="DCL")
    [{'method': 'DCL', 'b': 4}]
    """
    return [row for row in rows if all(row[name] == value for name, value in values.items())]


def new_record(
    experiment: str, *, config: Row, seeds: Iterable[int], device: str, seconds: float, metrics: Rows, final: Rows
) -> Row:
    """The record of a run that has just ended, the `FIELDS` in order, with seconds rounded to tenths."""
    packages = ("emc2-lite", "torch", "torchvision", "numpy", "scikit-learn")
    versions: dict[str, str | None] = {"python": platform.python_version(), **dict.fromkeys(packages)}
    for package in packages:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    values = (experiment, config, list(seeds), device, versions, _revision(), round(seconds, 1), metrics, final)
    return dict(zip(FIELDS, values, strict=True))


def _revision() -> str | None:
    git = partial(subprocess.check_output, cwd=ROOT, text=True, stderr=subprocess.DEVNULL)
    with suppress(OSError, subprocess.CalledProcessError):
        commit = git(["git", "rev-parse", "--short=12", "HEAD"]).strip()
        return commit + ("+changes" if git(["git", "status", "--porcelain"]) else "")
    return None
