"""A signal to train or sweep ends every process with its state saved, and the printed command goes on."""

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
from foreground import in_the_foreground
from runs import SMALL, outcome, same

from emc2_lite.runs import train_run
from emc2_lite.training import changed, read_config

EMC2_LITE = [sys.executable, "-m", "emc2_lite"]
CONFIG = "\n".join(
    f"[{name}]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in section.items())
    for name, section in SMALL.items()
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my small.toml").write_text(CONFIG)
    return tmp_path


def wait_until(condition, process) -> None:
    for _ in range(2400):
        if condition():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.025)
    pytest.fail("the condition did not come true in a minute")


def steps(path: str) -> int:
    return torch.load(path, weights_only=True)["step"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_command_that_a_stopped_run_prints_goes_on_with_it(number):
    """Names with spaces and changed values survive: the pasted command ends with the weights of an unstopped run."""
    values = {"training.epochs": 60, "loss.method": "NT-Xent", "training.evaluate_epochs": 0}
    long = [word for name, value in values.items() for word in ("-p", name, str(value))]
    process = in_the_foreground([*EMC2_LITE, "train", "my small.toml", "--output", "a run", *long])
    wait_until(Path("a run/last.pt").exists, process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == (130 if number == signal.SIGINT else 128 + number)
    assert 0 < steps("a run/last.pt") < 360
    command = re.search(r"\nThe run is saved in a run; go on with: (.*)\n$", errors)[1]
    assert "--output 'a run'" in command and command.endswith(" --resume")
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert steps("a run/last.pt") == 360
    if number == signal.SIGINT:
        train_run(changed(read_config("my small.toml"), **values), Path("whole"), progress=False)
        assert same(outcome(Path("a run")), {**outcome(Path("whole"))})


def test_a_run_stopped_before_its_first_step_says_that_nothing_is_saved():
    process = in_the_foreground([*EMC2_LITE, "train", "my small.toml", "-p", "training.checkpoint_seconds", "600"])
    wait_until(Path("build/runs/my small/.lock").exists, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    if Path("build/runs/my small/last.pt").exists():
        assert "The run is saved" in errors
    else:
        assert "Interrupted before anything was saved; start again with: " in errors
        assert "--resume" not in errors
    assert process.returncode == 130 and "Traceback" not in errors


def test_a_signal_ends_an_evaluation_at_once_and_the_resumed_run_repeats_it(monkeypatch, tmp_path):
    """The evaluation sends the signal to its own process; the saved state is that before the evaluation."""
    from runs import small

    from emc2_lite.runs import train

    train_run(small("NT-Xent"), tmp_path / "whole", progress=False)
    features_of, calls = train.features_of, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return features_of(*arguments)

    monkeypatch.setattr(train, "features_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_run(small("NT-Xent"), tmp_path / "stopped", progress=False)
    assert steps(tmp_path / "stopped/last.pt") == 12
    record = train_run(small("NT-Xent"), tmp_path / "stopped", progress=False)
    assert same(outcome(tmp_path / "stopped"), outcome(tmp_path / "whole"))
    assert [row["step"] for row in record["metrics"] if "accuracy" in row] == [6, 12, 18]


def test_a_second_process_on_a_runs_folder_is_refused():
    long = [*EMC2_LITE, "train", "my small.toml", "-p", "training.epochs", "4000"]
    first = subprocess.Popen(long, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(Path("build/runs/my small/last.pt").exists, first)
    second = subprocess.run([*long, "--resume"], capture_output=True, text=True)
    assert second.returncode == 1
    assert f"process {first.pid} on {os.uname().nodename} is at work on the run in build/runs/my small" in second.stderr
    first.terminate()
    first.communicate(timeout=60)
    assert first.returncode == 143


SWEEP = ["sweep", "my small.toml", "--methods", "NT-Xent,DCL", "--batch-sizes", "8,16", "--seeds", "1", "--jobs", "2"]


@pytest.mark.parametrize(
    ("number", "to_all"),
    [(signal.SIGINT, True), (signal.SIGTERM, False), (signal.SIGHUP, True), (signal.SIGKILL, False)],
)
def test_a_stopped_sweep_ends_every_process_with_its_run_saved(number, to_all):
    """A signal to the sweep alone or, as from a terminal, to all of its processes; no process can handle SIGKILL."""
    command = [*EMC2_LITE, *SWEEP, "--output", "s", "-p", "training.epochs", "4000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_until(lambda: len(list(Path("s").glob("*/last.pt"))) == 2, process)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    (os.killpg if to_all else os.kill)(process.pid, number)
    _, errors = process.communicate(timeout=60)
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive
    saved = list(Path("s").glob("*/last.pt"))
    assert len(saved) == 2 and all(steps(path) > 0 for path in saved)  # no other run began
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == (130 if number == signal.SIGINT else 128 + number)
        words = r"\nThe runs of the sweep are saved in s; go on with: .*--output s -p training.epochs 4000\n$"
        assert re.search(words, errors)
    assert "Traceback" not in errors


def test_a_worker_that_dies_costs_only_its_own_run():
    changes = ["-p", "training.epochs", "60", "-p", "training.evaluate_epochs", "0"]
    command = [*EMC2_LITE, *SWEEP, "--output", "s", *changes]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: list(Path("s").glob("NT-Xent-t0.2-b8-s0/last.pt")), process)
    owner = int(re.search(r"process (\d+)", Path("s/NT-Xent-t0.2-b8-s0/.lock").read_text())[1])
    os.kill(owner, signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "1 of 4 runs failed: NT-Xent-t0.2-b8-s0: its process was ended by SIGKILL" in errors
    assert len(json.loads(Path("s/record.json").read_text())["metrics"]) == 3
