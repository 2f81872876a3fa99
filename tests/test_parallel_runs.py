"""Runs of several processes, started by torchrun: the same weights, resumed by other numbers, lost, refused."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from image_files import image_folder
from processes import in_processes
from runs import LOSSES, SMALL, small

from emc2_lite import vision
from emc2_lite.losses.parallel import Parallel
from emc2_lite.training import Run, load_checkpoint
from emc2_lite.training.processes import Processes
from emc2_lite.vision import DigitViews, load_images

TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
CONFIG = "\n".join(
    f"[{name}]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in section.items())
    for name, section in SMALL.items()
)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("small.toml").write_text(CONFIG)


def start(count, *arguments, program=("-m", "emc2_lite"), config="small.toml"):
    """A run of so many processes, as a user starts it."""
    command = [*TORCHRUN, f"--nproc-per-node={count}", "--standalone", *program, "train", config, *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)


def advanced(rank, size, steps, states=None):
    """The state of each loss's run after some steps in float64, from its start or from a saved state."""
    torch.set_default_dtype(torch.float64)
    views = DigitViews(load_images("digits", "train", samples=48).images.double())
    ends = {}
    for method in LOSSES:
        run = Run(
            small(method, training__epochs=9), views, torch.device("cpu"), Processes(Parallel() if size > 1 else None)
        )
        if states:
            run.load_state_dict(states[method])
        for _ in range(steps):
            run.advance()
        ends[method] = {"embeddings": run.embeddings(), **run.state_dict()}
    return ends


@pytest.fixture(scope="module")
def alone():
    try:
        return advanced(0, 1, 24)
    finally:
        torch.set_default_dtype(torch.float32)


def check_same_ends(alone, others):
    """Weights and embeddings within 1e-9; chains, averages and caches, in float32 or less, too."""
    for method, state in alone.items():
        torch.testing.assert_close(others[method]["embeddings"], state["embeddings"], rtol=0, atol=1e-9)
        for name, weight in state["encoder"].items():
            torch.testing.assert_close(others[method]["encoder"][name], weight, rtol=0, atol=1e-9)
        for name, kept in state["criterion"].items() if others[method]["criterion"] else ():
            tolerance = 1e-3 if kept.dtype == torch.float16 else 1e-5
            torch.testing.assert_close(others[method]["criterion"][name], kept, rtol=0, atol=tolerance)


def test_a_run_of_2_processes_goes_on_with_1_and_then_with_4_to_the_weights_of_one(alone):
    """24 steps, 4 epochs, in float64."""
    first = in_processes(2, advanced, 8)[0]
    (middle,) = in_processes(1, advanced, 6, first)
    for ends in in_processes(4, advanced, 10, middle):
        check_same_ends(alone, ends)


LONG = [
    *("-p", "training.epochs", "100", "-p", "loss.method", "NT-Xent", "-p", "training.evaluate_epochs", "0"),
    *("-p", "training.checkpoint_seconds", "300"),
]


def lines_of(folder):
    path = Path(folder, "metrics.jsonl")
    return path.read_text().count("\n") if path.exists() else 0


def waited(condition, seconds=90):
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds
        time.sleep(0.05)


def begun(count, *arguments):
    """A run that has made some steps since it was started."""
    before, process = lines_of("run"), start(count, "--output", "run", *LONG, *arguments)
    waited(lambda: lines_of("run") > before + 5)
    return process


def test_a_signal_stops_all_processes_after_one_step_and_other_numbers_go_on():
    evaluated = ("-p", "training.evaluate_epochs", "50")
    process = begun(2, *evaluated)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert 0 < load_checkpoint(Path("run/last.pt"))["step"] < 600
    last = start(3, "--output", "run", "--resume", *LONG, *evaluated)
    _, errors = last.communicate(timeout=200)
    assert last.returncode == 0, errors
    record = json.loads(Path("run/record.json").read_text())
    measured = [row["step"] for row in record["metrics"] if "accuracy" not in row]
    assert record["final"][0]["step"] == 600 and measured == [*range(4, 601, 4)]
    assert record["final"][0]["best_accuracy"] > 0.1 and Path("run/best.pt").exists()


