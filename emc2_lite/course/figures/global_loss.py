"""Figures of chapter 02: the global contrastive loss, its memory, and what a small batch gets wrong about it."""

import math
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch import Tensor

from emc2_lite.course.style import BLUE, COLOURS, DASHES, GREEN, GREY, MARKERS, PAPER, PURPLE, VERMILION

BELOW = {"orientation": "h", "y": -0.2, "yanchor": "top", "x": 0}


def hardest(images: Tensor, shares: Tensor, labels: Sequence[int], negatives: int) -> go.Figure:
    """The anchor (first of the images (k + 1, 8, 8) and of the labels) and its k hardest negatives with p_r (k,)."""
    figure = make_subplots(rows=2, shared_xaxes=True, vertical_spacing=0.03, row_heights=[0.25, 0.75])
    places = [-0.4, *range(1, len(shares) + 1)]
    for image, place in zip(images, places, strict=True):
        x = [place + (i - 3.5) / 9 for i in range(8)]
        figure.add_trace(
            go.Heatmap(z=image.flip(0).tolist(), x=x, colorscale=PAPER, zmin=0, zmax=1, showscale=False), 1, 1
        )
    figure.add_bar(
        x=places[1:],
        y=(100 * shares).tolist(),
        text=[f"{100 * share:.0f}" for share in shares.tolist()],
        textposition="outside",
        marker_color=BLUE,
        row=2,
        col=1,
    )
    ticks = [f"anchor<br>a {labels[0]}", *(f"{k}<br>a {label}" for k, label in enumerate(labels[1:], start=1))]
    figure.update_xaxes(showgrid=False, zeroline=False)
    figure.update_xaxes(title="the hardest negatives, in order", tickvals=places, ticktext=ticks, row=2)
    figure.update_xaxes(ticks="", visible=False, row=1)
    figure.update_yaxes(visible=False, row=1)
    figure.update_yaxes(title="share p of the push, %", range=[0, 118 * shares.max().item()], row=2)
    title = f"{len(shares)} of {negatives} negatives do {100 * shares.sum():.0f} % of the pushing"
    return figure.update_layout(title=title, showlegend=False, height=440)


def memory(samples: Sequence[int], megabytes: Mapping[str, Sequence[float]]) -> go.Figure:
    """Memory in MB over the number of samples, one curve for each way of computing the loss."""
    figure = go.Figure()
    for i, (name, values) in enumerate(megabytes.items()):
        _curve(figure, list(samples), list(values), name, i)
    axis = {"type": "log", "dtick": 1, "tickformat": ",~r"}
    return figure.update_layout(
        title="Scores held at once: a square against a strip",
        xaxis={"title": "samples N, with two views each", **axis},
        yaxis={"title": "memory, MB", **axis},
        legend={"x": 0.02, "y": 0.98},
    )


def jensen(ratios: Tensor) -> go.Figure:
    """Each draw's mean of exp l, as a ratio (draws,) to the exact one, on the curve of the logarithm."""
    mean, mean_log = ratios.mean().item(), ratios.log().mean().item()
    low, high = 0.9 * ratios.min().item(), 1.05 * ratios.max().item()
    curve = [low * (high / low) ** (i / 200) for i in range(201)]
    figure = go.Figure()
    logs = [math.log(x) for x in curve]
    figure.add_scatter(x=curve, y=logs, mode="lines", name="logarithm", line={"color": GREY, "width": 1.5})
    figure.add_scatter(
        x=ratios.tolist(),
        y=ratios.log().tolist(),
        mode="markers",
        marker={"symbol": "circle-open", "size": 7, "color": BLUE},
        name=f"{len(ratios)} batches",
    )
    figure.add_scatter(
        x=[mean, mean], y=[mean_log, math.log(mean)], mode="lines", line={"color": VERMILION, "width": 3}, name="gap"
    )
    for y, name, symbol, colour in (
        (math.log(mean), "log of the mean", "square", GREEN),
        (mean_log, "mean of the logs", "diamond", VERMILION),
    ):
        marker = {"symbol": symbol, "size": 13, "color": colour}
        figure.add_scatter(x=[mean], y=[y], mode="markers", marker=marker, name=name)
    return figure.update_layout(
        title=f"The mean of the logs lies {math.log(mean) - mean_log:.2f} nats below the log of the mean",
        xaxis={"title": "a batch's mean of exp l, exact mean = 1"},
        yaxis={"title": "its logarithm, nats"},
        legend={"x": 0.98, "y": 0.04, "xanchor": "right", "yanchor": "bottom"},
    )


