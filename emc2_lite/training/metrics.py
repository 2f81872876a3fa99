"""A run's measurements as lines of JSON, and in any other loggers."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from emc2_lite.records import cannot_write, json_line, write_whole
from emc2_lite.training.loggers import Logger, MakeLogger


class MetricsLog:
    """Appends rows, flat dictionaries with a `step`, to a file of JSON lines while it is entered.

    A run that resumes at `step` keeps the rows up to this step and the accuracies up to step `evaluated`; later rows,
    which the run makes again, and a last line that was cut short are dropped. Other lines that cannot be read stay.
    Each of the `loggers` is made with the file's folder, the run's `config` and the rows that stay, and gets every
    later row once it is in the file.
    """

    def __init__(
        self,
        path: Path,
        step: int,
        evaluated: int | None = None,
        *,
        loggers: Sequence[MakeLogger] = (),
        config: Mapping[str, Any] | None = None,
    ):
        self.path, self.step = path, step
        self.evaluated = step if evaluated is None else evaluated
        self.makers, self.config = loggers, config or {}

    def __enter__(self) -> "MetricsLog":
        lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines(True) if self.path.exists() else []
        kept = [line for line in lines if self._stays(line)]
        if kept != lines or not self.path.exists():
            write_whole(self.path, "".join(kept))
        rows = [row for row in map(_row, kept) if row is not None]
        with ExitStack() as stack:
            self.file = stack.enter_context(self.path.open("a", encoding="utf-8"))
            self.loggers: list[Logger] = []
            for make in self.makers:
                self.loggers.append(make(self.path.parent, self.config, rows))
                stack.callback(self.loggers[-1].close)
            self.closing = stack.pop_all()
        return self

    def __exit__(self, *exception) -> None:
        self.closing.close()

    def _stays(self, line: str) -> bool:
        if (row := _row(line)) is None:
            return line.endswith("\n")
        return row["step"] <= (self.evaluated if "accuracy" in row else self.step)

    def write(self, row: dict[str, Any]) -> None:
        """Append a row; a number that is not finite is written as null.

        Raises: OSError: if the disk is full.
        """
        line = json_line(row)
        try:
            self.file.write(line + "\n")
            self.file.flush()
        except OSError as failure:
            raise cannot_write(self.path, failure) from None
        for logger in self.loggers:
            logger.write(json.loads(line))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of metrics, without the lines that cannot be read; a missing file has no rows."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    return [row for row in map(_row, lines) if row is not None]


def _row(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("step"), int) else None
