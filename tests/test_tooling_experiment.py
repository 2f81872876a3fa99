"""The command emc2-lite experiment: a record and a table, or one clear sentence and no file."""

import json
import re
import signal
import sys
from itertools import product
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from foreground import in_the_foreground

from emc2_lite import cli
from emc2_lite.laboratory.experiments import EXPERIMENTS, trained_at_price
from emc2_lite.locking import locked
from emc2_lite.records import FIELDS

SMALL = {"seeds": 1, "samples": 12, "horizons": "[3]", "measurements": 2, "methods": '["NT-Xent"]'}


def run(*arguments: str, name: str = "stationarity", **parameters):
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
        result = run(offset=0)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert result.exit_code == 0, result.output
    assert files() == ["build/records/stationarity.json"]
    record = json.loads(Path("build/records/stationarity.json").read_text())
    assert tuple(record) == FIELDS
    assert record["experiment"] == "stationarity"
    assert record["config"] == EXPERIMENTS["stationarity"].config(
        {"seeds": 1, "samples": 12, "horizons": [3], "measurements": 2, "methods": ["NT-Xent"], "offset": 0}
    )
    assert record["seeds"] == [0]
    assert record["device"] == "cpu"
    assert [row["horizon"] for row in record["metrics"]] == [3]
    (end,) = record["final"]
    head, row, last = result.stdout.splitlines()
    assert head.split() == ["method", "horizon", "seeds", "mean_squared_norm", "loss"]
    numbers = [f"{end[name]:.4g}" for name in ("mean_squared_norm", "loss")]
    assert row.split() == ["NT-Xent", "3", "1", *numbers]
    assert re.fullmatch(r"build/records/stationarity\.json \(\d+ s\)", last)
    assert re.fullmatch(r"\[ +\d+ s\] seed 0: NT-Xent, 3 steps\n", result.stderr)


def test_the_table_has_a_row_for_each_method_and_output_names_the_record():
    result = run("--output", "a/b/mine.json", methods='["NT-Xent", "EMC2 multiproposal"]', seeds=2)
    assert result.exit_code == 0, result.output
    assert files() == ["a/b/mine.json"]
    head, *rows, _ = result.stdout.splitlines()
    assert [row[: head.index("horizon")].strip() for row in rows] == ["NT-Xent", "EMC2 multiproposal"]
    assert [row[head.index("seeds") :].split()[0] for row in rows] == ["2", "2"]
    assert len(json.loads(Path("a/b/mine.json").read_text())["metrics"]) == 2 * 2


def test_a_new_record_replaces_the_old_one():
    Path("old.json").write_text("old")
    assert run("--output", "old.json").exit_code == 0
    assert json.loads(Path("old.json").read_text())["experiment"] == "stationarity"


def test_help_names_every_experiment_in_a_line():
    text = CliRunner().invoke(cli.main, ["experiment", "--help"]).output
    assert re.findall(r"^  ([a-z][a-z-]*)  +\S", text, re.MULTILINE) == sorted(EXPERIMENTS)


