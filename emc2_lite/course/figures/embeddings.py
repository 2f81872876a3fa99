"""Figures of chapter 00: images, maps of their embeddings, and what a few labels are worth."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch import Tensor
from torch.nn import functional as F

from emc2_lite.course.style import BLUE, DASHES, GREY, INK, MARKERS, PAPER, VERMILION

STYLES = {"pixels": (GREY, 2), "untrained": (VERMILION, 1), "trained": (BLUE, 0)}


def pictures(images: Tensor) -> go.Heatmap:
    """One trace with (rows, columns, 8, 8) images: the one in row i and column j is centred on x = j, y = i."""
    rows, columns, height, width = images.shape
    framed = F.pad(images, (0, 1, 0, 1), value=torch.nan)  # one empty line between two images
    sheet = framed.transpose(1, 2).reshape(rows * (height + 1), columns * (width + 1))
    return go.Heatmap(
        z=[[None if value != value else round(value, 3) for value in line] for line in sheet.tolist()],
        x=[j + (i - (width - 1) / 2) / (width + 1) for j in range(columns) for i in range(width + 1)],
        y=[j + (i - (height - 1) / 2) / (height + 1) for j in range(rows) for i in range(height + 1)],
        colorscale=PAPER,
        zmin=0,
        zmax=1,
        showscale=False,
        hoverinfo="skip",
    )


def picture_sheet(images: Tensor, title: str, columns: Sequence[str] = (), rows: Sequence[str] = ()) -> go.Figure:
    """A sheet of (rows, columns, 8, 8) images, with a word over each column and beside each row where given."""
    height, width = images.shape[:2]
    figure = go.Figure(pictures(images))
    figure.update_xaxes(
        tickvals=list(range(len(columns))), ticktext=list(columns), side="top", range=[-0.5, width - 0.5]
    )
    figure.update_yaxes(tickvals=list(range(len(rows))), ticktext=list(rows), range=[height - 0.5, -0.5])
    figure.update_xaxes(showgrid=False, zeroline=False, showticklabels=bool(columns))
    figure.update_yaxes(showgrid=False, zeroline=False, showticklabels=bool(rows), scaleanchor="x", constrain="domain")
    left, top = 90 if rows else 20, 85 if columns else 55
    return figure.update_layout(
        title=title,
        height=int(top + 10 + height * (700 - left) / width),
        margin={"l": left, "r": 20, "t": top, "b": 10},
    )


def digit_map(before: Tensor, after: Tensor, labels: Tensor) -> go.Figure:
    """Two maps of the same images, (N, 2) each, side by side; each image is drawn as the digit that it shows, (N,)."""
    figure = make_subplots(cols=2, horizontal_spacing=0.04, subplot_titles=("before training", "after training"))
    for column, places in enumerate((before, after), start=1):
        x, y = places.T.tolist()
        figure.add_scatter(
            x=x,
            y=y,
            mode="text",
            text=[str(label) for label in labels.tolist()],
            textfont={"color": INK, "size": 13},
            hoverinfo="text",
            row=1,
            col=column,
        )
    hidden = {"showticklabels": False, "zeroline": False, "showgrid": False, "showline": True, "mirror": True}
    figure.update_xaxes(title="map coordinate 1 (no unit)", **hidden)
    figure.update_yaxes(**hidden)
    figure.update_yaxes(title="map coordinate 2 (no unit)", col=1)
    return figure.update_layout(
        title="Test images, mapped by their embeddings", height=460, showlegend=False, margin={"t": 85}
    )


def few_label_accuracies(results: Mapping[str, Tensor]) -> go.Figure:
    """Accuracies (draws,) of each kind of features: a dot a draw of the labels, a bar at their mean.

    The first word of a name ("pixels", "untrained", "trained") chooses the colour and the marker.
    """
    figure = go.Figure()
    for row, (name, accuracies) in enumerate(results.items()):
        colour, marker = STYLES[name.split()[0].strip(",")]
        heights = [row + 0.5 * ((0.618034 * i) % 1 - 0.5) for i in range(len(accuracies))]
        figure.add_scatter(
            x=accuracies.tolist(),
            y=heights,
            mode="markers",
            marker={"color": colour, "symbol": MARKERS[marker], "size": 6, "opacity": 0.6},
            hovertemplate="%{x:.3f}<extra></extra>",
        )
        mean = accuracies.mean().item()
        figure.add_scatter(
            x=[mean, mean],
            y=[row - 0.38, row + 0.38],
            mode="lines",
            line={"color": colour, "width": 4},
            hovertemplate="mean %{x:.3f}<extra></extra>",
        )
    names = list(results)
    return figure.update_layout(
        title="One labelled image a class: a dot for each draw of the ten, a bar at the mean",
        xaxis={"title": "1-NN accuracy on the test images (share)", "range": [0, 1]},
        yaxis={
            "tickvals": list(range(len(names))),
            "ticktext": names,
            "range": [len(names) - 0.5, -0.5],
            "showgrid": False,
            "zeroline": False,
        },
        showlegend=False,
    )


def label_curves(shots: Sequence[int], curves: Mapping[str, Tensor]) -> go.Figure:
    """Mean accuracy over the number of labelled images a class: (seeds, len(shots)) a name, one line a seed."""
    figure = go.Figure()
    for name, accuracies in curves.items():
        colour, style = STYLES[name.split()[0].strip(",")]
        for seed, values in enumerate(accuracies.tolist()):
            figure.add_scatter(
                x=list(shots),
                y=values,
                name=name,
                legendgroup=name,
                showlegend=seed == 0,
                mode="lines+markers",
                line={"color": colour, "dash": DASHES[style], "width": 2},
                marker={"symbol": MARKERS[style], "size": 7},
            )
    return figure.update_layout(
        title="The fewer the labels, the more the embeddings have to do",
        xaxis={
            "title": "labelled images a class",
            "type": "log",
            "tickvals": list(shots),
            "ticktext": [str(s) for s in shots],
        },
        yaxis={"title": "1-NN accuracy on the test images (share)", "range": [0.4, 1.01]},
        legend={"x": 0.97, "y": 0.05, "xanchor": "right", "yanchor": "bottom"},
    )
