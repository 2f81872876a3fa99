"""Figures of the gradient laboratory, chapter 06 (and the bars of chapter 03): rows of records in, pictures out."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from emc2_lite.course.style import BLUE, COLOURS, DASHES, GREY, MARKERS, VERMILION
from emc2_lite.losses import METHODS

ABOVE = {"orientation": "h", "y": 1.02, "yanchor": "bottom"}  # below stands the slider of a stored figure
# The looks of the register, and of the exact gradient: colour, dash and marker.
LOOKS = {name: (method.colour, method.dash, method.marker) for name, method in METHODS.items()} | {
    "exact gradient": (COLOURS[5], DASHES[4], f"{MARKERS[2]}-open"),
}

# Where the names of close neighbours stand in the figure of bias against price.
LABELS = {
    "EMC2": "top left",
    "EMC2 without refresh": "top center",
    "EMC2 multiproposal": "top right",
    "cache": "bottom right",
}

Row = Mapping[str, Any]


def interval_bars(rows: Sequence[Row], value: str, title: str, axis: str) -> go.Figure:
    """One point with its interval a row, named by `method`; `value` and `value_low`, `value_high` are its fields."""
    figure = go.Figure()
    for row in reversed(rows):
        _point(figure, row, value)
    return figure.update_layout(
        title=title, xaxis={"title": axis, "rangemode": "tozero"}, yaxis={"showgrid": False}, height=80 + 45 * len(rows)
    )


def curves(
    rows: Sequence[Row],
    x: str,
    value: str,
    *,
    title: str,
    x_title: str,
    y_title: str,
    log_x: bool = True,
    log_y: bool = False,
) -> go.Figure:
    """Means over seeds with their intervals, a curve a method; `x`, `value`, `value_low`, `value_high` are fields."""
    figure = go.Figure()
    for method in dict.fromkeys(row["method"] for row in rows):
        _curve(figure, [row for row in rows if row["method"] == method], x, value, method)
    ticks = sorted({row[x] for row in rows})
    figure.update_xaxes(title=x_title, type="log" if log_x else "linear", showgrid=False)
    if log_x:
        figure.update_xaxes(tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks], tickangle=0)
    figure.update_yaxes(title=y_title, type="log" if log_y else "linear")
    if log_y:
        figure.update_yaxes(exponentformat="power")
    else:
        figure.update_yaxes(rangemode="tozero")
    return figure.update_layout(title={"text": title, "y": 0.97}, legend=ABOVE, margin={"t": 125}, height=490)


def quality_at(rows: Sequence[Row], batch_size: int, temperature: float) -> go.Figure:
    """Bias and error of a single step of every method at one batch size and temperature, on one logarithmic axis."""
    figure = make_subplots(cols=2, shared_yaxes=True, horizontal_spacing=0.04)
    for col, value in enumerate(("bias", "rmse"), start=1):
        for row in reversed(rows):
            _point(figure, row, value, floor=0.01, row=1, col=col)
    ticks = [0.01, 0.1, 1, 10]
    figure.update_xaxes(type="log", range=[-2.05, 1.3], tickvals=ticks, ticktext=["≤ 0.01", "0.1", "1", "10"])
    figure.update_xaxes(title="bias, share of |e|", col=1)
    figure.update_xaxes(title="error of a single step, share of |e|", col=2)
    return figure.update_layout(title=f"b = {batch_size}, temperature {temperature:g}", height=400)


def falling_norms(rows: Sequence[Row], title: str) -> go.Figure:
    """Mean squared norm of the exact gradient over the horizon T, both logarithmic, and a line of slope -1/2."""
    figure = curves(
        rows,
        "horizon",
        "mean_squared_norm",
        title=title,
        x_title="steps of the run, T",
        y_title="mean of |e|² over the run",
        log_y=True,
    )
    horizons = sorted({row["horizon"] for row in rows})
    start = max(row["mean_squared_norm"] for row in rows if row["horizon"] == horizons[0])
    figure.add_scatter(
        x=horizons,
        y=[1.3 * start * (horizon / horizons[0]) ** -0.5 for horizon in horizons],
        mode="lines",
        line={"color": GREY, "width": 1, "dash": "dot"},
        name="slope of 1/√T",
    )
    return figure.update_yaxes(dtick="D2", tickformat="~r")


def recovery(rows: Sequence[Row], title: str) -> go.Figure:
    """Bias over visits since the encoder's jump, a curve a method; windows are drawn at their ends.

    A figure with a slider needs as many curves for each value, so it is filled up with empty ones to six.
    """
    figure = go.Figure()
    methods = list(dict.fromkeys(row["method"] for row in rows))
    plain = len({method.split(",")[0] for method in methods}) == len(methods)
    for i, method in enumerate(methods):
        _curve(figure, [row for row in rows if row["method"] == method], "visits_to", "bias", method)
        if not plain:
            figure.data[-1].line = {"color": COLOURS[i], "dash": DASHES[i], "width": 2}
            figure.data[-1].marker = {"symbol": MARKERS[i], "size": 8, "color": COLOURS[i]}
    for _ in range(len(methods), 6):
        figure.add_scatter(x=[], y=[], mode="lines+markers", showlegend=False)
    ends = sorted({row["visits_to"] for row in rows})
    return figure.update_layout(
        title={"text": f"Bias after the encoder has jumped: {title}", "y": 0.97},
        xaxis={
            "title": "visits of each sample since the jump",
            "type": "log",
            "tickvals": ends,
            "ticktext": [f"{end:g}" for end in ends],
        },
        yaxis={"title": "bias (share of the exact gradient)", "rangemode": "tozero"},
        legend=ABOVE,
        margin={"t": 125},
        height=490,
    )


def bias_against_price(rows: Sequence[Row], prices: Sequence[float], title: str) -> go.Figure:
    """A point a method: price in forward passes of a view a step, and bias with its interval.

    Settings of a method have its look and no label; the pointer names them.
    """
    figure = go.Figure()
    for row, price in zip(rows, prices, strict=True):
        colour, _, marker = _look(row["method"])
        figure.add_scatter(
            x=[price],
            y=[row["bias"]],
            error_y=_reach([row], "bias"),
            mode="markers+text",
            text=[row["method"] if "," not in row["method"] else ""],
            hovertext=[row["method"]],
            textposition=LABELS.get(row["method"], "middle right"),
            marker={"symbol": marker, "size": 11, "color": colour},
            showlegend=False,
        )
    figure.update_xaxes(title="encodings a step beyond the batch's own, in forward passes", range=[-3, None])
    figure.update_yaxes(title="bias (share of the exact gradient)", rangemode="tozero")
    return figure.update_layout(title=title, height=520)


def two_curves(rows: Sequence[Row], x: str, values: Mapping[str, str], title: str, x_title: str) -> go.Figure:
    """Two panels, one above the other, on logarithmic axes: by field, the axis title of its panel."""
    figure = make_subplots(rows=len(values), shared_xaxes=True, vertical_spacing=0.06)
    for place, (value, y_title) in enumerate(values.items(), start=1):
        for method in dict.fromkeys(row["method"] for row in rows):
            of_method = [row for row in rows if row["method"] == method]
            _curve(figure, of_method, x, value, method, row=place, col=1, showlegend=place == 1)
            figure.data[-1].update(error_y_visible=False, mode="lines")
        figure.update_yaxes(title=y_title, type="log", exponentformat="power", dtick=1, row=place)
    figure.update_xaxes(title=x_title, row=len(values))
    return figure.update_layout(title={"text": title, "y": 0.98}, legend=ABOVE, margin={"t": 110}, height=650)


def chain_distances(temperatures: Sequence[float], distances: Mapping[str, Sequence[float]]) -> go.Figure:
    """Mean total variation of the chains' visit ends to their softmax over temperatures, a curve a name."""
    figure = go.Figure()
    styles = zip((BLUE, VERMILION, GREY), DASHES, MARKERS, strict=False)
    for (name, values), (colour, dash, marker) in zip(distances.items(), styles, strict=False):
        figure.add_scatter(
            x=list(temperatures),
            y=list(values),
            mode="lines+markers",
            line={"color": colour, "dash": dash, "width": 2},
            marker={"symbol": marker, "size": 9},
            name=name,
        )
    return figure.update_layout(
        title={"text": "How far the chains are from their softmax", "y": 0.97},
        xaxis={"title": "temperature", "type": "log", "tickvals": list(temperatures), "ticktext": list(temperatures)},
        yaxis={"title": "total variation to p", "rangemode": "tozero"},
        legend=ABOVE,
        margin={"t": 90},
    )


