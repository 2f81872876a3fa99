"""Figures of the gradient laboratory, chapter 06, and the bars of chapter 03, from the rows of records."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from emc2_lite.course.figures.parts import ABOVE, Figure, Look, Row, from_zero, log, look, looks, reach
from emc2_lite.course.style import GREY

BIAS = "bias (share of the exact gradient)"
# Ticks of logarithmic axes, by field; a smaller value is drawn at the first one.
TICKS = {
    "bias": (0.01, 0.1, 1, 10),
    "noise": (0.1, 1, 10),
    "run_noise": (0.1, 1, 10),
    "relative_price": (1, 1.5, 2, 2.5),
}


def interval_bars(rows: Sequence[Row], value: str, title: str, axis: str) -> Figure:
    """A point with its interval for each row, named by `method`; `value`, `value_low`, `value_high` are fields."""
    height = 80 + 45 * len(rows)
    return _points(Figure(), rows, value).finish(title, from_zero(axis), {"showgrid": False}, height=height)


def curves(
    rows: Sequence[Row], x: str, value: str, *, title: str, x_title: str, y_title: str, log_x: bool = True
) -> Figure:
    """Means over seeds with their intervals, by method; `x`, `value`, `value_low`, `value_high` are fields."""
    figure = _curves(Figure(), rows, x, value)
    ticks = sorted({row[x] for row in rows})
    axis = log(x_title, ticks, tickangle=0) if log_x else {"title": x_title}
    top = max(125, 75 + 25 * math.ceil(len(figure.data) / 3))  # room for a legend of up to three names a line
    return figure.finish(title, {"showgrid": False, **axis}, from_zero(y_title), ABOVE, margin_t=top, height=365 + top)


def side_by_side(panels: Mapping[str, tuple[Sequence[Row], str]], title: str) -> Figure:
    """Methods by several measures: for each axis title a panel, with its rows and a field of `TICKS`."""
    figure = Figure().set_subplots(cols=len(panels), shared_yaxes=True, horizontal_spacing=0.05)
    for col, (x_title, (rows, value)) in enumerate(panels.items(), start=1):
        first, *others = TICKS[value]
        _points(figure, rows, value, floor=first, row=1, col=col)
        words = [f"{first:g}" if value == "relative_price" else f"≤ {first:g}", *(f"{tick:g}" for tick in others)]
        span = math.log10(others[-1] / first)
        ends = [math.log10(first) - 0.06 * span, math.log10(others[-1]) + 0.06 * span]
        figure.update_xaxes(log(x_title, TICKS[value], ticktext=words, range=ends, tickangle=0), col=col)
    return figure.finish(title, height=150 + 35 * len(rows))


def falling_norms(rows: Sequence[Row], title: str) -> Figure:
    """Mean squared norm of the exact gradient over the horizon T, both logarithmic, and a line of slope -1/2."""
    x, y = "steps of the run, T", "mean of |e|² over the run"
    figure = curves(rows, "horizon", "mean_squared_norm", title=title, x_title=x, y_title=y)
    horizons = sorted({row["horizon"] for row in rows})
    start = max(row["mean_squared_norm"] for row in rows if row["horizon"] == horizons[0])
    slope = [1.3 * start * (horizon / horizons[0]) ** -0.5 for horizon in horizons]
    figure.curve(horizons, slope, "slope of 1/√T", Look(GREY, "dot"), width=1, size=0)
    return figure.update_yaxes(type="log", dtick="D2", tickformat="~r", exponentformat="power")


def recovery(rows: Sequence[Row], title: str) -> Figure:
    """Bias over visits since the encoder's jump, a curve for each method; the end of a window is its place.

    A figure with a slider has the same number of curves for each value: empty ones make six.
    """
    x, title = "visits of each sample since the jump", f"Bias after the encoder has jumped: {title}"
    figure = curves(rows, "visits_to", "bias", title=title, x_title=x, y_title=BIAS)
    for _ in range(len(figure.data), 6):
        figure.curve([], [], "", 0, showlegend=False)
    return figure


def two_curves(rows: Sequence[Row], x: str, values: Mapping[str, str], title: str, x_title: str) -> Figure:
    """Two panels, one above the other, on logarithmic axes: `values` has the axis title of each field."""
    figure = Figure().set_subplots(rows=len(values), shared_xaxes=True, vertical_spacing=0.06)
    for place, (value, y_title) in enumerate(values.items(), start=1):
        _curves(figure, rows, x, value, error_y_visible=False, showlegend=place == 1, row=place, col=1)
        figure.update_yaxes(log(y_title, exponentformat="power"), row=place)
    figure.update_xaxes(title=x_title, row=len(values))
    return figure.finish(title, place=ABOVE, height=650)


def _points(figure: Figure, rows: Sequence[Row], value: str, floor: float = -math.inf, **place: int) -> Figure:
    """Each method's value with its interval, on a line of its own; values below `floor` are drawn at `floor`."""
    for row in reversed(rows):
        name, options = row["method"], {"error_x": _interval([row], value, floor), "showlegend": False, **place}
        figure.points([max(row[value], floor)], [name], "", look(name), size=11, **options)
    return figure


def _curves(figure: Figure, rows: Sequence[Row], x: str, value: str, **options: Any) -> Figure:
    """Each method's values over the field `x`, with their intervals."""
    for name, own in looks(row["method"] for row in rows).items():
        chosen = [row for row in rows if row["method"] == name]
        places, values = [row[x] for row in chosen], [row[value] for row in chosen]
        figure.curve(places, values, name, own, error_y=_interval(chosen, value), **options)
    return figure


def _interval(rows: Sequence[Row], value: str, floor: float = -math.inf) -> dict[str, Any]:
    """plotly's error bars from the intervals of the rows; none where there is a single seed."""
    bounds = [[row[f"{value}_low"], row[value], row[f"{value}_high"]] for row in rows]
    if any(None in three for three in bounds):
        return {"visible": False}
    floor = max(floor, 0.0) if value == "bias" else floor  # a length: what lies below 0 is not drawn
    return reach(*torch.tensor(bounds, dtype=torch.float64).clamp(min=floor).T)