def normaliser_errors(batch_sizes: Sequence[int], errors: Mapping[float, Sequence[Tensor]]) -> go.Figure:
    """Batch estimate minus exact log-normaliser, nats: for each temperature one sample of errors per batch size."""
    titles = [f"temperature {temperature:g}" for temperature in errors]
    figure = make_subplots(cols=len(errors), shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.03)
    x = list(batch_sizes)
    quantiles = torch.tensor([0.05, 0.95], dtype=torch.float64)
    for col, samples in enumerate(errors.values(), start=1):
        low, high = zip(*(sample.double().quantile(quantiles).tolist() for sample in samples), strict=True)
        place = {"row": 1, "col": col}
        edge = {"x": x, "mode": "lines", "line": {"width": 0}, **place}
        figure.add_scatter(y=list(high), showlegend=False, hoverinfo="skip", **edge)
        band = {"fill": "tonexty", "fillcolor": "rgba(0, 114, 178, 0.3)", "name": "5 to 95 % of the rows"}
        figure.add_scatter(y=list(low), showlegend=col == 1, **band, **edge)
        means = [sample.mean().item() for sample in samples]
        _curve(figure, x, means, "mean", 0, showlegend=col == 1, **place)
        _curve(figure, x, [0.0] * len(x), "exact", 1, marker=False, showlegend=col == 1, **place)
    figure.update_xaxes(type="log", tickvals=x, tickangle=0, tickfont={"size": 11}, showgrid=False)
    figure.update_xaxes(title="batch size b", row=1)
    figure.update_yaxes(title="estimate minus exact, nats", col=1)
    return figure.update_layout(
        title="A batch's log-normaliser is too low", legend={**BELOW, "y": -0.42}, margin={"b": 135, "t": 80}
    )


def seen_by_a_batch(
    exact: Tensor, expected: Tensor, errors: Tensor, chance: float, batch_size: int, temperature: float
) -> go.Figure:
    """One anchor: exact shares (k,) of its hardest negatives beside their expected shares (k,) in a batch, and the
    errors (draws,) of the batch's log-normaliser, nats; `chance` is that of a negative to be in the batch."""
    figure = make_subplots(cols=2, column_widths=[0.6, 0.4], horizontal_spacing=0.14)
    rank = list(range(1, len(exact) + 1))
    figure.add_bar(x=rank, y=(100 * exact).tolist(), name="exact p", marker_color=GREY, row=1, col=1)
    figure.add_scatter(
        x=rank,
        y=(100 * expected).tolist(),
        mode="lines+markers",
        line={"color": BLUE, "width": 2},
        marker={"symbol": MARKERS[0], "size": 7},
        name="expected in a batch",
        row=1,
        col=1,
    )
    figure.add_scatter(
        x=[0.4, len(rank) + 0.6],
        y=[100 * chance] * 2,
        mode="lines",
        line={"color": VERMILION, "dash": DASHES[1]},
        name="chance to be in the batch",
        row=1,
        col=1,
    )
    low, high = -1.4 / temperature, min(5.0, 0.7 / temperature)
    counts = torch.histc(errors.float().clamp(low, high), 45, low, high)
    centres = [low + (high - low) * (i + 0.5) / 45 for i in range(45)]
    shares, mean = 100 * counts / len(errors), errors.mean().item()
    top = 1.1 * shares.max().item()
    figure.add_bar(x=centres, y=shares.tolist(), marker_color=BLUE, opacity=0.5, name="batches", row=1, col=2)
    for x, name, dash, colour in ((0.0, "exact", 0, GREEN), (mean, "mean of the batches", 2, PURPLE)):
        line = {"color": colour, "dash": DASHES[dash], "width": 3}
        figure.add_scatter(x=[x, x], y=[0, top], mode="lines", line=line, name=name, row=1, col=2)
    figure.update_xaxes(title="hardest negatives, in order", showgrid=False, range=[0.3, len(rank) + 0.7], col=1)
    figure.update_yaxes(title="share of the push, %", range=[0, 115 * exact.max().item()], col=1)
    figure.update_xaxes(title="log-normaliser minus exact, nats", range=[low, high], zeroline=False, col=2)
    figure.update_yaxes(title="batches, %", range=[0, top], col=2)
    text = f"b = {batch_size}, temperature {temperature:g}: log-normaliser off by {mean:+.2f} nats on average"
    return figure.update_layout(
        title={"text": text, "y": 0.97, "yanchor": "top"},
        legend={"orientation": "h", "y": 1.03, "yanchor": "bottom", "x": 0},
        margin={"t": 120},
        height=470,
        bargap=0.15,
    )


