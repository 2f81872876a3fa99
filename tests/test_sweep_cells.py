"""A sweep's cells: taken only if whole and of the last checkpoint, made again by name if damaged, reasons for all."""

import json
from pathlib import Path

import pytest
from runs import small

from emc2_lite.laboratory.sweep import cells_of, sweep
from emc2_lite.runs import evaluate_run

BASE = small("NT-Xent", training__epochs=1)


@pytest.fixture
def cells(tmp_path):
    return cells_of(BASE, tmp_path, methods=["NT-Xent", "DCL"], batch_sizes=[8], temperatures=[0.2], seeds=1)


def rows(record: dict) -> list[dict]:
    times = ("seconds", "images_per_second")
    return [{name: value for name, value in row.items() if name not in times} for row in record["metrics"]]


@pytest.mark.parametrize("name", ["record.json", "evaluation.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", "null", "3", '{"rows": []}', '{"rows": 3}', "\x00\x01", '"text"'])
def test_a_damaged_cell_is_named_and_made_again(cells, tmp_path, name, content):
    whole = rows(sweep(BASE, tmp_path, cells, jobs=1))
    (cells[0].folder / name).write_text(content)
    with pytest.warns(UserWarning, match=f"{cells[0].folder.name} holds a record or an evaluation that is not whole"):
        again = sweep(BASE, tmp_path, cells, jobs=1)
    assert rows(again) == whole


def test_a_cell_with_rows_missing_does_not_count_as_finished(cells, tmp_path):
    whole = rows(sweep(BASE, tmp_path, cells, jobs=1))
    path = cells[0].folder / "evaluation.json"
    found = json.loads(path.read_text())
    path.write_text(json.dumps(found | {"rows": found["rows"][:1]}))
    with pytest.warns(UserWarning, match="they are made again"):
        assert rows(sweep(BASE, tmp_path, cells, jobs=1)) == whole


def test_an_evaluation_of_the_best_checkpoint_is_not_taken_for_the_runs(cells, tmp_path):
    whole = rows(sweep(BASE, tmp_path, cells, jobs=1))
    before = (cells[0].folder / "evaluation.json").read_text()
    evaluate_run(cells[0].folder, checkpoint="best.pt")
    assert json.loads((cells[0].folder / "evaluation-best.json").read_text())["checkpoint"] == "best.pt"
    assert (cells[0].folder / "evaluation.json").read_text() == before
    assert rows(sweep(BASE, tmp_path, cells, jobs=1)) == whole


def test_where_every_run_fails_the_reason_of_each_is_given(tmp_path):
    cells = cells_of(BASE, tmp_path, methods=["NT-Xent"], batch_sizes=[64, 100], temperatures=[0.2], seeds=1)
    with pytest.raises(ValueError, match=r"No run of the sweep worked\. .*b64-s0: .*is 64: .*; .*b100-s0: .*is 100: "):
        sweep(BASE, tmp_path, cells, jobs=1)


@pytest.mark.parametrize(
    "twice", [{"methods": ["DCL", "DCL"]}, {"batch_sizes": [16, 16]}, {"temperatures": [0.2, 0.2]}, {"methods": []}]
)
def test_a_value_that_comes_twice_or_none_at_all_is_refused(twice):
    grid = {"methods": ["DCL"], "batch_sizes": [8], "temperatures": [0.2], "seeds": 1}
    with pytest.raises(ValueError, match=r"more than once|at least 1 value"):
        cells_of(BASE, Path("s"), **(grid | twice))


def test_intervals_of_accuracies_stay_between_0_and_1(tmp_path):
    """Two seeds have a t interval that would reach beyond 1."""
    cells = cells_of(BASE, tmp_path, methods=["NT-Xent"], batch_sizes=[8], temperatures=[0.2], seeds=2)
    final = sweep(BASE, tmp_path, cells, jobs=1)["final"]
    for row in final:
        for name in ("linear_probe", "nearest_neighbour"):
            assert 0 <= row[f"{name}_low"] <= row[name] <= row[f"{name}_high"] <= 1
