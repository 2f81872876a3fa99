"""A run's measurements as lines of JSON, and for TensorBoard where it is installed."""

import json
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from emc2_lite.records import cannot_write, json_line, write_whole


class MetricsLog:
    """Appends rows, flat dictionaries with a `step`, to a file of JSON lines while it is entered.

    A run that resumes at `step` keeps the rows up to this step and the accuracies up to step `evaluated`; later rows,
    which the run makes again, and a last line that was cut short are dropped. Other lines that cannot be read stay.
    Where TensorBoard is installed, the rows also go to the folder `tensorboard` beside the file.
    """

    def __init__(self, path: Path, step: int, evaluated: int | None = None):
        self.path, self.step = path, step
        self.evaluated = step if evaluated is None else evaluated

    def __enter__(self) -> "MetricsLog":
        lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines(True) if self.path.exists() else []
        kept = [line for line in lines if self._stays(line)]
        if kept != lines or not self.path.exists():
            write_whole(self.path, "".join(kept))
        self.file = self.path.open("a", encoding="utf-8")
        self.board = self._board() if find_spec("tensorboard") else None
        return self

    def __exit__(self, *exception) -> None:
        self.file.close()
        if self.board is not None:
            self.board.close()

    def _stays(self, line: str) -> bool:
        if (row := _row(line)) is None:
            return line.endswith("\n")
        return row["step"] <= (self.evaluated if "accuracy" in row else self.step)

    def _board(self) -> Any:
        try:
            from torch.utils.tensorboard import SummaryWriter

            return SummaryWriter(self.path.with_name("tensorboard"), purge_step=self.step + 1)
        except Exception as problem:  # a broken module, or another one of the same name
            reason = f"its module cannot be used ({type(problem).__name__}: {problem})"
            warnings.warn(f"TensorBoard is not written: {reason}; all rows are in {self.path}", stacklevel=3)
            return None

    def write(self, row: dict[str, Any]) -> None:
        """Append a row; a number that is not finite is written as null.

        Raises: OSError: if the disk is full.
        """
        try:
            self.file.write(json_line(row) + "\n")
            self.file.flush()
        except OSError as failure:
            raise cannot_write(self.path, failure) from None
        if self.board is not None:
            for name, value in row.items():
                if name != "step":
                    self.board.add_scalar(name, value, row["step"])


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
