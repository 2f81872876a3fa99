"""A run's measurements as lines of JSON, and for TensorBoard where that is installed."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from emc2_lite.records import write_whole


class MetricsLog:
    """Appends rows, flat dictionaries with a `step`, to a file of JSON lines while it is entered.

    A run that goes on from step s begins with what was written up to s: lines of steps that the interrupted run made
    after its last checkpoint are dropped, and so is a line that was cut short. With TensorBoard installed the rows also
    go to the folder `tensorboard` beside the file.
    """

    def __init__(self, path: Path, step: int):
        self.path = path
        self.step = step

    def __enter__(self) -> "MetricsLog":
        kept = [row for row in read_metrics(self.path) if row["step"] <= self.step] if self.path.exists() else []
        write_whole(self.path, "".join(json.dumps(row) + "\n" for row in kept))
        self.file = self.path.open("a", encoding="utf-8")
        self.board = None
        if find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(self.path.with_name("tensorboard"), purge_step=self.step + 1)
        return self

    def __exit__(self, *exception) -> None:
        self.file.close()
        if self.board is not None:
            self.board.close()

    def write(self, row: dict[str, Any]) -> None:
        """
        Raises:
            OSError: if the disk is full.
        """
        try:
            self.file.write(json.dumps(row) + "\n")
            self.file.flush()
        except OSError as failure:
            raise OSError(
                failure.errno,
                f"cannot write {self.path} ({failure.strerror}): make room, then continue with --resume",
            ) from None
        if self.board is not None:
            for name, value in row.items():
                if name != "step":
                    self.board.add_scalar(name, value, row["step"])


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of metrics; a last line that was cut short is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows
