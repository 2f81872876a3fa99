"""A sweep keeps cells that are whole and of the last checkpoint, and makes damaged cells again, with a warning."""

import json
import shutil
from pathlib import Path

import pytest
from runs import small

from emc2_lite.laboratory.sweep import cells_of, sweep
from emc2_lite.runs import evaluate_run

BASE = small("NT-Xent", training__epochs=1)


def cells_in(folder):
    return cells_of(BASE, folder, methods=["NT-Xent", "DCL"], batch_sizes=[8], temperatures=[0.2], seeds=1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished sweep, and its rows."""
    folder = tmp_path_factory.mktemp("sweep")
    return folder, rows(sweep(BASE, folder, cells_in(folder), jobs=1))


@pytest.fixture
def cells(finished, tmp_path):
    """The cells of a finished sweep in tmp_path."""
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    return cells_in(tmp_path)


def rows(record: dict) -> list[dict]:
    times = ("seconds", "images_per_second")
    return [{name: value for name, value in row.items() if name not in times} for row in record["metrics"]]


@pytest.mark.parametrize("name", ["record.json", "evaluation.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", "null", "3", '{"rows": []}', '{"rows": 3}', "\x00\x01", '"text"'])
def test_a_damaged_cell_is_named_and_made_again(cells, finished, tmp_path, name, content):
    (cells[0].folder / name).write_text(content)
    with pytest.warns(UserWarning, match=f"{cells[0].folder.name} holds a record or an evaluation that is not whole"):
        again = sweep(BASE, tmp_path, cells, jobs=1)
    assert rows(again) == finished[1]


def test_a_cell_with_rows_missing_does_not_count_as_finished(cells, finished, tmp_path):
    path = cells[0].folder / "evaluation.json"
    found = json.loads(path.read_text())
    path.write_text(json.dumps(found | {"rows": found["rows"][:1]}))
    with pytest.warns(UserWarning, match="they are made again"):
        assert rows(sweep(BASE, tmp_path, cells, jobs=1)) == finished[1]


def test_an_evaluation_of_the_best_checkpoint_does_not_replace_the_last_ones(cells, finished, tmp_path):
    before = (cells[0].folder / "evaluation.json").read_text()
    evaluate_run(cells[0].folder, checkpoint="best.pt")
    assert json.loads((cells[0].folder / "evaluation-best.json").read_text())["checkpoint"] == "best.pt"
    assert (cells[0].folder / "evaluation.json").read_text() == before
    assert rows(sweep(BASE, tmp_path, cells, jobs=1)) == finished[1]


def test_if_every_run_fails_the_error_gives_the_reason_of_each(tmp_path):
    cells = cells_of(BASE, tmp_path, methods=["NT-Xent"], batch_sizes=[64, 100], temperatures=[0.2], seeds=1)
    with pytest.raises(ValueError, match=r"No run of the sweep worked\. .*b64-s0: .*is 64: .*; .*b100-s0: .*is 100: "):
        sweep(BASE, tmp_path, cells, jobs=1)


@pytest.mark.parametrize(
    "twice", [{"methods": ["DCL", "DCL"]}, {"batch_sizes": [16, 16]}, {"temperatures": [0.2, 0.2]}, {"methods": []}]
)
def test_a_value_that_comes_twice_and_an_empty_list_are_refused(twice):
    grid = {"methods": ["DCL"], "batch_sizes": [8], "temperatures": [0.2], "seeds": 1}
    with pytest.raises(ValueError, match=r"more than once|at least 1 value"):
        cells_of(BASE, Path("s"), **(grid | twice))


def test_intervals_of_accuracies_stay_between_0_and_1(tmp_path):
    """The t interval of two seeds would reach beyond 1."""
    cells = cells_of(BASE, tmp_path, methods=["NT-Xent"], batch_sizes=[8], temperatures=[0.2], seeds=2)
    final = sweep(BASE, tmp_path, cells, jobs=1)["final"]
    for row in final:
        for name in ("linear_probe", "nearest_neighbour"):
            assert 0 <= row[f"{name}_low"] <= row[name] <= row[f"{name}_high"] <= 1


def test_few_labels_and_the_supervised_baseline_have_their_places(tmp_path):
    """The baseline is made once a seed, and has its own accuracies where the others have the probe's."""
    how = {"methods": ["NT-Xent", "DCL"], "batch_sizes": [8], "temperatures": [0.2], "seeds": 1}
    cells = cells_of(BASE, tmp_path, **how, labels=[1, 2], supervised_epochs=1)
    record = sweep(BASE, tmp_path, cells, jobs=1)
    first, supervised, second = record["metrics"]
    assert [first["method"], supervised["method"], second["method"]] == ["NT-Xent", "supervised", "DCL"]
    found = json.loads((cells[0].folder / "evaluation.json").read_text())["rows"]
    few = [row["accuracy"] for row in found if row["measure"] == "linear probe, 2 labels a class"]
    assert len(few) == 5 and first["labels_2"] == pytest.approx(sum(few) / 5)
    (baseline,) = (row["accuracy"] for row in found if row["measure"] == "supervised, 2 labels a class")
    assert supervised["labels_2"] == baseline and supervised["nearest_neighbour"] is None
    assert first["relative_price"] == 1 and first["step"] == 6 and supervised["step"] is None
    assert rows(sweep(BASE, tmp_path, cells, jobs=1)) == rows(record)
    assert [row["labels_1"] for row in record["final"]] == [row["labels_1"] for row in record["metrics"]]
