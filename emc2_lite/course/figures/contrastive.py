"""Figures of chapter 01: scores, the forces of one row's loss, temperature, alignment and uniformity."""

import math
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch import Tensor

from emc2_lite.course.figures.embeddings import pictures
from emc2_lite.course.style import BLUE, DASHES, GREEN, GREY, INK, MARKERS, PURPLE, VERMILION


def score_matrix(scores: Tensor, images: Tensor) -> go.Figure:
    """Scores (2b, 2b) of a batch, with each row's view (2b, 8, 8) along the axes; boxes mark the positives."""
    rows = len(scores)
    values = [[None if r == k else v for k, v in enumerate(line)] for r, line in enumerate(scores.tolist())]
    figure = go.Figure(
        go.Heatmap(
            z=values,
            xgap=2,
            ygap=2,
            colorbar={"title": "score l"},
            hovertemplate="l(%{y}, %{x}) = %{z:.2f}<extra></extra>",
        )
    )
    figure.add_scatter(
        x=[(r + rows // 2) % rows for r in range(rows)],
        y=list(range(rows)),
        mode="markers",
        marker={"symbol": "square-open", "size": 24, "color": VERMILION, "line": {"width": 3}},
        hoverinfo="skip",
    )
    for sheet, offset in ((images[None], "y0"), (images[:, None], "x0")):
        strip = pictures(sheet)
        place = "y" if offset == "y0" else "x"
        strip[place] = [value - 1.1 for value in strip[place]]
        figure.add_trace(strip)
    axis = {"range": [-1.7, rows - 0.5], "tickvals": list(range(rows)), "showgrid": False, "zeroline": False}
    figure.update_xaxes(title="column k", constrain="domain", **axis)
    figure.update_yaxes(title="row r", scaleanchor="x", constrain="domain", **{**axis, "range": axis["range"][::-1]})
    return figure.update_layout(
        title=f"Scores of a batch: b = {rows // 2}, {rows} rows; boxes: positives", height=620, showlegend=False
    )


def circle_forces(degrees: Sequence[float], temperatures: Sequence[float]) -> go.Figure:
    """What the loss of one row does to points on a circle, a panel a temperature.

    Args:
        degrees: angles of the anchor, of its positive and of its negatives.

    At each point an arrow along the circle: its coefficient in the gradient (1 - q(pos), or q(k)) times the sine of the
    angle to the anchor. The anchor's arrow is the sum of the opposite arrows.
    """
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    towards = (angles[0] - angles).sin()
    figure = make_subplots(cols=len(temperatures), subplot_titles=[f"temperature {t:g}" for t in temperatures])
    around = torch.linspace(0, 2 * math.pi, 181)
    for column, temperature in enumerate(temperatures, start=1):
        q = ((angles[1:] - angles[0]).cos() / temperature).softmax(0)
        coefficient = torch.cat((torch.zeros(1), 1 - q[:1], -q[1:]))
        force = coefficient * towards
        force[0] = -force.sum()
        circle = {"x": around.cos().tolist(), "y": around.sin().tolist()}
        figure.add_scatter(
            **circle, mode="lines", line={"color": GREY, "width": 1}, showlegend=False, row=1, col=column
        )
        for name, members, symbol, colour in (
            ("anchor", slice(0, 1), "star", INK),
            ("positive", slice(1, 2), "circle", GREEN),
            ("negatives, with their share q", slice(2, None), "square", VERMILION),
        ):
            x, y = angles[members].cos().tolist(), angles[members].sin().tolist()
            shares = [f"{share:.0%}" for share in q[1:].tolist()] if members.stop is None else [""]
            style = {"symbol": symbol, "color": colour, "size": 15 if symbol == "star" else 9}
            figure.add_scatter(
                x=x, y=y, name=name, mode="markers", marker=style, showlegend=column == 1, row=1, col=column
            )
            for i, (px, py) in enumerate(zip(x, y, strict=True)):
                pull = force[members][i].item()
                arrow = {"ax": px, "ay": py, "x": px - py * pull, "y": py + px * pull, "arrowcolor": colour}
                if abs(pull) > 0.02:
                    figure.add_annotation(
                        **arrow, axref=f"x{column}", ayref=f"y{column}", arrowwidth=2, arrowhead=2, row=1, col=column
                    )
                figure.add_annotation(x=0.8 * px, y=0.8 * py, text=shares[i], showarrow=False, row=1, col=column)
        figure.update_yaxes(scaleanchor=f"x{column}", row=1, col=column)
    figure.update_xaxes(range=[-1.6, 1.6], visible=False)
    figure.update_yaxes(range=[-1.3, 1.3], visible=False)
    return figure.update_layout(
        title="The pull on the positive, the pushes on the negatives, and what the anchor feels",
        height=440,
        margin={"l": 10, "r": 10, "t": 90, "b": 60},
        legend={"orientation": "h", "x": 0.5, "xanchor": "center", "y": -0.02},
    )


def repulsion_shares(
    anchor: Tensor, images: Tensor, similarities: Tensor, same_digit: Tensor, temperature: float, shown: int = 11
) -> go.Figure:
    """How an anchor (8, 8) shares its push among m negatives: images (m, 8, 8), similarities (m,), same_digit (m,)."""
    shares = (similarities / temperature).softmax(0)
    order = similarities.argsort(descending=True)[:shown]
    rest = len(similarities) - shown
    places = list(range(2, shown + 2))
    figure = make_subplots(rows=2, shared_xaxes=True, vertical_spacing=0.02, row_heights=[0.82, 0.18])
    bars = [
        ("another digit", ~same_digit[order], BLUE, ""),
        ("the anchor's own digit", same_digit[order], VERMILION, "/"),
    ]
    for name, chosen, colour, pattern in bars:
        x = [place for place, keep in zip(places, chosen.tolist(), strict=True) if keep]
        _add_shares(figure, x, shares[order][chosen].tolist(), name, colour, pattern)
    others = (1 - shares[order].sum()).clamp(min=0).item()
    _add_shares(figure, [shown + 2.5], [others], f"the other {rest} together", GREY, "x")
    blank = torch.full_like(anchor, torch.nan)[None]
    figure.add_trace(pictures(torch.cat((anchor[None], blank, images[order]))[None]), row=2, col=1)
    labels = ["anchor", *(f"{s:.2f}" for s in similarities[order].tolist()), f"{rest} more"]
    figure.update_xaxes(range=[-0.6, shown + 3.3], showgrid=False, zeroline=False)
    figure.update_xaxes(
        title="similarity to the anchor", tickvals=[0, *places, shown + 2.5], ticktext=labels, tickangle=0, row=2
    )
    figure.update_xaxes(tickfont={"size": 12}, row=2)
    figure.update_yaxes(title="share of the push", range=[0, 1.09], tickformat=".0%", zeroline=False, row=1)
    figure.update_yaxes(visible=False, range=[0.55, -0.55], row=2)
    count = effective_number(similarities, temperature).item()
    return figure.update_layout(
        title=f"Temperature {temperature:g}: as if {count:.1f} of {len(similarities)} negatives pushed",
        height=480,
        bargap=0.2,
        barmode="overlay",
        legend={"x": 0.5, "y": 1.0, "xanchor": "center", "yanchor": "top", "orientation": "h"},
    )


def _add_shares(figure: go.Figure, x: list, shares: list[float], name: str, colour: str, pattern: str) -> None:
    figure.add_bar(
        x=x,
        y=shares,
        name=name,
        text=[f"{share:.0%}" if share >= 0.005 else "<1%" for share in shares],
        textposition="outside",
        textangle=0,
        cliponaxis=False,
        marker={"color": colour, "pattern": {"shape": pattern, "solidity": 0.3}},
        hovertemplate="%{y:.2%}<extra></extra>",
        row=1,
        col=1,
    )


def effective_number(similarities: Tensor, temperature: float) -> Tensor:
    """exp of the entropy of the softmax of similarities / temperature along the last dimension, from 1 to its size."""
    log_shares = (similarities / temperature).log_softmax(-1)
    return (-(log_shares.exp() * log_shares).sum(-1)).exp()


def effective_numbers(similarities: Tensor, temperatures: Sequence[float]) -> go.Figure:
    """The effective number of negatives over the temperature, a line an anchor: similarities (anchors, m)."""
    curves = torch.stack([effective_number(similarities, t) for t in temperatures], dim=1)
    x = list(temperatures)
    figure = go.Figure()
    for i, curve in enumerate(curves.tolist()):
        thin = {"color": GREY, "width": 1}
        figure.add_scatter(x=x, y=curve, name="one anchor", mode="lines", line=thin, opacity=0.5, showlegend=i == 0)
    median = {"color": BLUE, "width": 3}
    figure.add_scatter(
        x=x,
        y=curves.median(0).values.tolist(),
        name=f"median of {len(curves)} anchors",
        mode="lines+markers",
        line=median,
    )
    m = similarities.shape[1]
    every = {"color": VERMILION, "width": 2, "dash": DASHES[1]}
    figure.add_scatter(x=[x[0], x[-1]], y=[m, m], name=f"all {m}, equally", mode="lines", line=every)
    return figure.update_layout(
        title="The temperature decides how many negatives push",
        xaxis={"title": "temperature (dimensionless)", "type": "log", "tickvals": x, "ticktext": [f"{t:g}" for t in x]},
        yaxis={"title": "effective number of negatives", "type": "log", "tickvals": [1, 2, 5, 10, 20, 50, 100]},
        legend={"x": 0.97, "y": 0.05, "xanchor": "right", "yanchor": "bottom"},
    )


def alignment_and_uniformity(runs: Mapping[str, Sequence[tuple[float, float]]], best: float) -> go.Figure:
    """(alignment, uniformity) of each run, a marker and a colour a name; `best`: uniformity of uniform points."""
    figure = go.Figure()
    styles = zip((GREY, BLUE, GREEN, VERMILION, PURPLE), MARKERS, strict=False)
    for (name, pairs), (colour, marker) in zip(runs.items(), styles, strict=False):
        alignment, uniformity = zip(*pairs, strict=True)
        dots = {"color": colour, "symbol": marker, "size": 12}
        figure.add_scatter(x=list(uniformity), y=list(alignment), name=name, mode="markers", marker=dots)
    figure.add_vline(x=best, line={"color": INK, "dash": "dash", "width": 2})
    figure.add_annotation(
        x=best, y=0.04, yref="paper", text="uniform points on the sphere", showarrow=False, xanchor="left", xshift=6
    )
    return figure.update_layout(
        title="Test images: close positives, or an evenly filled sphere",
        xaxis={"title": "uniformity (nats; further left is more even)", "range": [best - 0.15, 0.25]},
        yaxis={"title": "alignment (mean squared distance)", "rangemode": "tozero"},
        legend={"x": 0.97, "y": 0.9, "xanchor": "right", "yanchor": "top"},
    )


def hardest_in_batch(sizes: Sequence[int], hardest: Tensor, overall: float) -> go.Figure:
    """Similarity of the hardest in-batch negative of one anchor: (batches, len(sizes)); `overall`: in the dataset."""
    low, middle, high = torch.quantile(hardest, torch.tensor([0.05, 0.5, 0.95], dtype=hardest.dtype), dim=0).tolist()
    x = list(sizes)
    figure = go.Figure()
    figure.add_scatter(x=x, y=high, mode="lines", line={"width": 0}, showlegend=False, hoverinfo="skip")
    band = {"fill": "tonexty", "fillcolor": "rgba(0, 114, 178, 0.25)", "line": {"width": 0}, "mode": "lines"}
    figure.add_scatter(x=x, y=low, name=f"90% of {len(hardest)} random batches", hoverinfo="skip", **band)
    figure.add_scatter(x=x, y=middle, name="median batch", mode="lines+markers", line={"color": BLUE, "width": 3})
    all_of_it = {"color": VERMILION, "dash": DASHES[1], "width": 2}
    figure.add_scatter(
        x=[x[0], x[-1]], y=[overall, overall], name="hardest in the dataset", mode="lines", line=all_of_it
    )
    return figure.update_layout(
        title="The hardest negative that one anchor gets to see",
        xaxis={"title": "batch size b (images)", "type": "log", "tickvals": x, "ticktext": [str(b) for b in x]},
        yaxis={"title": "similarity (cosine)"},
        legend={"x": 0.97, "y": 0.05, "xanchor": "right", "yanchor": "bottom"},
    )
