"""The records of the repository, and of new small runs: complete, and with the outcome of their measurements."""

import inspect
import itertools
import json
import math
import re

import pytest

from emc2_lite import records
from emc2_lite.laboratory.experiments import EXPERIMENTS, run_experiment
from emc2_lite.laboratory.statistics import over_seeds
from emc2_lite.laboratory.sweep import BY, SUPERVISED, values_of
from emc2_lite.records import FIELDS, read_record, rows_where, write_record
from emc2_lite.training import from_dict

FIVE = ("NT-Xent", "DCL", "SogCLR", "cache", "EMC2")
SWEEPS = {  # methods, temperatures and batch sizes of the recorded sweeps
    "sweep_digits": ((*FIVE, "EMC2 remembered"), (0.07, 0.2), (4, 32, 128)),
    "sweep_photographs_007": ((*FIVE, "EMC2 remembered"), (0.07,), (32,)),
    "sweep_photographs_02": (("NT-Xent", "EMC2"), (0.2,), (32,)),
}
SMALL = {
    "data": "digits", "methods": ["EMC2"], "temperatures": [0.2], "batch_sizes": [4], "batch_size": 4, "samples": 32,
    "training_steps": 2, "jump_steps": 2, "visits_before": 1, "visits_after": [0, 1], "proposals": [0, 6], "runs": 3,
    "visits": 1, "measurements": 2, "epochs": 1, "horizons": [8], "seeds": 2, "variants": ["EMC2, a coin", "NeuCLIP"],
    "processes": [1, 2],
}  # fmt: skip


def small_config(name):
    known, small = EXPERIMENTS[name].config({}), SMALL | ({"visits": [1, 2]} if name == "patience" else {})
    return EXPERIMENTS[name].config({key: value for key, value in small.items() if key in known})


def small_record(name):
    return run_experiment(name, small_config(name), progress=lambda text: None)


def refuse_constant(text):
    raise AssertionError(f"JSON has no {text}")


def check_final(record, again):
    """`again` is the outcome, computed from the measurements; scipy's versions differ in the last bits of quantiles."""
    assert len(record["final"]) == len(again) > 0
    for measured, row in zip(record["final"], again, strict=True):
        assert measured.keys() == row.keys()
        for name, value in row.items():
            if isinstance(value, float):
                assert math.isclose(measured[name], value, rel_tol=1e-9, abs_tol=1e-9), (name, measured[name], value)
            else:
                assert measured[name] == value
        assert measured["seeds"] == len(record["seeds"])


def check_record(text):
    record = json.loads(text, parse_constant=refuse_constant)
    assert tuple(record) == FIELDS
    experiment = EXPERIMENTS[record["experiment"]]
    assert set(record["config"]) == set(inspect.signature(experiment.run).parameters) - {"progress"}
    assert experiment.config(record["config"]) == record["config"]
    assert record["seeds"] == list(range(record["config"]["seeds"]))
    assert {row["seed"] for row in record["metrics"]} == set(record["seeds"])
    methods = record["config"].get("methods", record["config"].get("variants"))
    assert {row.get("method") for row in record["metrics"]} == set(methods or [None])
    assert record["seconds"] >= 0
    assert record["versions"]["torch"]
    for row in (*record["metrics"], *record["final"]):
        assert all(isinstance(value, str | int | float | None) for value in row.values()), row
    check_final(record, experiment.final(record["metrics"]))
    assert not re.search(r'"(/|~|[A-Za-z]:\\|file:)', text), "a path of the machine"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_repositorys_record_is_complete_and_has_the_outcome_of_its_measurements(name):
    text = ((records.DATA / "records") / f"{name.replace('-', '_')}.json").read_text(encoding="utf-8")
    check_record(text)
    record = json.loads(text)
    assert record["experiment"] == name
    assert record["config"] == json.loads(json.dumps(EXPERIMENTS[name].config({}))), "not a run with the defaults"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_kept_records_config_runs_it_again(name):
    """Every recorded parameter is accepted unchanged."""
    config = read_record(name.replace("-", "_"))["config"]
    assert EXPERIMENTS[name].config(config) == config
    for parameter, value in config.items():
        assert EXPERIMENTS[name].config({parameter: value})[parameter] == value


def test_the_repository_has_no_other_records():
    known = (
        {name.replace("-", "_") for name in EXPERIMENTS}
        | set(SWEEPS)
        | {"bench_2_cores", "bench_gpu", "bench_gpu_replayed"}
    )
    assert {path.stem for path in (records.DATA / "records").iterdir()} == known


def test_the_repositorys_benchmarks_are_complete_and_have_the_rows_that_chapter_05_reads():
    """The revision is a commit; a ratio of medians is close to the median of ratios."""
    record = read_record("bench_2_cores")
    assert tuple(record) == FIELDS and record["experiment"] == "bench" and record["device"] == "2 CPU cores"
    assert re.fullmatch(r"[0-9a-f]{12}", record["revision"])
    for row in record["final"]:
        ratio = row["ms"] / row["reference_ms"]
        assert row["ratio"] == pytest.approx(1 / ratio if row["ratio_is"] == "times as fast" else ratio, rel=0.3)
    for benchmark, sizes, rows in (("visit of the chains", 4, 8), ("paths of the chains", 4, 4)):
        found = rows_where(record["final"], benchmark=benchmark)
        assert len(found) == rows and len({row["size"] for row in found}) == sizes
    assert {row["contender"] for row in rows_where(record["final"], benchmark="ResNet-18 step, 96 x 96")} > {"EMC2"}


def test_the_benchmarks_of_a_gpu_are_complete_and_the_readme_has_their_steps():
    whole, replayed = read_record("bench_gpu"), read_record("bench_gpu_replayed")
    assert whole["device"] == replayed["device"] == "NVIDIA H100 80GB HBM3"
    assert len(rows_where(whole["final"], benchmark="visit of the chains")) == 8
    steps = rows_where(replayed["final"], reference="launched")
    assert [row["contender"] for row in steps] == ["NT-Xent", "EMC2", "EMC2 remembered"]
    readme = (records.ROOT / "README.md").read_text(encoding="utf-8")
    for row in steps:
        assert f"| {row['contender']} | {row['reference_ms']:.1f} | {row['ms']:.1f} |" in readme


@pytest.mark.parametrize("name", SWEEPS)
def test_the_repositorys_sweep_is_complete_and_has_the_outcome_of_its_measurements(name):
    text = ((records.DATA / "records") / f"{name}.json").read_text(encoding="utf-8")
    record = json.loads(text, parse_constant=refuse_constant)
    assert tuple(record) == FIELDS and record["experiment"] == "sweep"
    read = json.loads(json.dumps(from_dict(record["config"]).as_dict()))  # with settings that came later
    assert {section: read[section] | values for section, values in record["config"].items()} == read
    trained = [row for row in record["metrics"] if row["method"] != SUPERVISED]
    places = [tuple(row[field] for field in (*BY, "seed")) for row in trained]
    assert len(set(places)) == len(places)
    assert set(places) == set(itertools.product(*SWEEPS[name], record["seeds"]))
    check_final(record, over_seeds(record["metrics"], BY, values_of(record["metrics"])))
    for row in trained:
        assert 0 <= row["linear_probe"] <= 1 and 0 <= row["nearest_neighbour"] <= 1 and row["images_per_second"] > 0
        if row["method"] != "EMC2 remembered":  # which encodes by chance, at large batches hardly ever
            assert (row["encoded_again"] > 0) == (row["method"] in ("EMC2", "cache"))
    assert not re.search(r'"(/|~|[A-Za-z]:\\|file:)', text), "a path of the machine"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_makes_a_complete_record(name, tmp_path):
    write_record(tmp_path / "new.json", small_record(name))
    text = (tmp_path / "new.json").read_text(encoding="utf-8")
    check_record(text)
    record = json.loads(text)
    values = EXPERIMENTS[name].values
    assert record["final"] and all(row.keys() >= {*values, *(f"{v}_low" for v in values)} for row in record["final"])


@pytest.mark.parametrize(
    "damage",
    [
        {"config": {"seeds": 2}},
        {"seeds": [0]},
        {"final": []},
        {"metrics": []},
        {"device": "cpu", "revision": "/home/reader/emc2"},
    ],
    ids=lambda damage: ", ".join(damage),
)
def test_a_damaged_record_fails_the_check(damage, tmp_path, a_record):
    check_record(json.dumps(a_record))
    with pytest.raises(AssertionError):
        check_record(json.dumps(a_record | damage))


@pytest.fixture(scope="module")
def a_record():
    return small_record("jump")
