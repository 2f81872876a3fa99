"""Figures of chapter 04: a Metropolis-Hastings walk on a finite set, step by step and in the long run."""

import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch import Tensor

from emc2_lite.course.figures.mixing import BELOW, band, line
from emc2_lite.course.style import BLUE, GREEN, GREY, INK, PAPER, VERMILION


def scored_candidates(images: Tensor, scores: Tensor, target: Tensor, anchor: Tensor) -> go.Figure:
    """The candidates (m, 8, 8) under the anchor's image (8, 8), their scores (m,) and the target p (m,)."""
    figure = make_subplots(rows=3, shared_xaxes=True, vertical_spacing=0.04, row_heights=[0.18, 0.41, 0.41])
    pictures, places = torch.cat((anchor[None], images)), [-1.5, *range(len(images))]
    for picture, place in zip(pictures, places, strict=True):
        figure.add_trace(_picture(picture, [place + (i - 3.5) / 9 for i in range(8)], list(range(8))), 1, 1)
    for row, values, colour in ((2, scores, BLUE), (3, target, GREEN)):
        figure.add_bar(
            x=places[1:],
            y=values.tolist(),
            text=[f"{value:.2f}" for value in values.tolist()],
            textposition="outside",
            cliponaxis=False,
            marker_color=colour,
            row=row,
            col=1,
        )
    low, high = scores.min().item(), scores.max().item()
    figure.update_yaxes(visible=False, autorange="reversed", row=1)
    figure.update_yaxes(title="score l", range=[1.35 * min(low, 0), 1.35 * high], row=2)
    figure.update_yaxes(title="probability p", range=[0, 1.25 * target.max().item()], row=3)
    figure.update_xaxes(showgrid=False, tickvals=places, ticktext=["anchor", *map(str, places[1:])])
    figure.update_xaxes(title="candidate k", row=3)
    return figure.update_layout(
        title="One anchor, its candidates, their scores and the softmax", height=520, showlegend=False
    )


def walk(scores: Tensor, proposals: Tensor, challenge: Tensor, path: Tensor, images: Tensor) -> go.Figure:
    """A walk step by step: scores (m,), proposals (steps,), l_j - log U_j (steps,), states held (steps,), images."""
    steps = list(range(1, len(path) + 1))
    accepted = path == proposals
    figure = make_subplots(
        rows=2,
        cols=2,
        specs=[[None, {}], [{}, {}]],
        column_widths=[0.06, 0.94],
        horizontal_spacing=0.01,
        vertical_spacing=0.06,
        row_heights=[0.42, 0.58],
    )
    rope = [y for j, c in zip(scores[proposals].tolist(), challenge.tolist(), strict=True) for y in (j, c, None)]
    figure.add_scatter(
        x=[x for step in steps for x in (step, step, None)],
        y=rope,
        mode="lines",
        line={"color": GREY, "width": 1},
        name="bonus -log U on top of the proposal's score",
        row=1,
        col=2,
    )
    for row, values in ((1, scores[path]), (2, path)):
        figure.add_scatter(
            x=[*steps, len(steps) + 1],
            y=[*values.tolist(), values[-1].item()],
            mode="lines",
            line={"shape": "hv", "color": BLUE, "width": 2},
            name="held",
            showlegend=row == 1,
            row=row,
            col=2,
        )
    for row, values in ((1, challenge), (2, proposals)):
        for name, chosen, marker, colour in (
            ("accepted", accepted, "circle", GREEN),
            ("rejected", ~accepted, "x", VERMILION),
        ):
            figure.add_scatter(
                x=[step for step, keep in zip(steps, chosen.tolist(), strict=True) if keep],
                y=values[chosen].tolist(),
                mode="markers",
                marker={"symbol": marker, "color": colour, "size": 9},
                name=f"proposal {name}",
                legendgroup=name,
                showlegend=row == 1,
                row=row,
                col=2,
            )
    for k, image in enumerate(images):
        figure.add_trace(_picture(image, list(range(8)), [k + (i - 3.5) / 9 for i in range(8)]), 2, 1)
    states = {"range": [len(images) - 0.4, -0.6], "showgrid": False}
    figure.update_xaxes(visible=False, row=2, col=1)
    figure.update_yaxes(title="state", dtick=1, zeroline=False, row=2, col=1, **states)
    figure.update_yaxes(showticklabels=False, zeroline=False, row=2, col=2, **states)
    figure.update_yaxes(title="score l, bonus added", row=1, col=2)
    figure.update_xaxes(range=[0.2, len(path) + 0.8], dtick=5, showgrid=False, col=2)
    figure.update_xaxes(title="step of the walk", row=2, col=2)
    return figure.update_layout(
        title="Propose, compare, move or stay", height=660, legend={**BELOW, "y": -0.15}, margin={"b": 130}
    )


