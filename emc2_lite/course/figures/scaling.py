"""Figures of chapter 09: predicted and measured steps, what they are made of, state, and distances from the softmax."""

from collections.abc import Mapping, Sequence

from emc2_lite.course.figures.parts import ABOVE, BOTTOM_RIGHT, Figure, Look, Row, from_zero, log, looks
from emc2_lite.course.style import COLOURS, GREY
from emc2_lite.laboratory.scaling import STATE, Machine, Work

# What a step is made of, in words, by field of `Machine`.
PARTS = {
    "encodings": "encoding",
    "passes": "calls of the encoder",
    "products": "scores of the batch",
    "candidates": "chains",
    "entries": "scores of the cache",
    "messages": "messages",
    "turns": "waiting for the core",
    "bytes": "bytes sent",
    "step": "the rest",
}


def predicted(rows: Sequence[Row], title: str) -> Figure:
    """Predicted over measured times of steps: rows with method, processes, milliseconds and predicted."""
    figure = Figure()
    for name, own in looks(row["method"] for row in rows).items():
        chosen = [row for row in rows if row["method"] == name]
        x, y = [row["milliseconds"] for row in chosen], [row["predicted"] for row in chosen]
        words = [f"b = {row['batch_size']}, {row['processes']} processes" for row in chosen]
        figure.points(x, y, name, own, size=9, text=words, hovertemplate="%{text}: %{x:.1f}, %{y:.1f}")
    ends = [min(row["milliseconds"] for row in rows), max(row["milliseconds"] for row in rows)]
    figure.curve(ends, ends, "equal", Look(GREY, "dash"), width=1, size=0)
    ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if ends[0] / 2 < tick < 2 * ends[1]]
    x, y = log("measured, ms a step", ticks), log("predicted, ms a step", ticks)
    return figure.finish(title, x, y, BOTTOM_RIGHT, height=480)


def parts_of_a_step(works: Mapping[str, Work], machine: Machine, title: str) -> Figure:
    """Bars of the predicted time of a step, one for each name; parts without any work are left out."""
    figure = Figure()
    for number, (part, name) in enumerate(PARTS.items()):
        amounts = [getattr(work, part, 1.0) for work in works.values()]
        if not any(amounts):
            continue
        values = [1000 * getattr(machine, part) * amount for amount in amounts]
        pattern = ("", "/", "x", ".", "\\", "-", "+", "|", "/")[number]
        figure.bars(list(works), values, name, COLOURS[number % len(COLOURS)], pattern)
    return figure.finish(
        title, {"showgrid": False}, from_zero("predicted, ms a step"), ABOVE, barmode="stack", margin_t=130
    )


def state(dim: int, processes: int, samples: Sequence[float]) -> Figure:
    """Bytes of state in a process over the number of samples, by method; methods without state have no curve."""
    figure = Figure()
    kept = {name: of(dim) / processes for name, of in STATE.items() if of(dim)}
    for name, own in looks(kept).items():
        figure.curve(samples, [kept[name] * count / 1e9 for count in samples], name, own, size=0)
    title = f"State in each of {processes} process{'es' if processes > 1 else ''}, d = {dim}"
    y = log("GB", exponentformat="power")
    return figure.finish(title, log("samples, N", exponentformat="power"), y, ABOVE)


def distances(x: Sequence[float], curves: Mapping[str, Sequence[float]], title: str, x_title: str) -> Figure:
    """Total variation from the softmax over x, on a logarithmic axis."""
    figure = Figure().curves(x, curves, size=5)
    axis = {"title": "total variation from the softmax", "range": [-0.03, 1.03]}
    return figure.finish(title, log(x_title, exponentformat="power"), axis, ABOVE)
