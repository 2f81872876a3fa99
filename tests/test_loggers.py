"""Loggers of a run: each holds every row once, after a kill too; a missing package is named before the run begins."""

import csv
import json
import math
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from runs import small

from emc2_lite.runs import train_run
from emc2_lite.training import changed, from_dict, read_metrics
from emc2_lite.training.configuring import differences
from emc2_lite.training.loggers import CSVLogger, TensorBoardLogger
from emc2_lite.training.metrics import MetricsLog

SECONDS = "images_per_second"  # the only number that differs from run to run


def table(path: Path) -> list[dict]:
    """The rows of a CSV file as dictionaries of numbers, without the empty cells."""
    with path.open(newline="") as file:
        rows = [{name: float(cell) for name, cell in row.items() if cell} for row in csv.DictReader(file)]
    return [{name: value for name, value in row.items() if name != SECONDS} for row in rows]


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """All (step, value) of each name in a folder of event files, in the order in which they were written."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    found: dict[str, list] = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, make_ndarray(value.tensor).item()))
    return found


def history(folder: Path) -> tuple[list[dict], str]:
    """The rows in a run's one offline copy for Weights & Biases, a row for each step, and the run's id.

    The file is a log of records in blocks of 32 KiB, as LevelDB's: after 7 bytes, each record begins with a checksum,
    its length and its kind: whole, first, middle or last."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = (folder / "wandb").glob("offline-run-*/run-*.wandb")
    content, place, parts, rows = path.read_bytes(), 7, b"", []
    while place + 7 <= len(content):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            record, parts = Record.FromString(parts), b""
            if record.WhichOneof("record_type") == "history":
                row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
                rows.append({name: value for name, value in row.items() if name[0] != "_" and name != SECONDS})
    return rows, path.stem.removeprefix("run-")


def in_steps(rows: list[dict]) -> list[dict]:
    """Rows of the same step as one."""
    joined: dict[int, dict] = {}
    for row in rows:
        joined.setdefault(row["step"], {}).update({name: v for name, v in row.items() if name != SECONDS})
    return list(joined.values())


RUN_THAT_DIES = """
from pathlib import Path
from runs import kill_at, small
from emc2_lite.runs import train_run

kill_at("emc2_lite.training.metrics:MetricsLog", "write", {count}, after=True)()
train_run(small("NT-Xent", **{values}), Path({folder!r}), progress=False)
"""


@pytest.mark.parametrize(("logger", "kill"), [("csv", 7), ("csv", 11), ("tensorboard", 11), ("wandb", 11)])
def test_a_killed_run_has_every_row_once_after_it_is_resumed(logger, kill, tmp_path):
    """Each step ends with a checkpoint, so that the last row before the kill is made again.

    The run dies in a process of its own, for wandb starts a service that a forked process would share."""
    package = "wandb" if logger == "wandb" else "torch.utils.tensorboard"
    pytest.importorskip(package, reason=f"{package} is not installed")
    values = {"training__loggers": logger, "training__log_steps": 1}
    code = RUN_THAT_DIES.format(count=kill, values=values, folder=str(tmp_path))
    died = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    ids = [path.stem.removeprefix("run-") for path in tmp_path.glob("wandb/offline-run-*/*.wandb")]
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == kill and (tmp_path / "last.pt").exists()
    train_run(small("NT-Xent", **values), tmp_path, progress=False)
    rows = [{name: v for name, v in row.items() if name != SECONDS} for row in read_metrics(tmp_path / "metrics.jsonl")]
    assert len(rows) == 18 + 3
    if logger == "csv":
        assert table(tmp_path / "metrics.csv") == rows
    elif logger == "tensorboard":
        found = scalars(tmp_path / "tensorboard")
        for name in set().union(*rows) - {"step"}:
            steps, values = zip(*found[name], strict=True)
            expected = [(row["step"], row[name]) for row in rows if name in row]
            assert list(steps) == [step for step, _ in expected]
            assert values == pytest.approx([value for _, value in expected], rel=1e-6)
    else:
        found, name = history(tmp_path)
        assert [pytest.approx(row) for row in in_steps(rows)] == found
        assert ids == [name]


OFFLINE = """
import socket, sys
from pathlib import Path
from runs import small
from emc2_lite.runs import train_run

def refused(host, *arguments, **settings):
    print("asked for", host, flush=True)
    raise OSError("there is no network")

socket.getaddrinfo = refused
train_run(small("NT-Xent", training__loggers="wandb"), Path(sys.argv[1]), progress=False)
"""


