"""Metrics and records of a run: always JSON; good rows stay, and a line says which are lost."""

import json
from pathlib import Path

import pytest
import torch
from runs import small

from emc2_lite.records import FIELDS
from emc2_lite.runs import train_run
from emc2_lite.training import read_metrics
from emc2_lite.training.metrics import MetricsLog

ONE_EPOCH = small("NT-Xent", training__epochs=1, training__log_steps=1)


def finished_run(folder: Path) -> dict:
    return train_run(ONE_EPOCH, folder, progress=False)


def again(folder: Path) -> tuple[dict, list[str]]:
    """The finished run resumed once more: its record and the printed lines."""
    said: list[str] = []
    return train_run(ONE_EPOCH, folder, progress=False, tell=said.append), said


def strict(text: str) -> object:
    """The content of standard JSON, which has no Infinity and NaN."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_numbers_that_are_not_finite_are_null_in_metrics_and_record(tmp_path, monkeypatch):
    clip = torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr("emc2_lite.training.loop.nn.utils.clip_grad_norm_", lambda *given: clip(*given) * float("inf"))
    record = train_run(small("NT-Xent", training__epochs=1, optimiser__clip=1.0), tmp_path, progress=False)
    rows = [strict(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["gradient_norm"] for row in rows if "loss" in row] == [None, None]
    assert strict((tmp_path / "record.json").read_text())["metrics"] == rows == record["metrics"]


@pytest.mark.parametrize("bad", ["{", "[1, 2]", '{"loss": 3}', '"text"', '{"step": "five"}', "\x00\xff"])
def test_an_unreadable_line_costs_no_other_line(tmp_path, bad):
    whole = finished_run(tmp_path)
    path = tmp_path / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], bad + "\n", *lines[2:]]))
    (tmp_path / "record.json").unlink()
    record, _ = again(tmp_path)
    assert record["metrics"] == whole["metrics"] and record["final"] == whole["final"]
    assert bad in path.read_text().splitlines()


def test_a_record_with_more_rows_than_the_metrics_stays(tmp_path):
    whole = finished_run(tmp_path)
    (tmp_path / "metrics.jsonl").unlink()
    record, said = again(tmp_path)
    assert record == whole == json.loads((tmp_path / "record.json").read_text())
    assert any("lacks rows that the record has: the record stays as it is" in line for line in said)


def test_without_metrics_and_record_the_new_record_has_the_end_of_the_run(tmp_path):
    whole = finished_run(tmp_path)
    for name in ("metrics.jsonl", "record.json"):
        (tmp_path / name).unlink()
    record, said = again(tmp_path)
    assert tuple(record) == FIELDS and record["metrics"] == []
    best = whole["final"][0]["best_accuracy"]
    assert record["final"] == [{"step": 6, "epoch": 1.0, "best_accuracy": best, "relative_price": 1.0}]
    assert any("has no rows that can be read: the record says only how the run ended" in line for line in said)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"experiment": "train"}', "\x00", "[" * 100_000])
def test_a_damaged_record_is_made_again_and_named(tmp_path, content):
    whole = finished_run(tmp_path)
    (tmp_path / "record.json").write_text(content)
    record, said = again(tmp_path)
    assert record["metrics"] == whole["metrics"] == json.loads((tmp_path / "record.json").read_text())["metrics"]
    assert any(f"The record is made again: {tmp_path / 'record.json'} is no record" in line for line in said)


def test_an_accuracy_after_the_last_evaluated_step_is_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rows = [{"step": 6, "loss": 1.0}, {"step": 6, "accuracy": 0.5}, {"step": 12, "loss": 0.5}]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"step": 12, "accuracy": 0.75}]))
    with MetricsLog(path, step=12, evaluated=6):
        pass
    assert read_metrics(path) == rows