def gradient_errors(
    batch_sizes: Sequence[int],
    errors: Mapping[float, Mapping[str, Tensor]],
    cosines: Mapping[float, Mapping[str, Tensor]],
    positive_part: Mapping[float, float],
) -> go.Figure:
    """Mean in-batch gradients against exact ones: by temperature and estimator, (encoders, batch sizes) of relative
    errors and of cosines; `positive_part` is the relative distance of the two exact gradients from each other."""
    titles = [f"temperature {temperature:g}" for temperature in errors]
    figure = make_subplots(
        rows=2, cols=len(errors), shared_xaxes=True, shared_yaxes=True, subplot_titles=titles, vertical_spacing=0.05
    )
    x = list(batch_sizes)
    for row, by_temperature in ((1, errors), (2, cosines)):
        for col, curves in enumerate(by_temperature.values(), start=1):
            for i, (name, values) in enumerate(curves.items()):
                mean = values.mean(dim=0)
                reach = {
                    "type": "data",
                    "symmetric": False,
                    "array": (values.amax(dim=0) - mean).tolist(),
                    "arrayminus": (mean - values.amin(dim=0)).tolist(),
                    "thickness": 1.5,
                }
                _curve(figure, x, mean.tolist(), name, i, error_y=reach, showlegend=row == col == 1, row=row, col=col)
    for col, part in enumerate(positive_part.values(), start=1):
        name = "distance of the two limits"
        line = {"color": GREY, "dash": DASHES[2], "width": 2}
        figure.add_scatter(
            x=[x[0], x[-1]], y=[part] * 2, mode="lines", line=line, name=name, showlegend=col == 1, row=1, col=col
        )
    figure.update_xaxes(type="log", tickvals=x, tickangle=0, showgrid=False)
    figure.update_xaxes(title="batch size b", row=2)
    figure.update_yaxes(title="relative error", rangemode="tozero", col=1, row=1)
    figure.update_yaxes(title="cosine", range=[0, 1.05], row=2)
    figure.update_yaxes(title=None, col=2, row=2)
    return figure.update_layout(
        title="The mean in-batch gradient: how far off (top), which way (bottom)",
        legend={**BELOW, "y": -0.17},
        margin={"b": 150, "t": 90},
        height=650,
    )


def averaging(steps: Sequence[int], errors: Mapping[str, Tensor], noises: Mapping[str, Tensor]) -> go.Figure:
    """Relative error of a mean over steps, by estimator (seeds, checkpoints), and the part that is sampling noise."""
    figure = go.Figure()
    for i, (name, values) in enumerate(errors.items()):
        mean = values.mean(dim=0)
        reach = (values - mean).abs().amax(dim=0).tolist()
        _curve(figure, list(steps), mean.tolist(), name, i, error_y={"type": "data", "array": reach, "thickness": 1.5})
    for i, (name, values) in enumerate(noises.items()):
        figure.add_scatter(
            x=list(steps),
            y=values.mean(dim=0).tolist(),
            mode="lines+markers",
            line={"color": COLOURS[i], "dash": DASHES[3], "width": 1},
            marker={"symbol": f"{MARKERS[i]}-open", "size": 12},
            name=f"{name}: noise alone",
        )
    return figure.update_layout(
        title="Averaging removes the noise and leaves the bias",
        xaxis={"title": "steps averaged", "type": "log", "tickvals": list(steps), "showgrid": False},
        yaxis={
            "title": "relative error of the mean gradient",
            "type": "log",
            "tickvals": [0.02, 0.05, 0.1, 0.2, 0.5, 1],
        },
        legend={**BELOW, "y": -0.22},
        margin={"b": 150},
        height=510,
    )


def _curve(figure: go.Figure, x: list, y: list, name: str, style: int, *, marker: bool = True, **options) -> None:
    """One curve in the colour, dash and marker number `style`."""
    figure.add_scatter(
        x=x,
        y=y,
        mode="lines+markers" if marker else "lines",
        line={"color": COLOURS[style], "dash": DASHES[style], "width": 2},
        marker={"symbol": MARKERS[style], "size": 8},
        name=name,
        **options,
    )
