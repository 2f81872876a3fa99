"""Runs on colour images in real files: in memory or decoded as needed, interrupted, evaluated, and refused."""

import json
import os
import re
import signal
from functools import partial

import image_files
import pytest
import torch
from click.testing import CliRunner
from runs import in_a_process_that_dies, kill_at, outcome, same

from emc2_lite import cli
from emc2_lite.runs import evaluate_run, load_views, train_run
from emc2_lite.training import changed, from_dict
from emc2_lite.vision import FileViews, ImageViews

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path):
    classes = {"a": 8, "b": 8}
    image_files.image_folder(tmp_path / "images" / "train", classes, side=20, ending="jpg")
    image_files.image_folder(tmp_path / "images" / "test", classes, side=20, ending="jpg")
    return tmp_path / "images"


def config(folder, **values):
    sections = {
        "data": {"name": "folder", "folder": str(folder), "workers": 2},
        "views": {"size": 16},
        "encoder": {"name": "resnet18", "dim": 16},
        "loss": {"method": "EMC2", "temperature": 0.2},
        "optimiser": {"learning_rate": 1e-4},
        "training": {
            "epochs": 2,
            "batch_size": 4,
            "device": "cpu",
            "threads": 1,
            "log_steps": 2,
            "checkpoint_seconds": 0,
        },
    }
    return changed(from_dict(sections), **{name.replace("__", "."): value for name, value in values.items()})


def test_images_are_read_into_memory_only_on_request(folder):
    views, labels = load_views(config(folder), "train", CPU)
    assert isinstance(views, FileViews) and labels.tolist() == [0] * 8 + [1] * 8
    resident, _ = load_views(config(folder, data__in_memory=True), "test", CPU)
    assert isinstance(resident, ImageViews) and resident.images.dtype == torch.uint8
    few, labels = load_views(config(folder, data__samples=10), "train", CPU)
    assert len(few) == len(labels) == 10


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_run_on_images_resumes_bit_for_bit_and_is_evaluated(folder, tmp_path, in_memory):
    chosen = config(folder, data__in_memory=in_memory)
    train_run(chosen, tmp_path / "whole", progress=False)
    work = partial(train_run, chosen, tmp_path / "killed", progress=False)
    assert (
        in_a_process_that_dies(work, kill_at("emc2_lite.training.loop:TrainingStep", "__call__", 6)) == signal.SIGKILL
    )
    work()
    assert same(outcome(tmp_path / "killed"), outcome(tmp_path / "whole"))
    rows = {row["measure"]: row for row in evaluate_run(tmp_path / "whole", device="cpu")}
    assert 0 <= rows["1-NN"]["low"] <= rows["1-NN"]["accuracy"] <= 1


def test_images_without_labels_train_without_accuracy(tmp_path):
    image_files.image_folder(tmp_path / "flat", {".": 8}, side=18)
    record = train_run(config(tmp_path / "flat"), tmp_path / "run", progress=False)
    assert sorted(os.listdir(tmp_path / "run")) == ["last.pt", "metrics.jsonl", "record.json"]
    assert record["final"][0]["best_accuracy"] is None
    with pytest.raises(FileNotFoundError, match="flat has no test images"):
        evaluate_run(tmp_path / "run", device="cpu")


def train(folder, *more):
    toml = folder.parent / "run.toml"
    sections = config(folder).as_dict()
    toml.write_text(
        "\n".join(
            f"[{name}]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in section.items())
            for name, section in sections.items()
        )
    )
    return CliRunner().invoke(cli.main, ["train", str(toml), "--output", str(folder.parent / "run"), *more])


def test_a_corrupt_file_stops_the_run_with_its_name_and_is_skipped_only_if_asked(folder):
    bad = folder / "train" / "b" / "003.jpg"
    bad.write_bytes(bad.read_bytes()[:200])
    result = train(folder)
    assert result.exit_code == 1
    assert re.search(rf"Error: {re.escape(str(bad))} cannot be read as an image .*--skip-corrupt", result.output)
    assert "Traceback" not in result.output
    with pytest.warns(UserWarning, match=re.escape(f"1 files cannot be read and are left out: {bad}")):
        skipped = train(folder, "--skip-corrupt", "--resume")
    assert skipped.exit_code == 1  # a run on all images does not resume without one
    assert (
        "data.skip_corrupt was False and is True" in skipped.output or "images and there are 15 now" in skipped.output
    )
    with pytest.warns(UserWarning, match="left out"):
        assert train(folder, "--skip-corrupt", "--output", str(folder.parent / "other")).exit_code == 0


def test_a_missing_image_is_noticed(folder, tmp_path):
    train_run(config(folder, training__epochs=1), tmp_path / "run", progress=False)
    (folder / "train" / "a" / "000.jpg").unlink()
    with pytest.raises(ValueError, match="started with 16 images and there are 15 now: give it the same images"):
        train_run(config(folder, training__epochs=1), tmp_path / "run", progress=False)


def test_a_dry_run_looks_into_the_folder(folder):
    result = train(folder, "--dry-run", "-p", "data.in_memory", "true")
    assert result.exit_code == 0, result.output
    assert result.output.startswith("folder: 16 images, 2 epochs of 4 steps, 8 steps in all\n")
    assert not (folder.parent / "run").exists()


def test_a_shipped_configuration_can_be_planned_without_its_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = {"training.batch_size": "2", "training.precision": "float32", "views.size": "16"}
    given = [part for name, value in values.items() for part in ("-p", name, value)]
    for name, images in (("stl10", "100,000"), ("cifar10", "50,000"), ("imagenet100", "126,689")):
        result = CliRunner().invoke(cli.main, ["train", name, "--dry-run", "--device", "cpu", *given])
        assert result.exit_code == 0, result.output
        assert result.output.startswith(f"{name}: {images} images, ")
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_fetches_its_images_once_before_it_begins(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("emc2_lite.vision.load_images", lambda *names, **settings: asked.append((names, settings)))
    monkeypatch.setattr("emc2_lite.laboratory.sweep.run_cell", lambda cell: asked.append("run"))
    arguments = ["sweep", "cifar10", "--download", "--methods", "NT-Xent", "--seeds", "1", "--output", str(tmp_path)]
    CliRunner().invoke(cli.main, arguments)
    assert asked[0] == (("cifar10", "test", "data/downloads"), {"download": True})
    assert asked[1:] == ["run"]
