"""Figures of chapter 01: scores, the forces of one row's loss, temperature, alignment and uniformity."""

import math
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
import torch
from torch import Tensor

from emc2_lite.course.figures.parts import BOTTOM_RIGHT, TOP_RIGHT, Figure, Look, from_zero, log, looks, pictures
from emc2_lite.course.style import BLUE, GREEN, GREY, INK, VERMILION


def score_matrix(scores: Tensor, images: Tensor) -> Figure:
    """Scores (2b, 2b) of a batch, with each row's view (2b, 8, 8) along the axes; boxes mark the positives."""
    rows = len(scores)
    values = [[None if r == k else v for k, v in enumerate(line)] for r, line in enumerate(scores.tolist())]
    tip = "l(%{y}, %{x}) = %{z:.2f}<extra></extra>"
    figure = Figure(go.Heatmap(z=values, xgap=2, ygap=2, colorbar={"title": "score l"}, hovertemplate=tip))
    positives = [(r + rows // 2) % rows for r in range(rows)]
    box = {"marker_line_width": 3, "hoverinfo": "skip"}
    figure.points(positives, range(rows), "positive", Look(VERMILION, marker="square-open"), size=24, **box)
    figure.add_traces([pictures(images[None], y=-1.1), pictures(images[:, None], x=-1.1)])
    axis = {"tickvals": list(range(rows)), "showgrid": False, "zeroline": False, "constrain": "domain"}
    figure.update_xaxes(title="column k", range=[-1.7, rows - 0.5], **axis)
    figure.update_yaxes(title="row r", range=[rows - 0.5, -1.7], scaleanchor="x", **axis)
    title = f"Scores of a batch: b = {rows // 2}, {rows} rows; boxes: positives"
    return figure.finish(title, height=620, showlegend=False)


def circle_forces(degrees: Sequence[float], temperatures: Sequence[float]) -> Figure:
    """What the loss of one row does to points on a circle (anchor, positive, negatives), a panel for each temperature.

    At each point an arrow along the circle: its coefficient in the gradient (1 - q(pos), or q(k)) times the sine of the
    angle to the anchor. The anchor's arrow is the sum of the opposite arrows.
    """
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    x, y, around = angles.cos(), angles.sin(), torch.linspace(0, 2 * math.pi, 181)
    groups = [("anchor", slice(0, 1), Look(INK, marker="star"), 15), ("positive", slice(1, 2), Look(GREEN), 9)]
    groups.append(("negatives, with their share q", slice(2, None), Look(VERMILION, marker="square"), 9))
    colours = [INK, GREEN] + [VERMILION] * (len(degrees) - 2)
    figure = Figure().set_subplots(cols=len(temperatures), subplot_titles=[f"temperature {t:g}" for t in temperatures])
    for column, temperature in enumerate(temperatures, start=1):
        place = {"row": 1, "col": column}
        q = ((angles[1:] - angles[0]).cos() / temperature).softmax(0)
        force = torch.cat((torch.zeros(1), 1 - q[:1], -q[1:])) * (angles[0] - angles).sin()
        force[0] = -force.sum()
        figure.curve(around.cos(), around.sin(), "", Look(GREY), width=1, size=0, showlegend=False, **place)
        for name, members, look, size in groups:
            figure.points(x[members], y[members], name, look, size=size, showlegend=column == 1, **place)
        shares = ["", "", *(f"{share:.0%}" for share in q[1:].tolist())]
        for i, (px, py, pull) in enumerate(torch.stack((x, y, force), dim=1).tolist()):
            if abs(pull) > 0.02:
                arrow = {"ax": px, "ay": py, "x": px - py * pull, "y": py + px * pull, "arrowcolor": colours[i]}
                arrow |= {"axref": f"x{column}", "ayref": f"y{column}", "arrowwidth": 2, "arrowhead": 2}
                figure.add_annotation(**arrow, **place)
            figure.add_annotation(x=0.8 * px, y=0.8 * py, text=shares[i], showarrow=False, **place)
        figure.update_yaxes(scaleanchor=f"x{column}", **place)
    figure.update_xaxes(range=[-1.6, 1.6], visible=False)
    figure.update_yaxes(range=[-1.3, 1.3], visible=False)
    legend = {"orientation": "h", "x": 0.5, "xanchor": "center", "y": -0.02}
    title = "The pull on the positive, the pushes on the negatives, and what the anchor feels"
    return figure.finish(title, legend=legend, height=440, margin={"l": 10, "r": 10, "t": 90, "b": 60})


def repulsion_shares(
    anchor: Tensor, images: Tensor, similarities: Tensor, same_digit: Tensor, temperature: float, shown: int = 11
) -> Figure:
    """Shares of an anchor's (8, 8) push on m negatives: images (m, 8, 8), similarities (m,), same_digit (m,)."""
    shares = (similarities / temperature).softmax(0)
    order = similarities.argsort(descending=True)[:shown]
    top, same, places = shares[order], same_digit[order], torch.arange(2, shown + 2)
    rest, others = len(similarities) - shown, (1 - top.sum()).clamp(min=0)[None]
    figure = Figure().set_subplots(rows=2, shared_xaxes=True, vertical_spacing=0.02, row_heights=[0.82, 0.18])
    for x, y, name, colour, pattern in (
        (places[~same], top[~same], "another digit", BLUE, ""),
        (places[same], top[same], "the anchor's own digit", VERMILION, "/"),
        ([shown + 2.5], others, f"the other {rest} together", GREY, "x"),
    ):
        text = [f"{share:.0%}" if share >= 0.005 else "<1%" for share in y.tolist()]
        tip = {"hovertemplate": "%{y:.2%}<extra></extra>", "textposition": "outside", "textangle": 0}
        figure.bars(x, y, name, colour, pattern, text=text, cliponaxis=False, row=1, col=1, **tip)
    blank = torch.full_like(anchor, torch.nan)[None]
    figure.add_trace(pictures(torch.cat((anchor[None], blank, images[order]))[None]), row=2, col=1)
    labels = ["anchor", *(f"{s:.2f}" for s in similarities[order].tolist()), f"{rest} more"]
    figure.update_xaxes(range=[-0.6, shown + 3.3], showgrid=False, zeroline=False)
    figure.update_xaxes(title="similarity to the anchor", tickvals=[0, *places.tolist(), shown + 2.5], row=2)
    figure.update_xaxes(ticktext=labels, tickangle=0, tickfont={"size": 12}, row=2)
    figure.update_yaxes(title="share of the push", range=[0, 1.09], tickformat=".0%", zeroline=False, row=1)
    figure.update_yaxes(visible=False, range=[0.55, -0.55], row=2)
    count = effective_number(similarities, temperature).item()
    legend = {"x": 0.5, "y": 1.0, "xanchor": "center", "yanchor": "top", "orientation": "h"}
    title = f"Temperature {temperature:g}: as if {count:.1f} of {len(similarities)} negatives pushed"
    return figure.finish(title, legend=legend, height=480, bargap=0.2, barmode="overlay")


def effective_number(similarities: Tensor, temperature: float) -> Tensor:
    """exp of the entropy of the softmax of similarities / temperature along the last dimension, from 1 to its size."""
    log_shares = (similarities / temperature).log_softmax(-1)
    return (-(log_shares.exp() * log_shares).sum(-1)).exp()


def effective_numbers(similarities: Tensor, temperatures: Sequence[float]) -> Figure:
    """Effective number of negatives over the temperature, a line for each anchor: similarities (anchors, m)."""
    numbers = torch.stack([effective_number(similarities, t) for t in temperatures], dim=1)
    m = similarities.shape[1]
    figure = Figure()
    for i, anchor in enumerate(numbers):
        figure.curve(temperatures, anchor, "one anchor", Look(GREY), width=1, size=0, showlegend=i == 0, opacity=0.5)
    figure.curve(temperatures, numbers.median(0).values, f"median of {len(numbers)} anchors", 0, width=3)
    figure.level(temperatures, m, f"all {m}, equally", 1)
    x = log("temperature (dimensionless)", temperatures)
    y = log("effective number of negatives", [1, 2, 5, 10, 20, 50, 100])
    return figure.finish("The temperature decides how many negatives push", x, y, BOTTOM_RIGHT)


def alignment_and_uniformity(runs: Mapping[str, Sequence[tuple[float, float]]], best: float) -> Figure:
    """(alignment, uniformity) of each run, in the look of its name; `best`: uniformity of uniform points."""
    figure = Figure()
    for name, look in looks(runs).items():
        alignment, uniformity = zip(*runs[name], strict=True)
        figure.points(uniformity, alignment, name, look, size=12)
    text, line = {"text": "uniform points on the sphere", "xshift": 6}, {"color": INK, "dash": "dash", "width": 2}
    figure.add_vline(x=best, line=line, annotation=text, annotation_position="bottom right")
    x = {"title": "uniformity (nats; further left is more even)", "range": [best - 0.15, 0.25]}
    y = from_zero("alignment (mean squared distance)")
    return figure.finish("Test images: close positives, or an evenly filled sphere", x, y, TOP_RIGHT)


def hardest_in_batch(sizes: Sequence[int], hardest: Tensor, overall: float) -> Figure:
    """Similarity of an anchor's hardest negative: in-batch (batches, len(sizes)), and `overall` in the dataset."""
    low, middle, high = (hardest.quantile(level, dim=0) for level in (0.05, 0.5, 0.95))
    figure = Figure().band(sizes, low, high, f"90% of {len(hardest)} random batches", hoverinfo="skip")
    figure.curve(sizes, middle, "median batch", 0, width=3)
    figure.level(sizes, overall, "hardest in the dataset", 1)
    x = log("batch size b (images)", sizes)
    return figure.finish("The hardest negative that one anchor gets to see", x, "similarity (cosine)", BOTTOM_RIGHT)
