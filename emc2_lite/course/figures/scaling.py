"""Figures of chapter 09: predicted and measured steps, what they are made of, state, and distances from the softmax."""

from collections.abc import Mapping, Sequence

from emc2_lite.course.figures.parts import Figure, Look, Row, log, looks
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
PATTERNS = ("", "/", "x", ".", "", "+")


def predicted(rows: Sequence[Row], title: str) -> Figure:
    """Predicted over measured times of steps: rows with method, processes, milliseconds and predicted."""
    figure = Figure()
    for name, own in looks(row["method"] for row in rows).items():
        chosen = [row for row in rows if row["method"] == name]
        x, y = [row["milliseconds"] for row in chosen], [row["predicted"] for row in chosen]
        words = [f"b = {row['batch_size']}, K = {row['processes']}" for row in chosen]
        figure.points(x, y, name, own, size=9, text=words, hovertemplate="%{text}: %{x:.1f}, %{y:.1f}")
    ends = [min(row["milliseconds"] for row in rows), max(row["milliseconds"] for row in rows)]
    figure.curve(ends, ends, "equal", Look(GREY, "dash"), width=1, size=0)
    ticks = [tick for tick in (1, 3, 10, 30, 100, 300, 1000) if ends[0] / 2 < tick < 2 * ends[1]]
    axes = log("measured, ms a step", ticks), log("predicted, ms a step", ticks)
    farthest = max(rows, key=lambda row: abs(row["predicted"] / row["milliseconds"] - 1))
    alt = (
        f"{title}. A point for each of {len(rows)} kinds of step: its predicted over its measured time, from "
        f"{ends[0]:.1f} to {ends[1]:.0f} milliseconds, both axes logarithmic. The points lie along the line of equal "
        f"times; the farthest is {farthest['method']} with b = {farthest['batch_size']} and K = "
        f"{farthest['processes']}, {abs(farthest['predicted'] / farthest['milliseconds'] - 1):.0%} off."
    )
    return figure.finish(title, *axes, height=500, alt=alt)


def parts_of_a_step(works: Mapping[str, Work], machine: Machine, title: str) -> Figure:
    """Stacked bars of the predicted time of a step, one for each number of processes K, with their sums."""
    figure, totals, shown = Figure(), [0.0] * len(works), {}
    for number, (name, fields) in enumerate(PARTS.items()):
        values = [1000 * sum(getattr(machine, f) * getattr(work, f, 1.0) for f in fields) for work in works.values()]
        figure.bars(list(works), values, name, COLOURS[number], PATTERNS[number])
        totals, shown[name] = [total + value for total, value in zip(totals, values, strict=True)], values
    sums: dict = {"mode": "text", "text": [_milliseconds(total) for total in totals], "textposition": "top center"}
    figure.points(list(works), totals, "sum", 0, **sums, showlegend=False, cliponaxis=False, hoverinfo="skip")
    bars = []
    for place, (name, total) in enumerate(zip(works, totals, strict=True)):
        most = sorted(shown, key=lambda part: -shown[part][place])[:2]
        parts = " and ".join(f"{part} {shown[part][place]:.1f}" for part in most)
        bars.append(f"K = {name}: {total:.1f}, most of it {parts}")
    alt = f"{title}. A stacked bar of the predicted milliseconds of a step for each K. {'; '.join(bars)}."
    axis = {"title": "processes K, a core each", "showgrid": False, "type": "category"}
    y = {"title": "predicted, ms a step", "range": [0, 1.12 * max(totals)]}
    return figure.finish(title, axis, y, barmode="stack", height=480, alt=alt)


def _milliseconds(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def state(dim: int, processes: int, samples: Sequence[float]) -> Figure:
    """Bytes of state in a process over the number of samples, by method; methods without state have no curve."""
    figure = Figure()
    kept = {name: of(dim) / processes for name, of in STATE.items() if of(dim)}
    for name, own in looks(kept).items():
        figure.curve(samples, [kept[name] * count / 1e9 for count in samples], name, own, size=0)
    title = f"State in {f'each of {processes} processes' if processes > 1 else 'one process'}, d = {dim}"
    y = log("GB in a process", exponentformat="power", dtick=2)
    listed = ", ".join(f"{name} {bytes_ * samples[-1] / 1e9:.3g}" for name, bytes_ in kept.items())
    alt = (
        f"{title}. Gigabytes of state over the number of samples, from {samples[0]:.0e} to {samples[-1]:.0e}, both "
        f"axes logarithmic, a straight line for each method. At {samples[-1]:.0e} samples: {listed}."
    )
    return figure.finish(title, log("samples N", exponentformat="power"), y, height=450, alt=alt)


def distances(
    x: Sequence[float],
    curves: Mapping[str, Sequence[float]],
    title: str,
    x_title: str,
    ticks: Sequence[float] | None = None,
) -> Figure:
    """Total variation to the softmax over x, on a logarithmic axis with `ticks`, or one at each power of ten."""
    figure = Figure().curves(x, curves, size=5)
    axis = {"title": "total variation to the softmax", "range": [-0.03, 1.03]}
    listed = "; ".join(f"{name}: from {values[0]:.2f} to {values[-1]:.2f}" for name, values in curves.items())
    alt = (
        f"{title}. Total variation to the softmax, between 0 and 1, over {x_title}, from {x[0]:g} to {x[-1]:g}, "
        f"logarithmic. {listed}."
    )
    return figure.finish(title, log(x_title, ticks, exponentformat="power"), axis, height=480, alt=alt)
