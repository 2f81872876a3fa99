"""Figures of chapter 04: a Metropolis-Hastings walk on a finite set, step by step and in the long run."""

import plotly.graph_objects as go
import torch
from torch import Tensor

from emc2_lite.course.figures.parts import BELOW, TOP_RIGHT, Figure, Look, log, pictures, spread
from emc2_lite.course.style import BLUE, GREEN, GREY, INK, VERMILION


def scored_candidates(images: Tensor, scores: Tensor, target: Tensor, anchor: Tensor) -> Figure:
    """The candidates (m, 8, 8) under the anchor's image (8, 8), their scores (m,) and the target p (m,)."""
    figure = Figure().set_subplots(rows=3, shared_xaxes=True, vertical_spacing=0.04, row_heights=[0.18, 0.41, 0.41])
    places = [-1.5, *range(len(images))]
    figure.add_traces([pictures(anchor[None, None], x=-1.5), pictures(images[None])])
    for row, values, name, colour in ((2, scores, "score", BLUE), (3, target, "p", GREEN)):
        text = {"text": [f"{value:.2f}" for value in values.tolist()], "textposition": "outside", "cliponaxis": False}
        figure.bars(places[1:], values, name, colour, row=row, col=1, **text)
    figure.update_yaxes(visible=False, autorange="reversed", row=1)
    figure.update_yaxes(title="score l", range=[1.35 * min(scores.min().item(), 0), 1.35 * scores.max().item()], row=2)
    figure.update_yaxes(title="probability p", range=[0, 1.25 * target.max().item()], row=3)
    figure.update_xaxes(showgrid=False, tickvals=places, ticktext=["anchor", *map(str, places[1:])])
    figure.update_xaxes(title="candidate k", row=3)
    return figure.finish("One anchor, its candidates, their scores and the softmax", height=520, showlegend=False)


def walk(scores: Tensor, proposals: Tensor, challenge: Tensor, path: Tensor, images: Tensor) -> Figure:
    """A walk step by step: scores (m,), proposals (steps,), l_j - log U_j (steps,), states held (steps,), images."""
    steps, accepted = torch.arange(1, len(path) + 1), path == proposals
    sizes = {"column_widths": [0.06, 0.94], "row_heights": [0.42, 0.58]}
    spacing = {"horizontal_spacing": 0.01, "vertical_spacing": 0.06}
    figure = Figure().set_subplots(2, 2, specs=[[None, {}], [{}, {}]], **sizes, **spacing)
    gaps = torch.full_like(challenge, torch.nan)  # between two stalks
    stalks = torch.stack((scores[proposals], challenge, gaps), dim=1).flatten()
    bonus = "bonus -log U on top of the proposal's score"
    figure.curve(steps.repeat_interleave(3), stalks, bonus, Look(GREY), width=1, size=0, row=1, col=2)
    for row, held, proposed in ((1, scores[path], challenge), (2, path, proposals)):
        place = {"showlegend": row == 1, "row": row, "col": 2}
        ends = torch.arange(1, len(path) + 2)
        figure.curve(ends, torch.cat((held, held[-1:])), "held", 0, size=0, line_shape="hv", **place)
        rejection = Look(VERMILION, marker="x")
        for name, chosen, look in (("accepted", accepted, Look(GREEN)), ("rejected", ~accepted, rejection)):
            label = f"proposal {name}"
            figure.points(steps[chosen], proposed[chosen], label, look, size=9, legendgroup=name, **place)
    figure.add_trace(pictures(images[:, None]), 2, 1)
    states = {"range": [len(images) - 0.4, -0.6], "showgrid": False, "zeroline": False}
    figure.update_xaxes(visible=False, row=2, col=1)
    figure.update_yaxes(title="state", dtick=1, row=2, col=1, **states)
    figure.update_yaxes(showticklabels=False, row=2, col=2, **states)
    figure.update_yaxes(title="score l, bonus added", row=1, col=2)
    figure.update_xaxes(range=[0.2, len(path) + 0.8], dtick=5, showgrid=False, col=2)
    figure.update_xaxes(title="step of the walk", row=2, col=2)
    return figure.finish("Propose, compare, move or stay", place=BELOW, height=660)


def shares(target: Tensor, chains: Tensor, steps: int) -> Figure:
    """Exact p (m,) beside the shares of time of several chains (chains, m): mean, and lowest to highest as a bar."""
    (mean, error), states = spread(chains), range(len(target))
    figure = Figure().bars(states, target, "softmax, exact", GREY)
    name = f"walk of {steps:,} steps: mean of {len(chains)} walks, lowest to highest"
    figure.bars(states, mean, name, BLUE, "/", error_y={**error, "color": INK})
    x = {"title": "state", "dtick": 1, "showgrid": False}
    return figure.finish("Where the walk spends its time", x, "share of the steps", BELOW, height=450)


def distance_over_steps(steps: Tensor, distances: Tensor, independent: Tensor) -> Figure:
    """Total variation of the walks' shares to p, (chains, points), over steps (points,); same for independent draws."""
    low, middle, high = (distances.quantile(level, dim=0) for level in (0.05, 0.5, 0.95))
    figure = Figure().band(steps, low, high, f"5 to 95 % of {len(distances)} walks")
    figure.curve(steps, middle, "median walk", 0)
    figure.curve(steps, independent, "independent draws, on average", 1, size=0)
    x, y = log("steps of the walk", exponentformat="none"), log("total variation to p")
    return figure.finish("The longer the walk, the closer its shares to p", x, y, TOP_RIGHT)


def matrix_and_flow(matrix: Tensor, flow: Tensor) -> Figure:
    """The transition matrix P (m, m), and beside it the flow p(z) P(z, z'), which is symmetric; both in percent."""
    titles = "P(z, z'), %", "flow p(z) P(z, z'), %"
    figure = Figure().set_subplots(cols=2, subplot_titles=titles, horizontal_spacing=0.12)
    for col, values in ((1, matrix), (2, flow)):
        heat = go.Heatmap(z=100 * values, texttemplate="%{z:.1f}", textfont={"size": 10}, showscale=False)
        figure.add_trace(heat, 1, col)
    figure.update_xaxes(title="to state z'", dtick=1, showgrid=False)
    figure.update_yaxes(title="from state z", dtick=1, autorange="reversed", showgrid=False)
    return figure.finish("One step, exactly; the flow is the same in both directions")