def _look(method: str) -> tuple[str, str, str]:
    return LOOKS[method]


def _point(figure: go.Figure, of: Row, value: str, floor: float | None = None, **place) -> None:
    """A method's value with its interval, on a line of its own; what is below `floor` is drawn there."""
    colour, _, marker = _look(of["method"])
    figure.add_scatter(
        x=[of[value] if floor is None else max(of[value], floor)],
        y=[of["method"]],
        error_x=_reach([of], value, floor),
        mode="markers",
        marker={"symbol": marker, "size": 11, "color": colour},
        showlegend=False,
        **place,
    )


def _curve(figure: go.Figure, rows: Sequence[Row], x: str, value: str, name: str, **place) -> None:
    colour, dash, marker = _look(name)
    figure.add_scatter(
        x=[row[x] for row in rows],
        y=[row[value] for row in rows],
        error_y=_reach(rows, value),
        mode="lines+markers",
        line={"color": colour, "dash": dash, "width": 2},
        marker={"symbol": marker, "size": 8},
        name=name,
        **place,
    )


def _reach(rows: Sequence[Row], value: str, floor: float | None = None) -> dict[str, Any]:
    """plotly's error bar from the interval of each row; none where there is a single seed."""
    pairs = [(row[value], row[f"{value}_low"], row[f"{value}_high"]) for row in rows]
    if any(low is None for _, low, _ in pairs):
        return {"visible": False}
    if value == "bias":  # a length: what lies below 0 is not drawn
        floor = floor or 0.0
    if floor is not None:
        pairs = [tuple(max(floor, number) for number in three) for three in pairs]
    return {
        "type": "data",
        "symmetric": False,
        "array": [max(0.0, high - middle) for middle, _, high in pairs],
        "arrayminus": [max(0.0, middle - low) for middle, low, _ in pairs],
        "thickness": 1.5,
    }
