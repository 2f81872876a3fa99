"""The board: what the features of each method of a sweep are worth, and the time that they took."""

from collections.abc import Mapping, Sequence
from typing import Any

from emc2_lite.laboratory.statistics import Row
from emc2_lite.laboratory.sweep import BY
from emc2_lite.records import rows_where


def board(record: Mapping[str, Any]) -> list[Row]:
    """The rows of a sweep's `final`, each with the shortest `seconds` of its seeds: other work only makes a run longer.

    The supervised baseline has no time of its own, and None.
    """
    rows = []
    for row in record["final"]:
        runs = rows_where(record["metrics"], **{field: row[field] for field in BY})
        rows.append(
            row | {"seconds": min((run["seconds"] for run in runs if run["seconds"] is not None), default=None)}
        )
    return rows


def board_table(rows: Sequence[Row], few: int) -> str:
    """Rows of `board` as a table in Markdown: means over seeds, the probe's with its 95 % interval.

    few: the number of labels a class of the column beside the probe with all labels.

    >>> row = {"method": "DCL", "temperature": 0.2, "seconds": 61.4, "labels_1": 0.3, "nearest_neighbour": None}
    >>> row |= {"linear_probe": 0.5, "linear_probe_low": 0.45, "linear_probe_high": 0.55}
    >>> print(board_table([row], few=1).splitlines()[-1])
    | DCL | 0.2 | 0.500 (0.450 to 0.550) | – | 0.300 | 61 |
    """
    titles = ("method", "T", "linear probe", "1-NN", f"probe, {few} label{'s' * (few > 1)} a class", "seconds")
    lines = [f"| {' | '.join(titles)} |", "| --- " * len(titles) + "|"]
    for row in rows:
        probe = "{linear_probe:.3f} ({linear_probe_low:.3f} to {linear_probe_high:.3f})".format(**row)
        near = "–" if row["nearest_neighbour"] is None else f"{row['nearest_neighbour']:.3f}"
        seconds = "–" if row["seconds"] is None else f"{row['seconds']:,.0f}"
        cells = (row["method"], f"{row['temperature']:g}", probe, near, f"{row[f'labels_{few}']:.3f}", seconds)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
