"""Figures of chapter 08: how good features are, and how sure that is."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from torch import Tensor

from emc2_lite.course.figures.laboratory import ABOVE
from emc2_lite.course.style import COLOURS, DASHES, MARKERS
from emc2_lite.evaluation import Interval, wilson

Row = Mapping[str, Any]


def measured(rows: Sequence[Row], title: str) -> go.Figure:
    """Accuracies with their intervals, a line for each kind of `features`, a marker for each `measure`.

    A row has features, measure, accuracy, low and high.
    """
    names = list(dict.fromkeys(row["features"] for row in rows))[::-1]
    measures = list(dict.fromkeys(row["measure"] for row in rows))
    figure = go.Figure()
    for style, measure in enumerate(measures):
        chosen = [row for row in rows if row["measure"] == measure]
        offset = 0.22 * ((len(measures) - 1) / 2 - style)
        figure.add_scatter(
            x=[row["accuracy"] for row in chosen],
            y=[names.index(row["features"]) + offset for row in chosen],
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [row["high"] - row["accuracy"] for row in chosen],
                "arrayminus": [row["accuracy"] - row["low"] for row in chosen],
                "thickness": 1.5,
            },
            mode="markers",
            marker={"symbol": MARKERS[style], "size": 9, "color": COLOURS[style]},
            name=measure,
        )
    figure.update_yaxes(tickvals=list(range(len(names))), ticktext=names, range=[-0.6, len(names) - 0.4])
    return figure.update_layout(
        title={"text": title, "y": 0.96},
        xaxis={"title": "accuracy, share of the test images"},
        yaxis={"showgrid": False, "zeroline": False},
        legend=ABOVE,
        height=190 + 62 * len(names),
        margin={"t": 100},
    )


def luck_of_the_test_set(accuracy: float, sizes: Sequence[int]) -> go.Figure:
    """Wilson's interval around one accuracy, over the number of test images."""
    bounds = [wilson(round(accuracy * size), size) for size in sizes]
    figure = go.Figure()
    for name, values, dash in (
        ("highest", [bound.high for bound in bounds], DASHES[1]),
        ("lowest", [bound.low for bound in bounds], DASHES[2]),
    ):
        figure.add_scatter(x=list(sizes), y=values, mode="lines", name=name, line={"color": COLOURS[0], "dash": dash})
    figure.add_scatter(
        x=list(sizes), y=[accuracy] * len(sizes), mode="lines", name="measured", line={"color": COLOURS[4]}
    )
    ticks = [100, 360, 1000, 8000, 50000]
    figure.update_xaxes(title="test images", type="log", tickvals=ticks, ticktext=[f"{tick:,}" for tick in ticks])
    return figure.update_layout(
        title={"text": f"What {accuracy:g} on the test images may stand for (95 %)", "y": 0.96},
        yaxis={"title": "accuracy"},
        legend=ABOVE,
        height=380,
        margin={"t": 100},
    )


def best_of_many(candidates: Sequence[int], chosen: Mapping[str, Sequence[float]], true: float) -> go.Figure:
    """What the best of several equally good candidates seems to be worth, by what it was chosen on."""
    figure = go.Figure()
    for style, (name, values) in enumerate(chosen.items()):
        figure.add_scatter(
            x=list(candidates),
            y=list(values),
            mode="lines+markers",
            name=name,
            line={"color": COLOURS[style], "dash": DASHES[style]},
            marker={"symbol": MARKERS[style], "size": 8},
        )
    figure.add_hline(true, line={"color": COLOURS[4], "dash": "dot"})
    figure.update_xaxes(title="candidates", type="log", tickvals=list(candidates))
    return figure.update_layout(
        title={"text": "The best of many equally good candidates", "y": 0.96},
        yaxis={"title": "accuracy reported, mean"},
        legend=ABOVE,
        height=380,
        margin={"t": 100},
    )


def few_labels(counts: Sequence[int], curves: Mapping[str, Tensor]) -> go.Figure:
    """Accuracy over the labels a class: (draws, len(counts)) for each name; mean, lowest and highest draw."""
    figure = go.Figure()
    for style, (name, draws) in enumerate(curves.items()):
        mean = draws.mean(dim=0)
        low, high = draws.amin(dim=0), draws.amax(dim=0)
        figure.add_scatter(
            x=list(counts),
            y=mean.tolist(),
            error_y={
                "type": "data",
                "symmetric": False,
                "array": (high - mean).tolist(),
                "arrayminus": (mean - low).tolist(),
                "thickness": 1.5,
            },
            mode="lines+markers",
            name=name,
            line={"color": COLOURS[style], "dash": DASHES[style]},
            marker={"symbol": MARKERS[style], "size": 8},
        )
    figure.update_xaxes(title="labelled images a class", type="log", tickvals=list(counts))
    return figure.update_layout(
        title={"text": "Few labels: means, and the lowest and highest draw", "y": 0.96},
        yaxis={"title": "accuracy, share of the test images"},
        legend=ABOVE,
        height=430,
        margin={"t": 100},
    )


def row_of(features: str, measure: str, accuracy: Interval) -> Row:
    """A row for `measured`."""
    return {
        "features": features,
        "measure": measure,
        "accuracy": accuracy.value,
        "low": accuracy.low,
        "high": accuracy.high,
    }
