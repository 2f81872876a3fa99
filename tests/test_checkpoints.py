"""Checkpoints and metrics: written whole or not at all, and refused when damaged or of another run."""

import json
import os
import re
from pathlib import Path

import pytest
import torch
from runs import outcome, small

from emc2_lite.runs import train_run
from emc2_lite.training import load_checkpoint, read_metrics, save_checkpoint
from emc2_lite.training.metrics import MetricsLog

STATE = {"weights": torch.arange(1000.0), "step": 5}


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, STATE)
    return path


def test_a_saved_state_is_loaded(saved):
    state = load_checkpoint(saved)
    assert torch.equal(state["weights"], STATE["weights"]) and state["step"] == 5
    assert os.listdir(saved.parent) == ["last.pt"]


def refuse(*arguments):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(("owner", "name"), [(os, "fsync"), (Path, "replace"), (torch, "save")])
def test_a_full_disk_leaves_the_last_checkpoint(saved, monkeypatch, owner, name):
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, refuse)
        with pytest.raises(
            OSError, match=r"cannot write the checkpoint .* \(No space left on device\): the one before"
        ):
            save_checkpoint(saved, {"weights": torch.zeros(3), "step": 6})
    assert load_checkpoint(saved)["step"] == 5
    assert os.listdir(saved.parent) == ["last.pt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full, a disk that is always full")
def test_a_really_full_disk_is_named(saved, monkeypatch):
    with_name = Path.with_name
    monkeypatch.setattr(Path, "with_name", lambda path, name: Path("/dev/full"))
    monkeypatch.setattr(Path, "unlink", lambda path, missing_ok: None)
    with pytest.raises(OSError, match=r"No space left on device.*make room, then continue with --resume"):
        save_checkpoint(saved, STATE | {"more": torch.zeros(10**6)})
    monkeypatch.setattr(Path, "with_name", with_name)
    assert load_checkpoint(saved)["step"] == 5


def test_a_checkpoint_is_flushed_before_it_gets_its_name(saved, monkeypatch):
    order = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda number: (order.append("flushed"), fsync(number)))
    monkeypatch.setattr(Path, "replace", lambda draft, path: (order.append("named"), replace(draft, path)))
    save_checkpoint(saved, STATE)
    assert order == ["flushed", "named"]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_checkpoint_is_refused(saved, share):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=re.escape(f"{saved} is cut short, damaged or no checkpoint (")):
        load_checkpoint(saved)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "x.pt"
    with pytest.raises(FileNotFoundError, match=re.escape(f"There is no checkpoint {path}: start the run first")):
        load_checkpoint(path)
    path.write_text("some text")
    with pytest.raises(ValueError, match="is cut short, damaged or no checkpoint"):
        load_checkpoint(path)
    for other in ({"weights": torch.zeros(3)}, torch.zeros(3), {"format": 99}):
        torch.save(other, path)
        with pytest.raises(ValueError, match="is not a checkpoint of this library's format 4"):
            load_checkpoint(path)


class Trap:
    """Unpickling this runs code."""

    def __reduce__(self):
        return os.mkdir, ("sprung",)


def test_loading_runs_no_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"format": 2, "trap": Trap()}, "x.pt")
    with pytest.raises(ValueError, match="is cut short, damaged or no checkpoint"):
        load_checkpoint(Path("x.pt"))
    assert not Path("sprung").exists()


def test_metrics_are_lines_and_later_lines_than_the_checkpoint_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path, 0) as log:
        for step in (4, 8, 12):
            log.write({"step": step, "loss": step / 2})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [4, 8, 12]
    path.write_text(path.read_text() + '{"step": 16, "lo')
    assert [row["step"] for row in read_metrics(path)] == [4, 8, 12]
    with MetricsLog(path, 8) as log:
        log.write({"step": 12, "loss": -1.0})
    assert read_metrics(path) == [{"step": 4, "loss": 2.0}, {"step": 8, "loss": 4.0}, {"step": 12, "loss": -1.0}]


def test_metrics_of_an_earlier_run_do_not_stay_in_a_new_one(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 4}\n')
    with MetricsLog(path, 0):
        pass
    assert read_metrics(path) == []


def test_a_run_does_not_resume_with_another_configuration(tmp_path):
    train_run(small(training__epochs=1), tmp_path, progress=False)
    before = outcome(tmp_path)
    for values in ({"training__epochs": 2}, {"loss__temperature": 0.1}, {"training__seed": 1}):
        with pytest.raises(ValueError, match=r"The run was started with another configuration: .* was .* and is"):
            train_run(small(**({"training__epochs": 1} | values)), tmp_path, progress=False)
    with pytest.raises(ValueError, match=re.escape("data.samples was 48 and is 40")):
        train_run(small(training__epochs=1, data__samples=40), tmp_path, progress=False)
    assert outcome(tmp_path).keys() == before.keys()
    assert torch.equal(outcome(tmp_path)["generator"], before["generator"])


def test_weights_that_are_not_finite_are_not_written(tmp_path):
    with pytest.raises(ValueError, match=r"NaN or infinite"):
        train_run(small("NT-Xent", optimiser__name="sgd", optimiser__learning_rate=1e30), tmp_path, progress=False)
    if (tmp_path / "last.pt").exists():
        assert all(weights.isfinite().all() for weights in outcome(tmp_path)["encoder"].values())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full, a disk that is always full")
def test_a_full_disk_under_the_metrics_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path, 0) as log:
        log.file.close()
        log.file = open("/dev/full", "a")  # noqa: SIM115
        with pytest.raises(
            OSError, match=rf"cannot write {re.escape(str(path))} \(No space left on device\): make room"
        ):
            log.write({"step": 1})
        log.file = open(path, "a")  # noqa: SIM115


def test_a_run_does_not_resume_on_another_kind_of_device(tmp_path):
    train_run(small(training__epochs=1), tmp_path, progress=False)
    state = load_checkpoint(tmp_path / "last.pt")
    save_checkpoint(tmp_path / "last.pt", state | {"device": "cuda"})
    with pytest.raises(
        ValueError, match="started on cuda and is to go on on cpu, where its random state means nothing"
    ):
        train_run(small(training__epochs=1), tmp_path, progress=False)
