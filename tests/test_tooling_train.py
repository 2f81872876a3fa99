"""The commands train, evaluate and sweep, as a user meets them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from runs import SMALL, outcome, same

from emc2_lite import cli
from emc2_lite.cli.measures import explained
from emc2_lite.laboratory import sweep as sweeps
from emc2_lite.records import FIELDS, rows_where
from emc2_lite.training import shipped_configs

CONFIG = "\n".join(
    f"[{name}]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in section.items())
    for name, section in SMALL.items()
)
EMC2_LITE = [sys.executable, "-m", "emc2_lite"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("small.toml").write_text(CONFIG)


def run(*arguments: str):
    return CliRunner().invoke(cli.main, list(arguments))


def test_a_run_is_trained_evaluated_and_not_started_twice():
    result = run("train", "small.toml")
    assert result.exit_code == 0, result.output
    first, images, length, last = result.stdout.splitlines()
    assert first == "New run in build/runs/small"
    assert images.startswith("digits: 48 images of 10 classes (0 ")
    assert length == "3 epochs of 6 steps on cpu, in float32"
    words = r"18 steps, \d+ s, best 1-NN accuracy 0\.\d{3}\. Now: emc2-lite evaluate build/runs/small"
    assert re.fullmatch(words, last)

    again = run("train", "small.toml")
    assert again.exit_code == 1
    assert "build/runs/small holds a run: go on with --resume, or choose another --output." in again.output

    judged = run("evaluate", "build/runs/small", "--labels", "1,5", "--checkpoint", "best")
    assert judged.exit_code == 0, judged.output
    rows = judged.stdout.splitlines()
    interval = r"0\.\d{3}  \(0\.\d{3} to 0\.\d{3}\)"
    assert re.fullmatch(rf"1-NN +{interval}  the class of the nearest training image is right", rows[0])
    assert re.search(r"draw 0 +the same classifier from few labels$", rows[4])
    assert re.search(r"^chance: 0\.\d{3}, the accuracy of naming the commonest class", judged.output, re.MULTILINE)
    chance = json.loads(Path("build/runs/small/evaluation-best.json").read_text())["chance"]
    assert f"chance: {chance:.3f}," in judged.output and 0.1 <= chance < 0.12
    assert len(rows) == 4 + 2 * 5
    assert json.loads(Path("build/runs/small/evaluation-best.json").read_text())["checkpoint"] == "best.pt"
    assert not Path("build/runs/small/evaluation.json").exists()  # the last checkpoint's, which a sweep reads


def test_a_supervised_row_says_how_far_the_probe_with_the_same_labels_is_from_it():
    probe, supervised = {"low": 0.7, "high": 0.9}, {"low": 0.5, "high": 0.7}
    rows = [
        {"measure": "linear probe, tuned", "accuracy": 0.8, **probe},
        {"measure": "supervised, 3 epochs", "accuracy": 0.6, **supervised},
        {"measure": "linear probe, 1 labels a class", "accuracy": 0.3, "draw": 0},
        {"measure": "linear probe, 1 labels a class", "accuracy": 0.5, "draw": 1},
        {"measure": "supervised, 1 labels a class", "accuracy": 0.5, **supervised},
        {"measure": "supervised, 9 labels a class", "accuracy": 0.5, **supervised},
    ]
    endings = [line.partition("alone")[2] for line in explained(rows) if "supervised" in line]
    assert endings == ["; the probe has +0.200", "; the probe has -0.100", ""]


def test_values_are_changed_from_the_command_line():
    changes = ["-p", "loss.method", "SogCLR", "-p", "training.epochs", "1", "-p", "training.channels_last", "true"]
    result = run("train", "small.toml", *changes, "--output", "o")
    assert result.exit_code == 0, result.output
    config = json.loads(Path("o/record.json").read_text())["config"]
    assert config["loss"]["method"] == "SogCLR"
    assert (config["training"]["epochs"], config["training"]["channels_last"]) == (1, True)


def test_a_process_that_is_killed_goes_on_with_resume():
    longer = ["-p", "training.epochs", "40", "-p", "training.checkpoint_seconds", "0.05"]
    command = [*EMC2_LITE, "train", "small.toml", *longer, "--output"]
    process = subprocess.Popen([*command, "killed"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not Path("killed/last.pt").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert torch.load("killed/last.pt", weights_only=True)["step"] < 240
    resumed = subprocess.run([*command, "killed", "--resume"], capture_output=True, text=True)
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.startswith("Going on with the run in killed\n")
    assert run("train", "small.toml", *longer, "--output", "whole").exit_code == 0
    assert same(outcome(Path("killed")), outcome(Path("whole")))


REFUSALS = {
    "There is no configuration nothing: name a file that ends in .toml": ["train", "nothing"],
    "[training] has no 'epoch': it has epochs,": ["train", "small.toml", "-p", "training.epoch", "1"],
    "'epochs' names no value: write section.key": ["train", "small.toml", "-p", "epochs", "1"],
    "batch_size is 64: it must be from 2 to the number of images, 48.": (
        ["train", "small.toml", "-p", "training.batch_size", "64"]
    ),
    "A GPU is asked for, and torch finds none": ["train", "small.toml", "--device", "cuda"],
    "There is no checkpoint nowhere/last.pt: start the run first": ["evaluate", "nowhere"],
    "methods holds 'emc2': use one of NT-Xent, DCL, SogCLR, cache, EMC2,": (
        ["sweep", "small.toml", "--methods", "emc2"]
    ),
    "--batch-sizes is 4;8: write numbers with commas between": ["sweep", "small.toml", "--batch-sizes", "4;8"],
    "cannot write to small.toml": ["train", "small.toml", "--output", "small.toml/inner"],
}


@pytest.mark.parametrize(("sentence", "arguments"), REFUSALS.items(), ids=REFUSALS)
def test_a_command_that_cannot_run_is_refused_in_a_sentence(sentence, arguments, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = run(*arguments)
    assert result.exit_code in (1, 2)
    assert sentence in result.output
    assert "Traceback" not in result.output
    assert not Path("build/runs/small/last.pt").exists()


def test_a_truncated_checkpoint_and_a_changed_configuration_are_refused():
    assert run("train", "small.toml", "-p", "training.epochs", "1").exit_code == 0
    changed = run("train", "small.toml", "--resume", "-p", "training.epochs", "1", "-p", "loss.temperature", "0.1")
    assert changed.exit_code == 1
    assert "The run was started with another configuration: loss.temperature was 0.2 and is 0.1." in changed.output
    last = Path("build/runs/small/last.pt")
    last.write_bytes(last.read_bytes()[:5000])
    damaged = run("train", "small.toml", "--resume", "-p", "training.epochs", "1")
    assert damaged.exit_code == 1
    assert "build/runs/small/last.pt is cut short, damaged or no checkpoint" in damaged.output
    assert last.stat().st_size == 5000


LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
from emc2_lite.cli import main
sys.argv[1:] = ["train", "small.toml"]
main()
"""


