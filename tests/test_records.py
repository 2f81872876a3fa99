"""Records: written whole or not at all; a damaged or missing record is named with what to do."""

import importlib
import importlib.metadata
import json
import re
import subprocess
from pathlib import Path

import pytest

from emc2_lite import records
from emc2_lite.records import read_record, rows_where, write_record

RECORD = {
    "experiment": "jump",
    "config": {"methods": ["A"], "temperature": 0.07},
    "seeds": [0, 1],
    "device": "cpu",
    "versions": {"torch": "2.6", "emc2-lite": None},
    "revision": None,
    "seconds": 1.5,
    "metrics": [{"method": "A", "bias": 1e-30}, {"method": "Ä", "bias": -2.5}],
    "final": [{"method": "A", "bias_low": None}],
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "DATA", tmp_path)
    (tmp_path / "records").mkdir()
    return tmp_path / "records"


def left_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_written_record_is_read_back(folder):
    write_record(folder / "jump.json", RECORD)
    assert read_record("jump") == RECORD
    assert left_in(folder) == ["jump.json"]
    write_record(folder / "inner" / "empty.json", RECORD | {"metrics": [], "final": []})
    assert json.loads((folder / "inner" / "empty.json").read_text())["metrics"] == []


def test_each_row_is_a_line_so_that_differences_are_readable(folder):
    write_record(folder / "jump.json", RECORD)
    lines = (folder / "jump.json").read_text().splitlines()
    assert '  {"method": "A", "bias": 1e-30},' in lines


def refuse(*arguments):
    raise OSError(28, "No space left on device")


