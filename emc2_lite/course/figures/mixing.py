"""Figures of chapter 04: how fast a Metropolis-Hastings walk forgets its start, and how much it repeats itself."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch import Tensor

from emc2_lite.course.style import BLUE, DASHES, GREEN, GREY, MARKERS, PURPLE, VERMILION

BELOW = {"orientation": "h", "y": -0.24, "yanchor": "top"}


def forgetting(distances: Tensor, bound: Tensor, worst_case: Tensor) -> go.Figure:
    """Exact total variation to p after t = 0, 1, ... steps from each start, (steps, m), and two bounds (steps,)."""
    figure = go.Figure()
    t = list(range(len(distances)))
    for k, distance in enumerate(distances.T.tolist()):
        figure.add_scatter(
            x=t,
            y=distance,
            mode="lines",
            line={"color": GREY, "width": 1, "dash": "dot"},
            name="exact, a line a start",
            legendgroup="starts",
            showlegend=k == 0,
        )
    line(figure, t, distances.amax(dim=1).tolist(), "exact, worst start", 0, BLUE, marker=True)
    line(figure, t, bound.tolist(), "bound (1 - 1/(m p_max))^t", 1, VERMILION)
    line(figure, t, worst_case.tolist(), "worst-case bound (1 - exp(-2/temperature))^t", 3, PURPLE)
    return figure.update_layout(
        title="How fast the start is forgotten",
        xaxis={"title": "steps t"},
        yaxis={
            "title": "total variation to p",
            "type": "log",
            "range": [-4, 0.15],
            "dtick": 1,
            "exponentformat": "none",
        },
        legend=BELOW,
        margin={"b": 130},
        height=490,
    )


def steps_needed(temperatures: Sequence[float], needed: Tensor, worst_case: Tensor, epsilon: float) -> go.Figure:
    """Steps until the bound on the total variation is epsilon: (temperatures, rows), and from the worst case alone."""
    low, middle, high = needed.quantile(torch.tensor([0.0, 0.5, 1.0], dtype=needed.dtype), dim=1).tolist()
    figure = go.Figure()
    line(figure, temperatures, worst_case.tolist(), "knowing only that |⟨z, z'⟩| ≤ 1", 1, VERMILION, marker=True)
    band(figure, temperatures, low, high, f"knowing p_max: all {needed.shape[1]} rows", 0.3)
    line(figure, temperatures, middle, "knowing p_max: median row", 0, BLUE, marker=True)
    return figure.update_layout(
        title=f"Steps that guarantee a total variation of at most {epsilon:g}",
        xaxis={"title": "temperature", "type": "log", "tickvals": temperatures},
        yaxis={"title": "steps", "type": "log", "exponentformat": "power", "dtick": 3, "range": [0, 19]},
        legend={"x": 0.98, "y": 0.98, "xanchor": "right"},
    )


def temperature_effect(target: Tensor, steps: Tensor, distance: Tensor, temperature: float) -> go.Figure:
    """Target p (m,); exact worst-start total variation (points,) after `steps` (points,); the bound is drawn beside."""
    m, p_max = len(target), target.max().item()
    forget = m * p_max
    t = [10 ** (k / 20) for k in range(74)]
    figure = make_subplots(cols=2, horizontal_spacing=0.14, column_widths=[0.42, 0.58])
    rank = list(range(1, m + 1))
    for x, y, name, dash, colour in (
        (rank, target.sort(descending=True).values.tolist(), "target p", 0, GREEN),
        ([1, m], [1 / m, 1 / m], "uniform, 1/m", 1, GREY),
    ):
        line(figure, x, y, name, dash, colour, row=1, col=1)
    line(figure, t, [(1 - 1 / forget) ** s for s in t], "bound", 1, VERMILION, row=1, col=2)
    line(figure, [forget, forget], [0, 1.05], "m p_max steps", 2, PURPLE, row=1, col=2)
    figure.add_scatter(
        x=steps.tolist(),
        y=distance.tolist(),
        mode="markers",
        marker={"symbol": MARKERS[0], "size": 9, "color": BLUE},
        name="exact, worst start",
        row=1,
        col=2,
    )
    figure.update_xaxes(type="log", dtick=1)
    figure.update_xaxes(title="negative, by its rank", range=[0, 2.7], row=1, col=1)
    figure.update_xaxes(title="steps t", range=[0, 3.65], row=1, col=2)
    figure.update_yaxes(
        title="probability p", type="log", dtick=2, range=[-9, 0.2], exponentformat="power", row=1, col=1
    )
    figure.update_yaxes(title="total variation to p", range=[0, 1.05], row=1, col=2)
    title = f"Temperature {temperature:g}: p_max {p_max:.3f}, gap {1 / forget:.4f}, forgets in {forget:.0f} steps"
    return figure.update_layout(
        title={"text": title, "y": 0.97},
        legend={"orientation": "h", "y": 1.03, "yanchor": "bottom"},
        margin={"t": 110},
        height=440,
    )


def autocorrelation(lags: Tensor, curves: Mapping[float, Tensor], lambda_2: Mapping[float, float]) -> go.Figure:
    """Correlation of the score with itself some lags later, (lags,) by temperature, and its bound lambda_2^lag."""
    figure = go.Figure()
    smooth = [10 ** (k / 20) for k in range(60)]
    for style, (temperature, curve) in enumerate(curves.items()):
        colour = (BLUE, VERMILION, GREEN)[style]
        figure.add_scatter(
            x=lags.tolist(),
            y=curve.tolist(),
            mode="markers",
            marker={"symbol": MARKERS[style], "color": colour, "size": 9},
            name=f"temperature {temperature:g}",
        )
        line(figure, smooth, [lambda_2[temperature] ** k for k in smooth], "its bound lambda_2^lag", style, colour)
    return figure.update_layout(
        title="A cold walk repeats itself",
        xaxis={"title": "lag (steps)", "type": "log", "dtick": 1},
        yaxis={"title": "autocorrelation of the score", "range": [-0.05, 1.03]},
        legend=BELOW,
        margin={"b": 130},
        height=490,
    )


def in_batch_error(series: Mapping[str, tuple[Sequence[float], Tensor]], floor: Tensor) -> go.Figure:
    """Total variation to p over m / |neg(r)|: by name, ratios and (points, repeats); `floor`: independent draws."""
    figure = go.Figure()
    for (name, (ratios, errors)), colour, marker in zip(series.items(), (BLUE, VERMILION), MARKERS, strict=False):
        for ratio, repeats in zip(ratios, errors.tolist(), strict=True):
            figure.add_scatter(
                x=[ratio] * len(repeats),
                y=repeats,
                mode="markers",
                marker={"symbol": marker, "color": colour, "size": 6, "opacity": 0.5},
                showlegend=False,
                hoverinfo="skip",
            )
        line(figure, ratios, errors.mean(dim=1).tolist(), name, MARKERS.index(marker), colour)
    low, high = floor.min().item(), floor.max().item()
    figure.add_hrect(y0=low, y1=high, fillcolor=GREY, opacity=0.35, line_width=0)
    figure.add_annotation(
        x=1,
        xref="paper",
        xanchor="right",
        y=high,
        yanchor="bottom",
        showarrow=False,
        text="independent draws: what noise alone gives",
    )
    return figure.update_layout(
        title="Few candidates out of many: the error goes away",
        xaxis={"title": "candidates a visit / states, m / |neg(r)|", "range": [0, 1.05]},
        yaxis={"title": "total variation to p", "rangemode": "tozero"},
        legend={"x": 0.02, "y": 0.98},
    )


def twin_error(mass: Sequence[float], errors: Mapping[str, Sequence[float]]) -> go.Figure:
    """Total variation to p by the probability of the lesser of two probable views of a sample: a point a row."""
    figure = go.Figure()
    for (name, values), colour, marker in zip(errors.items(), (GREY, BLUE, VERMILION), MARKERS, strict=False):
        figure.add_scatter(
            x=list(mass),
            y=list(values),
            mode="markers",
            marker={"symbol": marker, "color": colour, "size": 9},
            name=name,
        )
    return figure.update_layout(
        title="Where both views of a digit are probable, an error stays",
        xaxis={"title": "probability of the lesser twin (the largest such in the row)", "rangemode": "tozero"},
        yaxis={"title": "total variation to p", "rangemode": "tozero"},
        legend={"x": 0.02, "y": 0.98},
    )


def band(
    figure: go.Figure, x: Sequence[float], low: Sequence[float], high: Sequence[float], name: str, opacity: float
) -> None:
    """Fill between two curves."""
    edge = {"x": x, "mode": "lines", "line": {"width": 0}}
    figure.add_scatter(**edge, y=high, showlegend=False, hoverinfo="skip")
    figure.add_scatter(**edge, y=low, fill="tonexty", fillcolor=f"rgba(0, 114, 178, {opacity})", name=name)


def line(figure: go.Figure, x, y, name: str, style: int, colour: str, *, marker: bool = False, **place) -> None:
    figure.add_scatter(
        x=x,
        y=y,
        mode="lines+markers" if marker else "lines",
        line={"color": colour, "dash": DASHES[style], "width": 2},
        marker={"symbol": MARKERS[style], "size": 7},
        name=name,
        **place,
    )
