"""The board: times and intervals from the records, the README's tables, and the commands that made the records."""

import json
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest

from emc2_lite import records
from emc2_lite.course.figures.parts import look
from emc2_lite.course.figures.published import board as drawn_board
from emc2_lite.laboratory.board import board, board_table
from emc2_lite.records import read_record
from emc2_lite.training import changed, read_config

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
ROWS = [
    {"method": "EMC2", "temperature": 0.2, "batch_size": 8, "seed": seed, "linear_probe": 0.5, "seconds": seconds}
    for seed, seconds in enumerate((70.0, 60.0, 90.0))
]
RECORD = {
    "metrics": [
        *ROWS,
        ROWS[0] | {"method": "supervised", "seconds": None},
        ROWS[0] | {"batch_size": 4, "seconds": 1.0},
    ],
    "final": [
        {key: row[key] for key in ("method", "temperature", "batch_size")}
        | {"linear_probe": 0.5, "linear_probe_low": 0.4, "linear_probe_high": 0.6}
        for row in (ROWS[0], ROWS[0] | {"method": "supervised"})
    ],
}


def test_a_methods_time_is_the_shortest_of_its_seeds():
    trained, supervised = board(RECORD)
    assert trained["seconds"] == 60.0 and supervised["seconds"] is None
    assert trained["linear_probe_high"] == 0.6


def test_the_boards_figure_has_our_intervals_and_the_last_published_points():
    theirs = [{"method": "EMC2", "hours": hours, "linear_probe": hours / 20} for hours in (1.0, 9.0)]
    theirs += [{"method": "SogCLR", "hours": 7.0, "linear_probe": 0.5}]
    figure = drawn_board(board(RECORD)[:1], theirs, "The board")
    ours, published = [line for line in figure.data if line.name == "EMC2"]
    assert ours.x == (1.0,) and ours.y == (0.5,) and ours.error_y.array == pytest.approx((0.1,))
    assert published.x == (9.0,) and published.y == (0.45,) and published.xaxis == "x2"
    assert ours.marker.color == published.marker.color == look("EMC2").colour
    assert sorted(line.name for line in figure.data if line.showlegend is not False) == ["EMC2", "SogCLR"]


def commands_and_tables(text):
    """The README's sweeps that made kept records, by the record's name."""
    section = text.split("## What the features are worth", 1)[1].split("\n## ", 1)[0]
    return dict(re.findall(r"`data/records/(\w+)\.json`.*?```sh\n(.*?)```", section, re.DOTALL)), section


SWEEPS, SECTION = commands_and_tables(README)


@pytest.mark.parametrize("name", ["sweep_photographs_007", "sweep_photographs_02"])
def test_the_readme_has_the_records_board(name):
    assert board_table(board(read_record(name)), few=10) in SECTION


@pytest.mark.parametrize("name", SWEEPS)
def test_the_readmes_command_is_the_one_that_made_the_record(name):
    record = read_record(name)
    words = shlex.split(SWEEPS[name].replace("\\\n", " "))
    values = {words[i + 1]: words[i + 2] for i, word in enumerate(words) if word == "-p"}
    options = dict(pairwise(words))
    values = {name: typed(value) for name, value in values.items()}
    config = json.loads(json.dumps(changed(read_config(words[words.index("sweep") + 1]), **values).as_dict()))
    for section, settings in record["config"].items():
        for setting in settings.keys() if section != "loss" else ():
            assert config[section][setting] == settings[setting], (section, setting)
    rows = [row for row in record["metrics"] if row["method"] != "supervised"]
    assert {row["method"] for row in rows} == set(options["--methods"].split(","))
    assert {row["temperature"] for row in rows} == set(map(float, options["--temperatures"].split(",")))
    assert {str(row["batch_size"]) for row in rows} == set(options.get("--batch-sizes", "32").split(","))
    assert record["seeds"] == list(range(int(options["--seeds"])))
    assert {name for name in rows[0] if name.startswith("labels_")} == {
        f"labels_{n}" for n in options["--labels"].split(",")
    }
    assert ("--supervised" in options) == (len(rows) < len(record["metrics"]))


def typed(value):
    """As the command line reads it."""
    if value == "none":
        return None
    if value in ("true", "false"):
        return value == "true"
    return int(value) if value.isdigit() else float(value) if re.fullmatch(r"[\d.e-]+", value) else value


def test_the_encoder_that_ships_is_small_and_is_described():
    card = (records.DATA / "README.md").read_text(encoding="utf-8")
    assert (records.DATA / "encoders" / "cifar10_small.pt").stat().st_size < 5e6 and "encoders/cifar10_small.pt" in card
