"""A run knows its images by their content, not their place; a missing measure is reported and costs no other row."""

import json
import os
import re
import shutil

import image_files
import pytest
import torch
from click.testing import CliRunner
from test_run_images import config

from emc2_lite import cli
from emc2_lite.runs import evaluate_run, train_run

SHORT = {"training__epochs": 1, "loss__method": "NT-Xent", "training__evaluate_images": 20}


def images(place, train: dict, test: dict | None = None):
    image_files.image_folder(place / "train", train, side=18)
    if test:
        image_files.image_folder(place / "test", test, side=18)
    return place


def said(work, *arguments, **settings) -> list[str]:
    lines: list[str] = []
    work(*arguments, tell=lines.append, **settings)
    return lines


@pytest.fixture
def trained(tmp_path):
    place = images(tmp_path / "images", {"cat": 8, "dog": 8}, {"cat": 3, "dog": 3})
    train_run(config(place, **SHORT), tmp_path / "run", progress=False)
    return tmp_path


def test_images_may_move_before_a_run_resumes(trained):
    shutil.move(trained / "images", trained / "elsewhere")
    train_run(config(trained / "elsewhere", **SHORT), trained / "run", progress=False)
    with pytest.raises(FileNotFoundError):
        evaluate_run(trained / "run", device="cpu")
    assert evaluate_run(trained / "run", device="cpu", values={"data.folder": str(trained / "elsewhere")})


def test_a_run_is_evaluated_from_any_folder(tmp_path, monkeypatch):
    """The configuration names the images relative to the folder in which the run was started."""
    images(tmp_path / "images", {"cat": 8, "dog": 8}, {"cat": 3, "dog": 3})
    monkeypatch.chdir(tmp_path)
    train_run(config("images", **SHORT), tmp_path / "run", progress=False)
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    result = CliRunner().invoke(cli.main, ["evaluate", "../run", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("1-NN ")


@pytest.mark.parametrize("change", ["renamed", "replaced", "put in another class"])
def test_a_run_does_not_resume_on_other_images(trained, change):
    first = trained / "images" / "train" / "cat" / "000.png"
    if change == "replaced":
        first.write_bytes(first.read_bytes() + b"\x00")
    else:
        first.rename(first.with_name("zzz.png") if change == "renamed" else first.parents[1] / "dog" / "zzz.png")
    with pytest.raises(ValueError, match="The run was started with other images: since then one was renamed, replaced"):
        train_run(config(trained / "images", **SHORT), trained / "run", progress=False)


def test_a_damaged_test_image_can_be_left_out_of_an_evaluation(trained):
    bad = trained / "images" / "test" / "dog" / "001.png"
    bad.write_bytes(bad.read_bytes()[:60])
    refused = CliRunner().invoke(cli.main, ["evaluate", str(trained / "run"), "--device", "cpu"])
    assert refused.exit_code == 1 and re.search(r"001.png cannot be read .*--skip-corrupt", refused.output)
    with pytest.warns(UserWarning, match="left out"):
        result = CliRunner().invoke(cli.main, ["evaluate", str(trained / "run"), "--device", "cpu", "--skip-corrupt"])
    assert result.exit_code == 0 and "tested on 5" in result.output


def test_an_evaluation_cannot_change_the_runs_settings(trained):
    with pytest.raises(ValueError, match=r"training.epochs belongs to the run and cannot be changed for an evaluation"):
        evaluate_run(trained / "run", values={"training.epochs": 3})


def test_images_of_one_class_train_without_accuracy_and_a_line_says_so(tmp_path):
    place = images(tmp_path / "celeb", {"img_align": 8}).joinpath("train")
    lines = said(train_run, config(place, **SHORT), tmp_path / "run", progress=False)
    assert lines[0] == "folder: 8 images of 1 class (img_align 8)"
    assert lines[-1] == (
        "No 1-NN accuracy along the way, and no best.pt: all images are of one class, img_align, and an "
        "accuracy needs 2"
    )
    assert sorted(os.listdir(tmp_path / "run")) == ["last.pt", "metrics.jsonl", "record.json"]


def test_samples_of_a_folder_sorted_by_class_are_of_all_classes(tmp_path):
    place = images(tmp_path / "images", {"a": 20, "b": 20, "c": 20})
    lines = said(train_run, config(place, data__samples=30, **SHORT), tmp_path / "run", progress=False)
    assert re.fullmatch(r"folder: 30 images of 3 classes \(a \d+, b \d+, c \d+\)", lines[0])


def test_a_class_with_a_single_image_does_not_cost_the_other_rows(tmp_path):
    place = images(tmp_path / "images", {"cat": 8, "dog": 8, "eel": 1}, {"cat": 3, "dog": 3, "eel": 1})
    train_run(config(place, **SHORT), tmp_path / "run", progress=False)
    lines: list[str] = []
    rows = evaluate_run(tmp_path / "run", device="cpu", labels_a_class=(5,), tell=lines.append)
    assert [row["measure"] for row in rows][:3] == ["1-NN", "20-NN, weighted", "linear probe, tuned"]
    assert any(
        re.search(r"No row for linear probe, 5 labels a class: .* 1 point.* \(class 2\)", line) for line in lines
    )
    assert len(json.loads((tmp_path / "run" / "evaluation.json").read_text())["missing"]) == 1


def test_the_first_line_counts_the_images_of_every_class(tmp_path):
    many = {f"c{i:02}": 2 + i % 2 for i in range(14)}
    lines = said(train_run, config(images(tmp_path / "many", many), **SHORT), tmp_path / "run", progress=False)
    assert lines[:2] == [
        "folder: 35 images of 14 classes, 2 to 3 each",
        "1 epochs of 8 steps on cpu, in float32",
    ]


def test_the_identity_is_part_of_the_checkpoint(trained):
    held = torch.load(trained / "run" / "last.pt", weights_only=True)["images"]
    assert held["count"] == 16 and len(held["identity"]) >= 32
    assert held["folder"] == str(trained / "images")