REFUSALS = {
    "there is no experiment 'gradient_error': use one of gradient-error, jump,": {"name": "gradient_error"},
    "There is no setting sample: use methods, horizons,": {"sample": 12},
    "There is no setting progress: use methods,": {"progress": 1},
    "samples is 12.5: it must be a whole number from 2 to 4,096.": {"samples": 12.5},
    "samples is '10**9': it must be a whole number": {"samples": "10**9"},
    "temperature is 'warm': it must be a number above 0.": {"temperature": "warm"},
    "temperature is [0.2]: it must be a number above 0.": {"temperature": "[0.2]"},
    "seeds is [1, 2]: it must be a whole number": {"seeds": "[1, 2]"},
    "methods is 'NT-Xent': it must be a list of at least 1 value.": {"methods": "NT-Xent"},
    "methods is []: it must be a list of at least 1 value.": {"methods": "[]"},
    "methods holds 'DCL' more than once: name each value once.": {"methods": "['DCL', 'DCL']"},
    "seeds is 1j: a parameter is a number, a text, a list or a dictionary": {"seeds": "1j"},
    "methods holds 'SimCLR': use one of NT-Xent, DCL,": {"methods": '["NT-Xent", "SimCLR"]'},
    "temperature is 0: it must be a number above 0": {"temperature": 0},
    "seeds is 0: it must be a whole number from 1": {"seeds": 0},
    "measurements is 1: it must be a whole number from 2": {"measurements": 1},
    "measurements is 4, and the shortest run has 3 steps: measure less often": {"measurements": 4},
    "batch_size is 0: it must be a whole number of 2 or more": {"batch_size": 0},
    "batch_size is 13: it must be at most the number of samples, 12": {"batch_size": 13},
    "samples is 1000000000: it must be a whole number": {"samples": 10**9},
}


OTHERS = {
    "training_steps is -5: it must be a whole number from 0": ("jump", "training_steps", "-5"),
    "data is 'mnist': use one of digits, cifar10,": ("gradient-error", "data", "mnist"),
    "learning_rate is 'nan': it must be a number above 0": ("gradient-error", "learning_rate", "nan"),
    "weight_decay is -1: it must be a number of 0 or more": ("gradient-error", "weight_decay", "-1"),
    "epochs is 1000000000000: it must be a whole number from 1 to 1,000,000,000": (
        "gradient-error",
        "epochs",
        "1000000000000",
    ),
    "samples is 1500: it must be a whole number from 2 to 1,437": (
        "gradient-error",
        "samples",
        "1500",
        "-p",
        "data",
        "digits",
    ),
    "samples is 31: it must be a whole number from 32 to 1,437": ("jump", "samples", "31"),
    "visits_after is [3]: it must be a list of at least 2 values": ("jump", "visits_after", "[3]"),
    "horizons holds 0: it must be a whole number from 1": ("stationarity", "horizons", "[0]"),
    "horizons holds 200 more than once": ("stationarity", "horizons", "[200, 200]"),
    "offset is -0.1: it must be a number of 0 or more": ("stationarity", "offset", "-0.1"),
    "samples is 1000000000: it must be a whole number from 2 to 4,096": ("stationarity", "samples", "1000000000"),
    "proposals is [0, 0]: its numbers must grow from one to the next": ("quality", "proposals", "[0, 0]"),
    "temperatures holds 0: it must be a number above 0": ("quality", "temperatures", "[0]"),
    "batch_sizes holds 4 more than once": ("quality", "batch_sizes", "[4, 4]"),
    "batch_sizes is 400: it must be at most the number of samples, 200": ("quality", "batch_sizes", "[4, 400]"),
    "runs is 2: it must be a whole number of 3 or more": ("quality", "runs", "2"),
    "visits is 0: it must be a whole number from 1": ("map", "visits", "0"),
    "samples is 1438: it must be a whole number from 2 to 1,437": ("map", "samples", "1438"),
}


@pytest.mark.parametrize(("sentence", "words"), OTHERS.items(), ids=OTHERS)
def test_a_senseless_parameter_is_refused_before_the_run(sentence, words):
    name, *parameter = words
    result = CliRunner().invoke(cli.main, ["experiment", name, "-p", *parameter])
    assert result.exit_code == 2, result.output
    *_, error = result.stderr.splitlines()
    assert error.startswith(f"Error: {sentence}")
    assert "seed 0" not in result.output and files() == []


@pytest.mark.parametrize(("sentence", "parameters"), REFUSALS.items(), ids=REFUSALS)
def test_a_wrong_parameter_is_one_sentence_and_no_record(sentence, parameters):
    result = run(**parameters)
    assert result.exit_code in (1, 2)
    assert isinstance(result.exception, SystemExit)  # another exception would print a traceback
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert sentence in error
    assert result.stderr.endswith(f"{error}\n")
    assert result.stdout == ""
    assert files() == []