def test_an_offline_run_of_weights_and_biases_asks_for_no_host_until_its_process_ends(tmp_path):
    """wandb's telemetry sends from a thread, and again when the process ends."""
    pytest.importorskip("wandb", reason="wandb is not installed")
    command = [sys.executable, "-c", OFFLINE, str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "asked for" not in done.stdout + done.stderr
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


def test_a_logger_that_joins_a_resumed_run_gets_the_earlier_rows(tmp_path):
    config = small("NT-Xent", training__log_steps=1)
    with pytest.raises(KeyboardInterrupt):
        train_run(config, tmp_path, progress=False, loggers=[partial(Recorder, stop_at=8)])
    begun: list[Recorder] = []

    def make(*given):
        begun.append(Recorder(*given))
        return begun[-1]

    train_run(changed(config, **{"training.loggers": "csv"}), tmp_path, progress=False, loggers=[make])
    (own,) = begun
    assert own.rows == read_metrics(tmp_path / "metrics.jsonl") and own.closed
    assert own.config["loss"]["method"] == "NT-Xent"
    assert [row["step"] for row in table(tmp_path / "metrics.csv")] == [row["step"] for row in own.rows]


class Recorder:
    """A logger of one's own, which can interrupt the run."""

    def __init__(self, folder, config, rows, stop_at=None):
        self.config, self.rows, self.closed, self.stop_at = config, list(rows), False, stop_at

    def write(self, row):
        self.rows.append(row)
        if row["step"] == self.stop_at:
            raise KeyboardInterrupt

    def close(self):
        self.closed = True


def test_numbers_that_are_not_finite_are_empty_cells_and_nan_on_the_board(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    with MetricsLog(tmp_path / "metrics.jsonl", 0, loggers=[CSVLogger, TensorBoardLogger]) as log:
        log.write({"step": 1, "loss": math.inf})
        log.write({"step": 2, "loss": 0.5})
    assert (tmp_path / "metrics.csv").read_text() == "step,loss\n1,\n2,0.5\n"
    (_, lost), (_, kept) = scalars(tmp_path / "tensorboard")["loss"]
    assert math.isnan(lost) and kept == 0.5


def test_a_new_number_gets_a_column_and_the_rows_before_it_stay(tmp_path):
    log = CSVLogger(tmp_path, {}, [{"step": 1, "loss": 2.0}])
    log.write({"step": 2, "loss": 1.0})
    log.write({"step": 2, "accuracy": 0.5})
    log.write({"step": 3, "loss": 0.5})
    assert (tmp_path / "metrics.csv").read_text().splitlines() == [
        "step,loss,accuracy",
        "1,2.0,",
        "2,1.0,",
        "2,,0.5",
        "3,0.5,",
    ]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full, a disk that is always full")
def test_a_full_disk_under_the_table_is_named(tmp_path):
    log = CSVLogger(tmp_path, {}, [{"step": 1}])
    log.path = Path("/dev/full")
    with pytest.raises(OSError, match=r"cannot write /dev/full \(No space left on device\): make room"):
        log.write({"step": 2})


@pytest.mark.parametrize(("name", "module"), [("wandb", "wandb"), ("tensorboard", "torch.utils.tensorboard")])
def test_a_missing_package_is_one_sentence_and_nothing_is_begun(tmp_path, monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    sentence = rf'training.loggers names {name}, whose package cannot be used .*: install it, pip install "emc2-lite\['
    with pytest.raises(ValueError, match=sentence) as refusal:
        train_run(small(training__loggers=f"csv,{name}"), tmp_path / "run", progress=False)
    assert "\n" not in str(refusal.value) and not (tmp_path / "run").exists()


def test_loggers_are_named_in_a_list_or_with_commas_and_may_change_in_a_resumed_run():
    listed = from_dict({"training": {"loggers": ["csv", "wandb"]}})
    assert listed == from_dict({"training": {"loggers": "csv, wandb"}})
    assert listed.training.loggers == ("csv", "wandb")
    assert differences(listed, from_dict({})) == []
    with pytest.raises(ValueError, match=r"training\.loggers holds 'mlflow': use one of csv, tensorboard, wandb\."):
        from_dict({"training": {"loggers": "csv,mlflow"}})
    with pytest.raises(ValueError, match=r"training\.loggers holds 'csv' more than once"):
        from_dict({"training": {"loggers": "csv,csv"}})