def test_a_disk_without_room_ends_the_run_with_a_sentence():
    """A limit on the size of files, less than a checkpoint, stands in for a full disk."""
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True)
    assert done.returncode == 1
    words = r"Error: cannot write the checkpoint build/runs/small/\w+\.pt \(File too large\): the one before"
    assert re.search(words, done.stderr)
    assert "Traceback" not in done.stderr
    assert sorted(os.listdir("build/runs/small")) == ["metrics.jsonl"]


def test_a_dry_run_forecasts_the_run_and_writes_nothing():
    result = run("train", "small.toml", "--dry-run")
    assert result.exit_code == 0, result.output
    images, encoder, duration, again, memory = result.stdout.splitlines()
    assert images == "digits: 48 images, 3 epochs of 6 steps, 18 steps in all"
    assert re.fullmatch(r"encoder: [\d,]+ weights", encoder)
    assert re.match(
        r"time on cpu, in float32: \d+ s, \d+\.\d ms a step \(measured; .*\); \d+% of it is the encoder", duration
    )
    assert re.fullmatch(r"encoded again: \d\.\d\d views for each view of the batch", again)
    parts = "images 0 MiB, weights and gradients 1 MiB, optimiser 1 MiB, loss 0 MiB, activations"
    assert memory.startswith(f"memory: {parts}")
    assert os.listdir() == ["small.toml"]


