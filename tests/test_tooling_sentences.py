"""An error is one sentence; the traceback comes only with --debug."""

import os
import re
import signal
import warnings
from pathlib import Path

import pytest
from click.testing import CliRunner
from runs import small

from emc2_lite import cli, records
from emc2_lite.cli import sentences
from emc2_lite.runs import train_run


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


def run(*arguments: str):
    return CliRunner().invoke(cli.main, arguments)


def failing(failure: BaseException):
    def fail(*arguments, **settings):
        raise failure

    return fail


@pytest.mark.parametrize(
    "failure", [KeyError("x"), AssertionError(), EOFError(), RecursionError("deep"), TypeError("a\nb")]
)
def test_an_unforeseen_error_is_one_sentence_with_the_address_for_reports(monkeypatch, failure):
    monkeypatch.setattr("emc2_lite.runs.train_run", failing(failure))
    result = run("train", "digits")
    assert result.exit_code == 1
    last = result.output.strip().splitlines()[-1]
    assert last.startswith(f"Error: emc2-lite did not foresee this error: {type(failure).__name__}: ")
    assert "Please report it " in last and "--debug" in last
    assert "Traceback" not in result.output


@pytest.mark.parametrize("place", [["--debug", "train", "digits"], ["train", "digits", "--debug"]])
def test_debug_shows_the_traceback_of_every_error(monkeypatch, place):
    for failure in (KeyError("x"), ValueError("a sentence")):
        monkeypatch.setattr("emc2_lite.runs.train_run", failing(failure))
        result = run(*place)
        assert result.exit_code == 1
        assert "Traceback (most recent call last)" in result.output and "in fail" in result.output


def test_errors_are_reported_at_the_address_of_the_project(monkeypatch):
    class Metadata:
        def get_all(self, name):
            return ["Homepage, https://example.org", "Issues, https://github.com/you/emc2-lite/issues"]

    monkeypatch.setattr(sentences, "metadata", lambda name: Metadata())
    monkeypatch.setattr("emc2_lite.runs.train_run", failing(KeyError("x")))
    assert "Please report it at https://github.com/you/emc2-lite/issues, " in run("train", "digits").output


@pytest.mark.parametrize("failure", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_full_memory_is_named_with_the_settings_to_lower(monkeypatch, failure):
    monkeypatch.setattr("emc2_lite.runs.train_run", failing(failure))
    assert "this machine's memory is full: take a smaller training.batch_size" in run("train", "digits").output


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_signal_before_the_first_step_leaves_nothing_and_says_so(monkeypatch, number, status):
    monkeypatch.setattr("emc2_lite.runs.train_run", lambda *a, **s: os.kill(os.getpid(), number))
    result = run("train", "digits", "--output", "a run", "-p", "training.epochs", "3")
    assert result.exit_code == status
    command = re.search(r"Interrupted before anything was saved; start again with: (.*)\n", result.output)[1]
    assert command.endswith("train digits --output 'a run' -p training.epochs 3")


def test_a_sweep_that_is_stopped_before_its_first_run_says_that_nothing_is_saved(monkeypatch):
    monkeypatch.setattr("emc2_lite.laboratory.sweep.sweep", failing(KeyboardInterrupt()))
    result = run("sweep", "digits", "--output", "s")
    assert result.exit_code == 130
    words = r"Interrupted before anything was saved; start again with: .*sweep digits --output s\n"
    assert re.search(words, result.output)


def test_an_interrupted_dry_run_does_not_claim_the_run_in_its_folder(monkeypatch, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "last.pt").touch()
    monkeypatch.setattr("emc2_lite.training.plan", failing(KeyboardInterrupt()))
    result = run("train", "digits", "--output", "a", "--dry-run")
    assert result.exit_code == 130
    assert re.search(r"before anything was saved; .* train digits --output a --dry-run\n$", result.output)


def test_a_command_warns_in_a_sentence_without_a_place_in_the_code(monkeypatch):
    before, written = warnings.formatwarning, []

    def train_run(*arguments, **settings):
        written.append(warnings.formatwarning("words", UserWarning, "file.py", 3))
        raise KeyboardInterrupt

    monkeypatch.setattr("emc2_lite.runs.train_run", train_run)
    run("train", "digits")
    assert written == ["Warning: words\n"] and warnings.formatwarning is before


def test_a_tilde_is_the_home_folder_in_every_path(tmp_path):
    (tmp_path / "home").mkdir()
    result = run("evaluate", "~/nowhere")
    assert f"There is no checkpoint {tmp_path / 'home' / 'nowhere' / 'last.pt'}" in result.output
    result = run("train", "~/nothing.toml", "--output", "~/out")
    assert "There is no configuration ~/nothing.toml" in result.output


def test_a_full_disk_under_a_record_is_named_with_the_file_and_what_to_do(tmp_path, monkeypatch):
    write_bytes = Path.write_bytes

    def full(path, *arguments, **settings):
        if "record" in path.name:
            raise OSError(28, "No space left on device")
        return write_bytes(path, *arguments, **settings)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"cannot write .*record.json \(No space left on device\): make room"):
        train_run(small("NT-Xent", training__epochs=1), tmp_path / "run", progress=False)
    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    assert train_run(small("NT-Xent", training__epochs=1), tmp_path / "run", progress=False)["metrics"]
    assert records.read_record_file(tmp_path / "run" / "record.json")


def test_the_probe_of_the_released_code_comes_with_a_caution(tmp_path):
    train_run(small("NT-Xent", training__epochs=1), tmp_path / "run", progress=False)
    result = run("evaluate", str(tmp_path / "run"))
    assert result.exit_code == 0, result.output
    assert "far from trained: compare encoders by the tuned probe." in result.output