def children_of(process):
    """The processes that torchrun has started, by their numbers in the run."""
    return {int(child.environ()["RANK"]): child.pid for child in psutil.Process(process.pid).children()}


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_run_within_seconds_and_the_run_goes_on(victim):
    process = begun(2, "-p", "training.checkpoint_seconds", "0")
    os.kill(children_of(process)[victim], signal.SIGKILL)
    began = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0 and time.monotonic() - began < 20
    assert re.search(rf"Process {1 - victim} \(of 2, counted from 0\) has lost another one", errors)
    assert load_checkpoint(Path("run/last.pt"))["step"] > 0
    resumed = start(2, "--output", "run", "--resume", *LONG)
    _, errors = resumed.communicate(timeout=200)
    assert resumed.returncode == 0, errors


def refused(process):
    """The errors of a run, one a line."""
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    return [line for line in errors.splitlines() if line.startswith("Error: ")]


def test_processes_that_disagree_refuse_to_start_with_one_sentence():
    command = f'exec {sys.executable} -m emc2_lite "$@" -p training.seed $RANK'
    disagreeing = start(2, "--output", "run", program=("--no-python", "bash", "-c", command, "bash"))
    (error,) = refused(disagreeing)
    words = "from process 0 to process 1, training.seed was 0 and is 1; start all of them with the same command"
    assert error.startswith(f"Error: The configuration differs between the processes: {words}")
    assert not Path("run/last.pt").exists()


def test_missing_images_are_one_sentence_of_one_process():
    colour = ["-p", "data.name", "folder", "-p", "data.folder", "nowhere"]
    lacking = start(2, "--output", "run", *colour, config="cifar10_small")
    (error,) = refused(lacking)
    assert "nowhere" in error


def test_a_run_that_needs_more_processes_says_how_to_start_them():
    alone = subprocess.run(
        [sys.executable, "-m", "emc2_lite", "train", "small.toml", "-p", "training.processes", "2"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert alone.returncode == 1
    assert "training.processes is 2, and this is one process: start with torchrun --nproc-per-node=2" in alone.stderr


def test_an_error_of_the_evaluating_process_ends_all_with_its_sentence(tmp_path):
    """The first process cannot write best.pt, for a folder has that name; the other one waits for it."""
    Path("run/best.pt").mkdir(parents=True)
    options = [*LONG, "-p", "training.epochs", "2", "-p", "training.evaluate_epochs", "1"]
    began, errors = time.monotonic(), refused(start(2, "--output", "run", *options))
    assert len(errors) == 1 and "best.pt" in errors[0] and time.monotonic() - began < 60


def test_variables_of_torchrun_that_are_missing_are_named():
    environment = os.environ | {"WORLD_SIZE": "2", "RANK": "0"}
    command = [sys.executable, "-m", "emc2_lite", "train", "small.toml", "--output", "run"]
    alone = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert alone.returncode == 1 and "WORLD_SIZE is 2, and LOCAL_RANK, MASTER_ADDR, MASTER_PORT" in alone.stderr


def test_a_folder_of_imagenet_100s_layout_is_read_by_two_processes(tmp_path):
    """The paper's recipe in small: ResNet-50, LARS, files read by threads of each process; an image a class."""
    names = (Path(vision.__file__).parent / "imagenet100.txt").read_text(encoding="utf-8").splitlines()
    classes = {name: 1 for name in names if not name.startswith("#")}
    for part in ("train", "val"):
        image_folder(tmp_path / "images" / part, classes, ending="JPEG")
    small_recipe = [
        *(
            "-p",
            "data.folder",
            "images",
            "-p",
            "data.workers",
            "2",
            "-p",
            "views.size",
            "32",
            "-p",
            "views.kernel",
            "3",
        ),
        *("-p", "encoder.hidden", "16", "-p", "encoder.dim", "8", "-p", "training.batch_size", "20"),
        *("-p", "training.epochs", "2", "-p", "training.evaluate_epochs", "0", "-p", "training.device", "cpu"),
        *("-p", "optimiser.warmup_epochs", "1"),
    ]
    run = start(2, "--output", "run", *small_recipe, config="imagenet100")
    printed, errors = run.communicate(timeout=200)
    assert run.returncode == 0, errors
    assert "100 images" in printed and load_checkpoint(Path("run/last.pt"))["step"] == 10