def test_an_unwritable_output_is_named_before_the_run():
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


def test_a_disk_that_fills_up_during_the_run_is_named(monkeypatch):
    def full(path, *arguments, **settings):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    result = run("--output", "record.json")
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    sentence = "cannot write record.json (No space left on device): make room or choose another place, then try again"
    assert result.stderr.splitlines()[-1] == f"Error: {sentence}"
    assert result.stdout.splitlines()[1].startswith("NT-Xent")  # the results are not lost
    assert files() == []


def test_an_interrupted_experiment_says_so_exits_130_and_leaves_nothing():
    command = [sys.executable, "-m", "emc2_lite", "experiment", "stationarity", "--output", "records/it.json"]
    process = in_the_foreground(command)
    try:
        first = process.stderr.readline()
        assert re.fullmatch(r"\[ +\d+ s\] seed 0: NT-Xent, 250 steps\n", first)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert errors.strip() == "Interrupted. No record was written."
    assert output == ""
    assert files() == []


GRID = {
    "methods": ["DCL", "EMC2"],
    "batch_sizes": [6, 3],
    "temperatures": [0.2],
    "samples": 12,
    "visits": 2,
    "seeds": 2,
}


def run_map(*arguments: str, **parameters):
    given = [part for key, value in (GRID | parameters).items() for part in ("-p", key, str(value))]
    return CliRunner().invoke(cli.main, ["experiment", "map", *given, *arguments])


def metrics(path="build/records/map.json"):
    return json.loads(Path(path).read_text())["metrics"]


def test_the_map_has_a_row_for_each_run_in_any_number_of_processes():
    result = run_map()
    assert result.exit_code == 0, result.output
    assert files() == ["build/records/map.json"]  # nothing is kept of a whole map
    assert [(row["seed"], row["batch_size"], row["views"], row["method"]) for row in metrics()] == list(
        product((0, 1), (3, 6), ("stored", "endless"), ("DCL", "EMC2"))
    )
    head, *rows, _ = result.stdout.splitlines()
    assert head.split()[:5] == ["method", "temperature", "batch_size", "views", "seeds"] and len(rows) == 8
    assert result.stderr.splitlines()[-1].endswith(
        "16 of 16: method EMC2, temperature 0.2, batch_size 6, views endless, seed 1: done"
    )
    assert run_map("--jobs", "2", "--output", "two.json").exit_code == 0
    assert metrics("two.json") == metrics()


def failing(seed, batch_size, **settings):
    if (seed, batch_size) == (1, 3):
        raise ValueError("the embeddings are not normalised")
    return trained_at_price(seed=seed, batch_size=batch_size, **settings)


def test_a_cell_that_fails_is_told_and_tried_again_and_costs_no_other(monkeypatch):
    whole = run_map("--output", "whole.json")
    with monkeypatch.context() as patch:
        patch.setitem(EXPERIMENTS, "map", EXPERIMENTS["map"]._replace(cell=failing))
        result = run_map()
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit)
    assert result.stderr.count(": ValueError: the embeddings are not normalised\n") == 4
    assert result.stderr.endswith(
        "Error: 4 of 16 cells failed, for the reasons above: build/records/map.json has the others; the same command "
        "tries the failed ones again\n"
    )
    assert metrics() == [row for row in metrics("whole.json") if (row["seed"], row["batch_size"]) != (1, 3)]
    again = run_map()
    assert again.exit_code == 0
    assert "12 of 16 cells are in build/records/map.json.cells\n" in again.stderr
    assert again.stderr.count(": done\n") == 4 and whole.stderr.count(": done\n") == 16
    assert metrics() == metrics("whole.json")
    assert files() == ["build/records/map.json", "whole.json"]