def write_half(path, content):
    with open(path, "wb") as file:
        file.write(content[: len(content) // 2])
    refuse()


def interrupt(*arguments):
    raise KeyboardInterrupt


FAILURES = {
    "a value that JSON cannot hold": (lambda patch: None, {"final": [{"method": object()}]}, TypeError),
    "a missing field": (lambda patch: None, {"device": ...}, KeyError),
    "a full disk": (lambda patch: patch.setattr(Path, "write_bytes", write_half), {}, OSError),
    "a renaming that fails": (lambda patch: patch.setattr(Path, "replace", refuse), {}, OSError),
    "Ctrl-C": (lambda patch: patch.setattr(Path, "replace", interrupt), {}, KeyboardInterrupt),
}


@pytest.mark.parametrize(("prepare", "changes", "failure"), FAILURES.values(), ids=FAILURES)
@pytest.mark.parametrize("there_was_one", [True, False])
def test_a_record_is_written_whole_or_not_at_all(folder, monkeypatch, there_was_one, prepare, changes, failure):
    if there_was_one:
        write_record(folder / "jump.json", RECORD)
    new = {name: value for name, value in (RECORD | {"seconds": 9} | changes).items() if value is not ...}
    with monkeypatch.context() as patch:
        prepare(patch)
        with pytest.raises(failure):
            write_record(folder / "jump.json", new)
    assert left_in(folder) == ["jump.json"] * there_was_one
    if there_was_one:
        assert read_record("jump") == RECORD


def test_the_record_has_its_name_only_when_it_is_complete(folder, monkeypatch):
    replace = Path.replace

    def look_and_replace(draft, path):
        assert json.loads(draft.read_text(encoding="utf-8")) == RECORD
        assert not path.exists()
        assert draft.parent == path.parent  # renaming to another file system would be a copy
        return replace(draft, path)

    monkeypatch.setattr(Path, "replace", look_and_replace)
    write_record(folder / "jump.json", RECORD)
    assert left_in(folder) == ["jump.json"]


def test_a_missing_record_is_named_with_what_to_do(folder):
    with pytest.raises(FileNotFoundError) as refusal:
        read_record("mixing")
    assert str(refusal.value) == (
        "There is no record mixing: make it with emc2-lite experiment, or take it from data/records."
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"experiment": "jump", "conf', "is no record: Unterminated string"),
        ("", "is no record: Expecting value"),
        ("[1, 2]", "is no record: it lacks experiment, config, seeds,"),
        ("42", "is no record: it lacks experiment, config, seeds,"),
        ('{"experiment": "jump", "config": {}, "seeds": []}', "is no record: it lacks device, versions, revision,"),
    ],
)
def test_a_damaged_record_is_named_with_what_to_do(folder, text, sentence):
    (folder / "jump.json").write_text(text)
    with pytest.raises(ValueError) as refusal:
        read_record("jump")
    assert str(refusal.value).startswith(f"{folder / 'jump.json'} {sentence}")
    assert str(refusal.value).endswith("; make it again with emc2-lite experiment.")
    assert "\n" not in str(refusal.value)


def test_rows_are_found_by_all_of_their_values():
    rows = [{"method": m, "b": b} for m in ("A", "B") for b in (4, 8)]
    assert rows_where(rows, method="B", b=4) == [{"method": "B", "b": 4}]
    assert rows_where(rows, method="A") == rows[:2]
    assert rows_where(rows) == rows
    assert rows_where(rows, b=5) == []


def test_an_installed_package_has_its_records_in_its_file_list(tmp_path, monkeypatch):
    """In pip's layout the list is relative to site-packages, and the data lie outside of that folder."""
    monkeypatch.setattr(records, "DATA", tmp_path / "nothing")
    site, share = tmp_path / "lib" / "site-packages", tmp_path / "share" / "emc2-lite" / "records"
    (site / "emc2_lite-9.dist-info").mkdir(parents=True)
    (site / "emc2_lite-9.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: emc2-lite\nVersion: 9\n")
    (site / "emc2_lite-9.dist-info" / "RECORD").write_text(
        "other/jump.json,,\n../../share/emc2-lite/records/jump.json,,\n../../share/emc2-lite/records/mixing.json,,\n"
    )
    write_record(share / "jump.json", RECORD)
    monkeypatch.syspath_prepend(site)
    importlib.invalidate_caches()
    assert read_record("jump") == RECORD
    with pytest.raises(FileNotFoundError, match="There is no record training"):
        read_record("training")


def test_a_package_that_was_never_installed_has_only_the_repositorys_records(folder, monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(records, "files", missing)
    monkeypatch.setattr(records, "version", missing)
    with pytest.raises(FileNotFoundError, match="There is no record jump"):
        read_record("jump")
    assert made()["versions"]["torch"] is None


def made(**fields):
    fields = {"config": {}, "seeds": [0], "device": "cpu", "seconds": 1.25, "metrics": [], "final": []} | fields
    return records.new_record("jump", **fields)


def git(folder, *arguments):
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    done = subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_revision_is_gits_with_a_mark_for_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert made()["revision"] is None
    git(tmp_path, "init", "--quiet")
    assert made()["revision"] is None  # nothing is committed yet
    (tmp_path / "file").write_text("first")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    head = git(tmp_path, "rev-parse", "HEAD")[:12]
    assert made()["revision"] == head
    (tmp_path / "file").write_text("second")
    assert made()["revision"] == f"{head}+changes"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert made()["revision"] is None  # no git


def test_a_new_record_has_every_field_in_order(folder):
    found = made(seeds=range(2), device="the device", seconds=0.26, metrics=RECORD["metrics"], final=RECORD["final"])
    assert tuple(found) == records.FIELDS
    assert (found["experiment"], found["config"], found["seeds"], found["device"]) == ("jump", {}, [0, 1], "the device")
    assert (found["seconds"], found["metrics"], found["final"]) == (0.3, RECORD["metrics"], RECORD["final"])
    write_record(folder / "jump.json", found)
    assert read_record("jump") == found
    assert set(found["versions"]) == {"python", "emc2-lite", "torch", "torchvision", "numpy", "scikit-learn"}
    assert found["versions"]["torch"] == importlib.metadata.version("torch")
    assert re.fullmatch(r"3\.\d+\.\d+.*", found["versions"]["python"])
