"""The command emc2-lite experiment: a record and a table, or one clear sentence and nothing left behind."""

import json
import re
import signal
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from foreground import in_the_foreground

from emc2_lite import cli
from emc2_lite.laboratory.experiments import EXPERIMENTS
from emc2_lite.records import FIELDS

SMALL = {"seeds": 1, "samples": 12, "epochs": 1, "measurements": 2, "methods": '["NT-Xent"]'}


def run(*arguments: str, name: str = "gradient-error", **parameters):
    given = [part for key, value in (SMALL | parameters).items() for part in ("-p", key, str(value))]
    return CliRunner().invoke(cli.main, ["experiment", name, *given, *arguments])


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def files():
    return sorted(str(path) for path in Path().rglob("*") if path.is_file())


def test_an_experiment_writes_its_record_and_prints_a_table():
    torch.set_num_threads(2)
    try:
        result = run(weight_decay=0)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert result.exit_code == 0, result.output
    assert files() == ["build/records/gradient_error.json"]
    record = json.loads(Path("build/records/gradient_error.json").read_text())
    assert tuple(record) == FIELDS
    assert record["experiment"] == "gradient-error"
    assert record["config"] == EXPERIMENTS["gradient-error"].config(
        {"seeds": 1, "samples": 12, "epochs": 1, "measurements": 2, "methods": ["NT-Xent"], "weight_decay": 0}
    )
    assert record["seeds"] == [0]
    assert record["device"] == "cpu"
    assert [row["step"] for row in record["metrics"]] == [0, 2]
    (end,) = record["final"]
    head, row, last = result.stdout.splitlines()
    assert head.split() == ["method", "seeds", "step", "loss", "squared_norm", "squared_error"]
    numbers = [f"{end[name]:.4g}" for name in ("loss", "squared_norm", "squared_error")]
    assert row.split() == ["NT-Xent", "1", "2", *numbers]
    assert re.fullmatch(r"build/records/gradient_error\.json \(\d+ s\)", last)
    assert re.fullmatch(r"\[ +\d+ s\] seed 0: NT-Xent, 3 steps\n", result.stderr)


def test_the_table_has_a_row_a_method_and_the_record_goes_where_it_is_told():
    result = run("--output", "a/b/mine.json", methods='["NT-Xent", "EMC2 multiproposal"]', seeds=2)
    assert result.exit_code == 0, result.output
    assert files() == ["a/b/mine.json"]
    head, *rows, _ = result.stdout.splitlines()
    assert [row[: head.index("seeds")].strip() for row in rows] == ["NT-Xent", "EMC2 multiproposal"]
    assert [row[head.index("seeds") :].split()[0] for row in rows] == ["2", "2"]
    assert len(json.loads(Path("a/b/mine.json").read_text())["metrics"]) == 2 * 2 * 2


def test_a_new_record_takes_the_place_of_the_old_one():
    Path("old.json").write_text("old")
    assert run("--output", "old.json").exit_code == 0
    assert json.loads(Path("old.json").read_text())["experiment"] == "gradient-error"


def test_help_names_every_experiment_in_a_line():
    text = CliRunner().invoke(cli.main, ["experiment", "--help"]).output
    assert re.findall(r"^  ([a-z][a-z-]*)  +\S", text, re.MULTILINE) == sorted(EXPERIMENTS)


REFUSALS = {
    "there is no experiment 'gradient_error': use one of gradient-error, jump,": {"name": "gradient_error"},
    "There is no parameter 'sample': the experiment has data, folder, methods, samples,": {"sample": 12},
    "There is no parameter 'progress': the experiment has": {"progress": 1},
    "samples is 12.5: pass a value such as its default, 500.": {"samples": 12.5},
    "temperature is 'warm': pass a value such as its default, 0.2.": {"temperature": "warm"},
    "seeds is [1, 2]: pass a value such as its default, 5.": {"seeds": "[1, 2]"},
    "methods is 'NT-Xent': pass a value such as its default": {"methods": "NT-Xent"},
    "seeds is 1j: a parameter is a number, a text, a list or a dictionary": {"seeds": "1j"},
    "There is no method 'SimCLR': use one of NT-Xent, DCL,": {"methods": '["SimCLR"]'},
    "There is no method 'SimCLR'": {"methods": '["NT-Xent", "SimCLR"]'},
    'data is \'mnist\': use "digits" or "stl10".': {"data": "mnist"},
    "There is no data/downloads/stl10_binary/unlabeled_X.bin: STL-10 can be fetched": {"data": "stl10"},
    "There is no nowhere/stl10_binary/unlabeled_X.bin": {"data": "stl10", "folder": "nowhere"},
    "temperature is 0: it must be a positive, finite number": {"temperature": 0},
    "seeds is 0: it must be 1 or more": {"seeds": 0},
    "measurements is 1: it must be 2 or more": {"measurements": 1},
    "batch_size is 0: it must be 2 or more": {"batch_size": 0},
    "batch_size is 13: it must be at most the number of samples, 12": {"batch_size": 13},
    "samples is 1438: there are 1437 digits": {"samples": 1438, "batch_size": 719},
}


@pytest.mark.parametrize(("sentence", "parameters"), REFUSALS.items(), ids=REFUSALS)
def test_a_wrong_parameter_is_one_sentence_and_no_record(sentence, parameters):
    result = run(**parameters)
    assert result.exit_code in (1, 2)
    assert isinstance(result.exception, SystemExit)  # anything else would be a traceback
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert sentence in error
    assert result.stderr.endswith(f"{error}\n")
    assert result.stdout == ""
    assert files() == []


def test_an_output_that_cannot_be_written_is_named_before_the_run():
    Path("occupied").write_text("a file, not a folder")
    for output, sentence in (
        ("occupied/inside.json", r"Error: cannot write to occupied \(.+\): choose another --output"),
        (".", r"Error: Invalid value for '--output': File '\.' is a directory\."),
    ):
        result = run("--output", output)
        assert result.exit_code in (1, 2)
        assert isinstance(result.exception, SystemExit)
        assert re.fullmatch(sentence, result.stderr.splitlines()[-1])
        assert "seed 0" not in result.stderr
    assert files() == ["occupied"]


def test_an_output_that_fills_up_during_the_run_is_named(monkeypatch):
    def full(path, *arguments, **settings):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    result = run("--output", "record.json")
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.splitlines()[-1] == (
        "Error: cannot write record.json (No space left on device): choose another --output"
    )
    assert files() == []


def test_an_interrupted_experiment_says_so_exits_130_and_leaves_nothing():
    command = [sys.executable, "-m", "emc2_lite.cli", "experiment", "gradient-error", "--output", "records/it.json"]
    process = in_the_foreground(command)
    try:
        first = process.stderr.readline()
        assert re.fullmatch(r"\[ +\d+ s\] seed 0: NT-Xent, 1250 steps\n", first)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert errors.strip() == "Interrupted. No record was written."
    assert output == ""
    assert files() == []
