"""Figures of chapter 03: averages and caches, what they remember, how late, and at what price."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from torch import Tensor

from emc2_lite.course.figures.mixing import line
from emc2_lite.course.style import BLUE, COLOURS, GREY, MARKERS, VERMILION

BELOW = {"orientation": "h", "y": -0.26, "yanchor": "top"}


def average_over_visits(batches: Tensor, average: Tensor, exact: float, gamma: float, temperature: float) -> go.Figure:
    """One row over its visits: logs of the batches' means and of the moving average, (visits,), and the exact, nats."""
    visit = list(range(1, len(batches) + 1))
    figure = go.Figure()
    figure.add_scatter(
        x=visit,
        y=batches.tolist(),
        mode="markers",
        marker={"symbol": "circle-open", "size": 6, "color": GREY},
        name="this visit's batch",
    )
    line(figure, visit, average.tolist(), "moving average", 0, BLUE)
    line(figure, [1, len(visit)], [exact, exact], "exact", 1, VERMILION)
    half = len(visit) // 2
    gap = (average[half:] - exact).mean().item()
    return figure.update_layout(
        title={
            "text": f"gamma {gamma:g}, temperature {temperature:g}: {gap:+.2f} nats over the second half",
            "y": 0.97,
        },
        xaxis={"title": "visit of the row (one an epoch)"},
        yaxis={"title": "log-normaliser, nats"},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        margin={"t": 90},
    )


def expected_weights(exact: Tensor, weights: Mapping[str, Tensor]) -> go.Figure:
    """Mean weights (negatives,) of one row by method, over the exact p (negatives,); on the diagonal they agree."""
    low = max(1e-6, exact.min().item())
    figure = go.Figure()
    line(figure, [low, 1], [low, 1], "weight = p", 1, GREY)
    for (name, mean), colour, marker in zip(weights.items(), COLOURS, MARKERS, strict=False):
        shown = mean > 0
        figure.add_scatter(
            x=exact[shown].tolist(),
            y=mean[shown].tolist(),
            mode="markers",
            marker={"symbol": f"{marker}-open", "size": 7, "color": colour},
            name=name,
        )
    axis = {"type": "log", "dtick": 1, "exponentformat": "power"}
    return figure.update_layout(
        title="What a negative should weigh, and what it weighs on average",
        xaxis={"title": "exact probability p of the negative", **axis},
        yaxis={"title": "mean weight", **axis},
        legend={"x": 0.02, "y": 0.98},
    )


def after_the_jump(curves: Mapping[str, Sequence[float]], before: int) -> go.Figure:
    """Mean error of log u over all rows, nats, (visits,) by name; the encoder jumps behind visit number `before`."""
    figure = go.Figure()
    for i, (name, errors) in enumerate(curves.items()):
        line(figure, list(range(1 - before, len(errors) - before + 1)), list(errors), name, i, COLOURS[i])
    figure.add_vline(x=0.5, line={"color": GREY, "width": 1})
    where = {"x": 0.5, "y": 1, "yref": "paper", "xanchor": "left", "yanchor": "bottom"}
    figure.add_annotation(text="the encoder jumps", showarrow=False, **where)
    return figure.update_layout(
        title="An average of the past meets a new encoder (mean over all rows)",
        xaxis={"title": "visits since the jump"},
        yaxis={"title": "log u minus exact, nats"},
        legend=BELOW,
        margin={"b": 120},
    )


def draws_and_softmax(exact: Tensor, drawn: Tensor, draws: int) -> go.Figure:
    """Shares of `draws` Gumbel-max draws that fell on each of the most probable entries, (k,), beside the softmax."""
    rank = list(range(1, len(exact) + 1))
    figure = go.Figure()
    figure.add_bar(x=rank, y=exact.tolist(), name="softmax", marker={"color": GREY})
    figure.add_bar(
        x=rank,
        y=drawn.tolist(),
        name=f"{draws:,} draws",
        marker={"color": BLUE, "pattern": {"shape": "/", "solidity": 0.3}},
    )
    return figure.update_layout(
        title="The largest of (score + Gumbel noise) is a draw from the softmax",
        xaxis={"title": "cached view, by its probability (rank)", "dtick": 1, "showgrid": False},
        yaxis={"title": "share (dimensionless)", "rangemode": "tozero"},
        legend={"x": 0.98, "xanchor": "right", "y": 0.98},
        bargap=0.25,
    )


def staleness(curves: Mapping[str, Sequence[float]], every: int) -> go.Figure:
    """Mean |cached score - true score| of drawn negatives, dimensionless, averaged over `every` steps, by name."""
    figure = go.Figure()
    for i, (name, values) in enumerate(curves.items()):
        steps = [every * (k + 0.5) for k in range(len(values))]
        line(figure, steps, list(values), name, i, COLOURS[i], marker=True)
    return figure.update_layout(
        title="How late the cache is, at the negatives drawn from it",
        xaxis={"title": "step of training"},
        yaxis={"title": "error of the score (dimensionless)", "rangemode": "tozero"},
        legend=BELOW,
        margin={"b": 120},
    )


def bytes_kept(datasets: Sequence[str], kept: Mapping[str, Sequence[float]]) -> go.Figure:
    """Bytes of state by method, one bar a data set, on a logarithmic scale of megabytes."""
    figure = go.Figure()
    shapes = ("", "/", "x", "\\")
    for (name, amounts), colour, shape in zip(kept.items(), COLOURS, shapes, strict=False):
        figure.add_bar(
            x=list(datasets),
            y=[amount / 1e6 for amount in amounts],
            name=name,
            marker={"color": colour, "pattern": {"shape": shape, "solidity": 0.3}},
        )
    return figure.update_layout(
        title="What has to be remembered",
        yaxis={"title": "state, MB", "type": "log", "dtick": 1, "tickformat": ",~r"},
        xaxis={"title": "data set"},
        legend=BELOW,
        margin={"b": 120},
    )