def test_the_help_names_the_shipped_configurations():
    text = re.sub(r"\s+", " ", run("train", "--help").output)
    assert f"one of: {', '.join(shipped_configs())}." in text


ONE_EPOCH = ["-p", "training.epochs", "1"]
GRID = ["sweep", "small.toml", "--methods", "NT-Xent,EMC2 dropped", "--batch-sizes", "8,16", "--seeds", "2", *ONE_EPOCH]
FOLDER = Path("build/sweeps/small")


def test_a_sweep_makes_a_record_a_table_and_a_figure():
    result = run(*GRID)
    assert result.exit_code == 0, result.output
    record = json.loads((FOLDER / "record.json").read_text())
    assert tuple(record) == FIELDS
    places = [(row["method"], row["batch_size"], row["seed"]) for row in record["metrics"]]
    assert places == [(m, b, s) for s in (0, 1) for b in (8, 16) for m in ("NT-Xent", "EMC2 dropped")]
    first = record["final"][0]
    own = [row["linear_probe"] for row in rows_where(record["metrics"], method="NT-Xent", batch_size=8)]
    assert first["linear_probe"] == pytest.approx(sum(own) / 2)
    assert first["linear_probe_low"] <= first["linear_probe"] <= first["linear_probe_high"]
    table = (FOLDER / "table.md").read_text().splitlines()
    assert len(table) == 2 + 4
    assert table[2].startswith(f"| NT-Xent | 0.2 | 8 | 2 | {first['linear_probe']:.3f} (")
    page = (FOLDER / "figure.html").read_text()
    assert "EMC2 dropped" in page and "<script src=" not in page
    assert [line.split()[0] for line in result.stdout.splitlines()[1:5]] == ["NT-Xent", "EMC2", "NT-Xent", "EMC2"]
    config = json.loads((FOLDER / "EMC2_dropped-t0.2-b16-s1" / "record.json").read_text())["config"]
    assert (config["loss"]["held"], config["training"]["batch_size"], config["training"]["seed"]) == ("dropped", 16, 1)


def test_a_sweep_goes_on_where_it_stopped_and_not_with_another_configuration(monkeypatch):
    assert run(*GRID).exit_code == 0
    before = json.loads((FOLDER / "record.json").read_text())["metrics"]
    (FOLDER / "NT-Xent-t0.2-b8-s1" / "evaluation.json").unlink()
    begun = []
    run_cell = sweeps.run_cell
    monkeypatch.setattr(sweeps, "run_cell", lambda cell: begun.append(cell.folder.name) or run_cell(cell))
    assert run(*GRID).exit_code == 0
    assert begun == ["NT-Xent-t0.2-b8-s1"]
    assert json.loads((FOLDER / "record.json").read_text())["metrics"] == before
    other = run(*GRID, "-p", "optimiser.learning_rate", "0.01")
    assert other.exit_code == 1
    assert "holds a run of another configuration: choose another --output, or delete the folder." in other.output


def test_a_run_that_fails_does_not_stop_the_sweep_and_processes_give_the_same_numbers():
    few = ["sweep", "small.toml", "--methods", "NT-Xent", "--batch-sizes", "8,64", "--seeds", "1", *ONE_EPOCH]
    for jobs in ("1", "2"):
        result = run(*few, "--jobs", jobs, "--output", jobs)
        assert result.exit_code == 1
        failure = "NT-Xent-t0.2-b64-s0: ValueError: batch_size is 64: it must be from 2"
        assert f"1 of 2 runs failed: {failure}" in result.output
    one, two = (json.loads(Path(jobs, "record.json").read_text())["metrics"] for jobs in ("1", "2"))
    assert [row["batch_size"] for row in one] == [8]
    time = {"images_per_second": 0, "seconds": 0}
    assert {**one[0], **time} == {**two[0], **time}
