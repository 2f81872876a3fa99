"""Figures of chapter 09: predicted and measured steps, what they are made of, state, and distances from the softmax."""

from collections.abc import Mapping, Sequence

from emc2_lite.course.figures.parts import ABOVE, BOTTOM_RIGHT, TOP_RIGHT, Figure, Look, Row, from_zero, log, looks
from emc2_lite.course.style import COLOURS, GREY
from emc2_lite.laboratory.scaling import STATE, Machine, Work

# What a step is made of: fields of `Machine`, by their words.
PARTS = {
    "encoding": ("encodings",),
    "calls of the encoder": ("passes",),
    "scores": ("products", "entries"),
    "chains": ("candidates",),
    "messages": ("messages", "turns", "bytes"),
    "the rest": ("step",),
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
    axes = log("measured, ms a step", ticks), log("predicted, ms a step", ticks)
    return figure.finish(title, *axes, BOTTOM_RIGHT, height=480)


def parts_of_a_step(works: Mapping[str, Work], machine: Machine, title: str) -> Figure:
    """Bars of the predicted time of a step, one for each name; parts without any work are left out."""
    figure = Figure()
    for number, (name, fields) in enumerate(PARTS.items()):
        values = [1000 * sum(getattr(machine, f) * getattr(work, f, 1.0) for f in fields) for work in works.values()]
        pattern = ("", "/", "x", ".", "", "+")[number]
        if any(values):
            figure.bars(list(works), values, name, COLOURS[number % len(COLOURS)], pattern)
    processes = {"title": "processes, each with a core of its own", "showgrid": False, "type": "category"}
    return figure.finish(title, processes, from_zero("predicted, ms a step"), ABOVE, barmode="stack", margin_t=120)


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
    return figure.finish(title, log(x_title, exponentformat="power"), axis, TOP_RIGHT)