def shares(target: Tensor, chains: Tensor, steps: int) -> go.Figure:
    """Exact p (m,) beside the shares of time of several chains (chains, m): mean, and lowest to highest as a bar."""
    mean = chains.mean(dim=0)
    reach = {
        "type": "data",
        "symmetric": False,
        "array": (chains.amax(dim=0) - mean).tolist(),
        "arrayminus": (mean - chains.amin(dim=0)).tolist(),
        "color": INK,
    }
    figure = go.Figure()
    figure.add_bar(y=target.tolist(), name="softmax, exact", marker_color=GREY)
    figure.add_bar(
        y=mean.tolist(),
        error_y=reach,
        name=f"walk of {steps:,} steps: mean of {len(chains)} walks, lowest to highest",
        marker={"color": BLUE, "pattern": {"shape": "/", "solidity": 0.3}},
    )
    return figure.update_layout(
        title="Where the walk spends its time",
        xaxis={"title": "state", "dtick": 1, "showgrid": False},
        yaxis={"title": "share of the steps"},
        legend=BELOW,
        margin={"b": 110},
        height=450,
    )


def distance_over_steps(steps: Tensor, distances: Tensor, independent: Tensor) -> go.Figure:
    """Total variation of the walks' shares to p, (chains, points), over steps (points,); same for independent draws."""
    low, middle, high = distances.quantile(torch.tensor([0.05, 0.5, 0.95], dtype=distances.dtype), dim=0).tolist()
    x = steps.tolist()
    figure = go.Figure()
    band(figure, x, low, high, f"5 to 95 % of {len(distances)} walks", 0.25)
    line(figure, x, middle, "median walk", 0, BLUE, marker=True)
    line(figure, x, independent.tolist(), "independent draws, on average", 1, VERMILION)
    return figure.update_layout(
        title="The longer the walk, the closer its shares to p",
        xaxis={"title": "steps of the walk", "type": "log", "dtick": 1, "exponentformat": "none"},
        yaxis={"title": "total variation to p", "type": "log", "dtick": 1},
        legend={"x": 0.98, "y": 0.98, "xanchor": "right"},
    )


def matrix_and_flow(matrix: Tensor, flow: Tensor) -> go.Figure:
    """The transition matrix P (m, m), and beside it the flow p(z) P(z, z'), which is symmetric; both in percent."""
    figure = make_subplots(cols=2, subplot_titles=("P(z, z'), %", "flow p(z) P(z, z'), %"), horizontal_spacing=0.12)
    for col, values in ((1, matrix), (2, flow)):
        heat = go.Heatmap(z=100 * values, texttemplate="%{z:.1f}", textfont={"size": 10}, showscale=False)
        figure.add_trace(heat, 1, col)
    figure.update_xaxes(title="to state z'", dtick=1, showgrid=False)
    figure.update_yaxes(title="from state z", dtick=1, autorange="reversed", showgrid=False)
    return figure.update_layout(title="One step, exactly; the flow is the same in both directions")


def _picture(image: Tensor, x: list[float], y: list[float]) -> go.Heatmap:
    return go.Heatmap(z=image.tolist(), x=x, y=y, colorscale=PAPER, zmin=0, zmax=1, showscale=False, hoverinfo="skip")