def test_a_map_of_failures_is_no_record(monkeypatch):
    monkeypatch.setitem(EXPERIMENTS, "map", EXPERIMENTS["map"]._replace(cell=lambda **cell: 1 / 0))
    result = run_map()
    assert result.exit_code == 1 and files() == []
    assert result.stderr.splitlines()[-1] == (
        "Error: No cell worked; the last one's reason: ZeroDivisionError: division by zero"
    )


def test_an_interrupted_map_goes_on_and_ends_with_the_same_record():
    """Ctrl-C after 2 of 16 cells; the next line was being written when the power failed."""
    given = [part for key, value in (GRID | {"visits": 20}).items() for part in ("-p", key, str(value))]
    command = [sys.executable, "-m", "emc2_lite", "experiment", "map", "--jobs", "2", *given]
    process = in_the_foreground(command)
    try:
        while not re.match(r"\[ *\d+ s\] 2 of 16: ", process.stderr.readline()):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130 and output == ""
    assert errors.splitlines()[-1] == (
        "Interrupted. build/records/map.json.cells has the cells that are finished: the same command goes on with the "
        "others."
    )
    assert files() == ["build/records/map.json.cells"]
    kept = Path("build/records/map.json.cells")
    finished = kept.read_text().count("\n")
    assert 2 <= finished < 16
    with kept.open("a") as lines:
        lines.write('[{"method": "DCL", "temp')
    went_on = run_map(visits=20)
    assert went_on.exit_code == 0, went_on.output
    assert went_on.stderr.count(": done\n") == 16 - finished
    assert run_map("--output", "whole.json", visits=20).exit_code == 0
    assert metrics() == metrics("whole.json")
    assert files() == ["build/records/map.json", "whole.json"]


def test_cells_of_other_parameters_are_neither_taken_for_finished_nor_lost():
    cells = EXPERIMENTS["map"].cells(EXPERIMENTS["map"].config(GRID))
    kept = Path("build/records/map.json.cells")
    kept.parent.mkdir(parents=True)
    kept.write_text(text := json.dumps([cells[0], [{"loss": 0.0}], 1.0]) + "\n")
    result = run_map(visits=1)
    assert result.exit_code == 0 and "cells are in" not in result.stderr
    assert all(row["loss"] for row in metrics())
    assert kept.read_text() == text


MAP_REFUSALS = {
    "Invalid value for '--jobs': 0 is not in the range x>=1.": (("map", "--jobs", "0"), 2),
    "jump runs in one process: leave out --jobs": (("jump", "--jobs", "2"), 2),
    "views holds 'moving': use one of stored, endless.": (("map", "-p", "views", "['moving']"), 2),
    "oracle_views is 1: it must be a whole number from 2 to 64.": (("map", "-p", "oracle_views", "1"), 2),
    "batch_sizes is 160: it must be at most the number of samples, 100.": (("map", "-p", "samples", "100"), 2),
    "visits holds 20 more than once: name each value once.": (("patience", "-p", "visits", "[20, 20]"), 2),
    "damaged.json.cells is no file of finished cells: delete it, or choose another --output.": (
        ("map", "--output", "damaged.json"), 1),
    "another process is at work on the cells of busy.json: wait until it ends": (("map", "--output", "busy.json"), 1),
}  # fmt: skip


@pytest.mark.parametrize(("sentence", "arguments", "code"), [(s, *words) for s, words in MAP_REFUSALS.items()])
def test_a_map_that_cannot_run_is_refused_in_one_sentence(sentence, arguments, code):
    Path("damaged.json.cells").write_text('{"not": "cells"}\n')
    with locked(Path("busy.json.lock"), "a test"):
        Path("busy.json.lock").write_text("")
        before = files()
        result = CliRunner().invoke(cli.main, ["experiment", *arguments])
        assert files() == before
    assert (result.exit_code, isinstance(result.exception, SystemExit)) == (code, True)
    assert result.stderr.splitlines()[-1].startswith(f"Error: {sentence}")
