"""Loggers: where the rows of metrics go besides the run's own file of JSON lines."""

import csv
import io
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from emc2_lite.records import Row, Rows, cannot_write, write_whole


class Logger(Protocol):
    """What a run asks of a logger: to write each row, and to close at the end.

    A run makes its loggers by calling each with its folder, its configuration as sections of literals, and the rows
    that it already has: none in a new run, and in a resumed one those up to its checkpoint, which the logger must then
    hold, each once, whatever it held before. A row is a flat dictionary with a `step`, such as ``{"step": 50, "epoch":
    1.1, "loss": 3.9}``; a step can have a second row, of an evaluation; None is a number that was not finite. A class
    with these methods is such a logger:

    >>> class Printer:
    ...     def __init__(self, folder, config, rows):
    ...         self.name = folder.name
    ...
    ...     def write(self, row):
    ...         if "loss" in row:
    ...             print(self.name, row["step"], f"{row['loss']:.1f}")
    ...
    ...     def close(self):
    ...         pass
    >>> from tempfile import TemporaryDirectory
    >>> from emc2_lite.runs import train_run
    >>> from emc2_lite.training import changed, read_config
    >>> config = changed(read_config("digits"), **{"data.samples": 64, "training.epochs": 2, "training.log_steps": 4})
    >>> with TemporaryDirectory() as folder:
    ...     record = train_run(config, Path(folder, "run"), progress=False, loggers=[Printer])
    run 4 4.1
    """

    def write(self, row: Row) -> None: ...
    def close(self) -> None: ...


MakeLogger = Callable[[Path, Mapping[str, Any], Rows], Logger]


class CSVLogger:
    """metrics.csv in the run's folder: a line a row, a column a number, and an empty cell where a row lacks it.

    Raises: OSError: if the disk is full.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any], rows: Rows):
        self.path, self.rows, self.columns = folder / "metrics.csv", list(rows), ["step"]
        self._begin()

    def _begin(self) -> None:
        """The whole file, with a column for each name in the rows."""
        self.columns = list(dict.fromkeys([*self.columns, *(name for row in self.rows for name in row)]))
        write_whole(self.path, self._lines(dict(zip(self.columns, self.columns, strict=True)), *self.rows))

    def _lines(self, *rows: Mapping[str, Any]) -> str:
        text = io.StringIO()
        csv.DictWriter(text, self.columns, lineterminator="\n").writerows(rows)
        return text.getvalue()

    def write(self, row: Row) -> None:
        self.rows.append(row)
        if not row.keys() <= set(self.columns):
            return self._begin()
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(self._lines(row))
        except OSError as failure:
            raise cannot_write(self.path, failure) from None

    def close(self) -> None:
        """Each row is in the file already."""


class TensorBoardLogger:
    """Event files in the folder `tensorboard` of the run's folder, a scalar for each number. A resumed run writes its
    earlier rows to a new file and deletes the old ones, which may lack rows or have some that are made again."""

    def __init__(self, folder: Path, config: Mapping[str, Any], rows: Rows):
        from torch.utils.tensorboard import SummaryWriter

        place = folder / "tensorboard"
        before = list(place.glob("events.out.tfevents.*"))
        self.board = SummaryWriter(place)
        for row in rows:
            self._add(row)
        self.board.flush()
        for file in before:
            file.unlink()

    def _add(self, row: Row) -> None:
        for name, value in row.items():
            if name != "step":
                self.board.add_scalar(name, math.nan if value is None else value, row["step"])

    def write(self, row: Row) -> None:
        self._add(row)
        self.board.flush()

    def close(self) -> None:
        self.board.close()


class WandbLogger:
    """A run of Weights & Biases in the folder `wandb` of the run's folder, named as that folder.

    Nothing leaves the machine unless the variable WANDB_MODE says "online"; ``wandb sync`` sends an offline run later.
    The project and the account are those of wandb's own variables, such as WANDB_PROJECT. A resumed run keeps its id.
    Offline it is written anew with its earlier rows, and the unfinished copy is deleted; online the server keeps the
    steps that it has.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any], rows: Rows):
        import wandb

        mode: Any = os.environ.get("WANDB_MODE", "offline")
        # Only what the whole process is set to silences wandb's own telemetry; wandb.init's mode does not.
        wandb.setup(wandb.Settings(mode=mode))
        before = sorted((folder / "wandb").glob("*run-*/run-*.wandb"), key=lambda path: path.stat().st_mtime)
        before = [path for path in before if not path.parent.is_symlink()]
        self.run = wandb.init(
            dir=folder,
            name=folder.name,
            id=before[-1].stem.removeprefix("run-") if before else None,
            resume="allow",
            config=dict(config),
            mode=mode,
            settings=wandb.Settings(silent=True, console="off", disable_git=True),
        )
        for row in rows:
            self.write(row)
        for path in before:
            if path.parent.name.startswith("offline-"):
                shutil.rmtree(path.parent)

    def write(self, row: Row) -> None:
        self.run.log({name: math.nan if value is None else value for name, value in row.items()}, step=row["step"])

    def close(self) -> None:
        self.run.finish()


LOGGERS: dict[str, MakeLogger] = {"csv": CSVLogger, "tensorboard": TensorBoardLogger, "wandb": WandbLogger}
_MODULES = {"tensorboard": "torch.utils.tensorboard", "wandb": "wandb"}


def check_loggers(names: Sequence[str]) -> None:
    """Refuse loggers whose package is missing or broken, before a run begins.

    Raises: ValueError: with the package's name and how to install it.

    >>> check_loggers(["csv"])
    """
    for name in names:
        try:
            if name in _MODULES:
                import_module(_MODULES[name])
        except Exception as problem:
            raise ValueError(
                f"training.loggers names {name}, whose package cannot be used ({type(problem).__name__}: {problem}): "
                'install it, pip install "emc2-lite[logging]", or leave it out.'
            ) from None
