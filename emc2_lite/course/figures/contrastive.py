"""Figures of chapter 01: scores, the forces of one row's loss, temperature, alignment and uniformity."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
import torch
from torch import Tensor

from emc2_lite.course.figures.parts import Figure, Look, from_zero, log, looks, pictures
from emc2_lite.course.style import BLUE, GREEN, GREY, INK, VERMILION

ARROW = 0.9  # length of a force of 1, in radii of the circle
HEAD = 0.12  # longest side of an arrowhead, in radii


def score_matrix(scores: Tensor, images: Tensor) -> Figure:
    """Scores (2b, 2b) of a batch, with each row's view (2b, 8, 8) along the axes; boxes mark the positives."""
    rows = len(scores)
    values = [[None if r == k else v for k, v in enumerate(line)] for r, line in enumerate(scores.tolist())]
    tip = "l(%{y}, %{x}) = %{z:.2f} nats<extra></extra>"
    bar = {"title": {"text": "score l (nats)", "side": "bottom"}, "orientation": "h", "thickness": 14}
    bar |= {"y": 0, "yref": "container", "yanchor": "bottom"}
    figure = Figure(go.Heatmap(z=values, xgap=2, ygap=2, colorbar=bar, hovertemplate=tip))
    positives = [(r + rows // 2) % rows for r in range(rows)]
    corners = [(-0.33, -0.33), (0.33, -0.33), (0.33, 0.33), (-0.33, 0.33), (-0.33, -0.33), (math.nan, math.nan)]
    boxes = [(k + right, r + down) for r, k in enumerate(positives) for right, down in corners]
    x, y = zip(*boxes, strict=True)
    figure.curve(x, y, "positive", Look(VERMILION), width=3, size=0, hoverinfo="skip")
    figure.add_traces([pictures(images[None], y=-1.1), pictures(images[:, None], x=-1.1)])
    axis = {"tickvals": list(range(rows)), "showgrid": False, "zeroline": False, "constrain": "domain"}
    figure.update_xaxes(title="column k", range=[-1.7, rows - 0.5], **axis)
    figure.update_yaxes(title="row r", range=[rows - 0.5, -1.7], scaleanchor="x", constraintoward="top", **axis)
    own = torch.eye(rows, dtype=torch.bool)
    boxed = own.roll(rows // 2, dims=1)
    alt = (
        f"A table of {rows} by {rows} scores in colours, with the pictures of the {rows} views along both sides and an "
        f"empty diagonal. Boxes mark the {rows} positives: their scores are {scores[boxed].min():.1f} to "
        f"{scores[boxed].max():.1f} nats, with a mean of {scores[boxed].mean():.1f}. The negatives have "
        f"{scores[~boxed & ~own].min():.1f} to {scores[~boxed & ~own].max():.1f} nats, with a mean of "
        f"{scores[~boxed & ~own].mean():.1f}."
    )
    title = f"Scores of a batch: b = {rows // 2}, {rows} rows; boxes: positives"
    return figure.finish(title, height=660, margin={"b": 130}, showlegend=False, alt=alt)


def circle_forces(points: Tensor, pull: Iterable, pushes: Iterable, temperature: float) -> Figure:
    """What the loss of one row does to points on a circle: anchor, positive and negatives, (2 + m, 2).

    `pull` (2,) and `pushes` (m, 2) are the terms of minus the temperature times the gradient in the anchor. The score
    is symmetric: the positive is pulled to the anchor, and each negative pushed away from it, with the same strength.
    An arrow has the part along the circle. It begins outside the circle, so that no marker hides it.
    """
    forces = torch.stack([torch.as_tensor(force, dtype=points.dtype).detach() for force in (pull, *pushes)])
    strengths = (forces * points[1:]).sum(dim=1)
    tangents = torch.stack((-points[:, 1], points[:, 0]), dim=1)
    along = strengths * (tangents[1:] @ points[0])
    along[1:] *= -1
    along = torch.cat((-along.sum()[None], along))
    starts = 1.12 * points
    starts[0] = 1.3 * points[0]
    ends = starts + ARROW * along[:, None] * tangents

    figure = Figure()
    groups = {
        "anchor": (slice(0, 1), Look(INK, marker="star"), 15),
        "positive": (slice(1, 2), Look(GREEN), 10),
        "negatives": (slice(2, None), Look(VERMILION, marker="square"), 10),
    }
    for name, (members, look, size) in groups.items():
        _arrows(figure, starts[members], ends[members], look.colour)
        tip = [f"{name}: {abs(force):.2f} along the circle" for force in along[members].tolist()]
        figure.points(points[members, 0], points[members, 1], name, look, size=size, text=tip, hoverinfo="text")
    (pulled, *pushed), (felt, towards, *away) = strengths.tolist(), along.abs().tolist()
    words = [f"pull {pulled:.0%}", *(f"{share:.0%}" if share >= 0.005 else "<1%" for share in pushed)]
    sides = ["middle right" if x < -0.3 else "middle left" if x > 0.3 else "middle center" for x in points[1:, 0]]
    inside: dict[str, Any] = {
        "mode": "text",
        "text": words,
        "textposition": sides,
        "textfont": {"size": 12},
        "hoverinfo": "skip",
    }
    figure.points(0.88 * points[1:, 0], 0.88 * points[1:, 1], "shares", 0, showlegend=False, **inside)
    x = {"range": [-1.5, 1.5], "visible": False}
    y = {"range": [-1.25, 1.4], "visible": False, "scaleanchor": "x"}
    degrees = (points[1:] @ points[0]).clamp(-1, 1).acos().rad2deg().tolist()
    told = [
        f"{angle:.0f} degrees away, {share:.0%} and {force:.2f}"
        for angle, share, force in zip(degrees[1:], pushed, away, strict=True)
        if share >= 0.005
    ]
    if len(told) < len(pushed):
        told.append(f"each of the other {len(pushed) - len(told)} has less than 0.5%")
    alt = (
        f"Points on a circle at temperature {temperature:g}: an anchor, its positive {degrees[0]:.0f} degrees away and "
        f"{len(pushed)} negatives. The positive is pulled with {pulled:.2f}, of which {towards:.2f} are along "
        f"the circle, towards the anchor. Each negative's share and its push along the circle: {'; '.join(told)}. "
        f"The anchor feels {felt:.2f}, the sum of the opposite arrows."
    )
    title = f"Temperature {temperature:g}: the anchor feels {felt:.2f}"
    circle = {"type": "circle", "x0": -1, "x1": 1, "y0": -1, "y1": 1, "line": {"color": GREY, "width": 1}}
    layout = {"height": 480, "shapes": [circle | {"layer": "below"}], "margin": {"l": 10, "r": 10, "t": 100, "b": 10}}
    return figure.finish(title, x, y, alt=alt, **layout)


def _arrows(figure: Figure, starts: Tensor, ends: Tensor, colour: str) -> None:
    """One trace of arrows from starts to ends, (n, 2) each; the head of a short arrow is smaller."""
    back = 0.4 * (starts - ends)
    back = back * (HEAD / back.norm(dim=1, keepdim=True).clamp(min=HEAD))
    sideways = 0.6 * torch.stack((-back[:, 1], back[:, 0]), dim=1)
    corners = torch.stack((starts, ends, ends + back + sideways, ends, ends + back - sideways), dim=2).tolist()
    x, y = ([value for arrow in corners for value in (*arrow[axis], None)] for axis in (0, 1))
    figure.curve(x, y, "force", Look(colour), width=2.5, size=0, showlegend=False, hoverinfo="skip")


def repulsion_shares(
    anchor: Tensor,
    images: Tensor,
    similarities: Tensor,
    same_digit: Tensor,
    temperature: float,
    count: float,
    shown: int = 9,
) -> Figure:
    """Shares of an anchor's (8, 8) push on m negatives: images (m, 8, 8), similarities (m,), same_digit (m,).

    `count` is the effective number of the negatives at this temperature.
    """
    shares = (similarities / temperature).softmax(0)
    order = similarities.argsort(descending=True)[:shown]
    top, same, places = shares[order], same_digit[order], torch.arange(2, shown + 2)
    m, rest = len(similarities), (1 - top.sum()).clamp(min=0)[None]
    figure = Figure()
    for x, y, name, colour, pattern in (
        (places[~same], top[~same], "another digit", BLUE, ""),
        (places[same], top[same], "the same digit", VERMILION, "/"),
        ([shown + 2.5], rest, "", GREY, "x"),
    ):
        text = [f"{100 * share:.0f}" if share >= 0.005 else "<1" for share in y.tolist()]
        words = {"textposition": "outside", "textangle": 0, "textfont": {"size": 12}, "cliponaxis": False}
        tip = {"hovertemplate": "%{y:.2%}<extra></extra>", "showlegend": bool(name), "width": 0.8}
        figure.bars(x, y, name, colour, pattern, text=text, **words, **tip)
    blank = torch.full_like(anchor, torch.nan)[None]
    figure.add_trace(pictures(torch.cat((anchor[None], blank, images[order]))[None]).update(yaxis="y2"))
    labels = ["anchor", *(f"{s:.2f}" for s in similarities[order].tolist()), f"{m - shown} more"]
    below: dict[str, Any] = {"title": "similarity to the anchor (cosine)", "range": [-0.6, shown + 3.3], "anchor": "y2"}
    below |= {"tickvals": [0, *places.tolist(), shown + 2.5], "ticktext": labels, "tickangle": -90}
    below |= {"tickfont": {"size": 12}, "showgrid": False, "zeroline": False}
    left: dict[str, Any] = {"title": "share of the push", "range": [0, 1.09], "tickformat": ".0%", "zeroline": False}
    left |= {"domain": [0.2, 1]}
    strip = {"visible": False, "range": [0.55, -0.55], "domain": [0, 0.17]}
    alt = (
        f"Bars for an anchor's {shown} most similar negatives, each with its picture, at temperature {temperature:g}: "
        f"their shares of the push fall from {top[0]:.1%} at similarity {similarities[order[0]]:.2f} to {top[-1]:.1%} "
        f"at {similarities[order[-1]]:.2f}. The other {m - shown} negatives have {rest[0]:.1%} together. "
        f"{same.sum()} of the {shown} show the anchor's own digit. The effective number is {count:.1f} of {m}."
    )
    title = f"Temperature {temperature:g}: as if {count:.1f} of {m} negatives pushed"
    return figure.finish(title, below, left, height=500, alt=alt, yaxis2=strip, barmode="overlay")


def effective_numbers(temperatures: Sequence[float], numbers: Tensor, m: int) -> Figure:
    """Effective numbers of the m negatives of several anchors: (anchors, temperatures), a thin line for each anchor."""
    anchors, median = len(numbers), numbers.median(dim=0).values
    gap = torch.full((anchors, 1), torch.nan)
    lines = torch.cat((numbers, gap), dim=1).flatten()
    figure = Figure()
    figure.curve(
        [*temperatures, math.nan] * anchors,
        lines,
        "one anchor",
        Look(GREY),
        width=1,
        size=0,
        opacity=0.5,
        hoverinfo="skip",
    )
    figure.curve(temperatures, median, f"median of {anchors} anchors", 0, width=3)
    figure.level(temperatures, m, f"all {m}, equally", 1)
    x = log("temperature (no unit)", [tick for tick in (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2) if tick in temperatures])
    y = log("effective number (negatives)", [1, 2, 5, 10, 20, 50, 100])
    alt = (
        f"Effective number of negatives of {anchors} anchors over the temperature, both axes logarithmic. The median "
        f"rises from {median[0]:.1f} at temperature {temperatures[0]:g} to {median[-1]:.1f} of {m} at "
        f"{temperatures[-1]:g}. The anchors spread from {numbers[:, 0].min():.1f} to {numbers[:, 0].max():.1f} at the "
        f"lowest temperature, and from {numbers[:, -1].min():.1f} to {numbers[:, -1].max():.1f} at the highest."
    )
    return figure.finish("The temperature decides how many negatives push", x, y, alt=alt)


def alignment_and_uniformity(runs: Mapping[str, Sequence[tuple[float, float]]], best: float) -> Figure:
    """(alignment, uniformity) of each run, in the look of its name; `best`: uniformity of uniform points."""
    figure, means = Figure(), []
    for name, look in looks(runs).items():
        alignment, uniformity = zip(*runs[name], strict=True)
        figure.points(uniformity, alignment, name, look, size=12)
        middle = sum(alignment) / len(alignment), sum(uniformity) / len(uniformity)
        means.append(f"{name}: alignment {middle[0]:.3f}, uniformity {middle[1]:.2f}")
    highest = max(alignment for pairs in runs.values() for alignment, _ in pairs)
    figure.curve([best, best], [0, 1.08 * highest], "uniform points", Look(INK, "dash"), size=0)
    x = {"title": "uniformity (nats; left: more even)", "range": [best - 0.15, 0.25]}
    y = from_zero("alignment (squared distance)")
    alt = (
        f"Alignment over uniformity on test images, a point for each seed. Means of the seeds: {'; '.join(means)}. "
        f"A dashed line marks the uniformity of points spread evenly over the sphere, {best:.2f}."
    )
    return figure.finish("Test images: how close the positives, how even the sphere", x, y, height=450, alt=alt)


def hardest_in_batch(sizes: Sequence[int], hardest: Tensor, overall: float) -> Figure:
    """Similarity of an anchor's hardest negative: in-batch (batches, len(sizes)), and `overall` in the dataset."""
    low, middle, high = (hardest.quantile(level, dim=0) for level in (0.05, 0.5, 0.95))
    figure = Figure().band(sizes, low, high, f"90% of {len(hardest)} batches", hoverinfo="skip")
    figure.curve(sizes, middle, "median batch", 0, width=3)
    figure.level(sizes, overall, "hardest in the dataset", 1)
    x = log("batch size b (images)", sizes)
    alt = (
        f"Similarity of the hardest negative of one anchor over the batch size. In the median of {len(hardest)} random "
        f"batches it rises from {middle[0]:.2f} at b = {sizes[0]} to {middle[-1]:.2f} at b = {sizes[-1]}; the middle "
        f"90% of the batches span {low[0]:.2f} to {high[0]:.2f} at the smallest size and {low[-1]:.2f} to "
        f"{high[-1]:.2f} at the largest. A level marks the hardest in the dataset, {overall:.2f}."
    )
    return figure.finish("The hardest negative that one anchor sees", x, "similarity (cosine)", alt=alt)


def training_losses(runs: Mapping[str, Sequence[float]], guess: float) -> Figure:
    """The loss of each step of each run, by its name, and the loss of a blind guess."""
    figure, ends = Figure(), []
    steps = range(1, max(map(len, runs.values())) + 1)
    for name, look in looks(runs).items():
        losses = list(map(float, runs[name]))
        figure.curve(steps, losses, name, look, width=1.5, size=0)
        ends.append(f"{name} from {losses[0]:.2f} to {losses[-1]:.2f}")
    figure.curve([1, len(steps)], [guess, guess], "a blind guess", Look(INK, "longdash"), size=0)
    alt = (
        f"NT-Xent of the batch over {len(steps)} training steps, a line for each run: {', '.join(ends)} nats. A level "
        f"marks the loss of a blind guess, {guess:.2f} nats."
    )
    return figure.finish("A linear encoder learns from pairs of views", "step", "NT-Xent (nats)", alt=alt)
