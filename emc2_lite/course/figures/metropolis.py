"""Figures of chapter 04: a Metropolis-Hastings walk on a finite set, step by step and in the long run."""

from collections.abc import Mapping

import plotly.graph_objects as go
import torch
from torch import Tensor

from emc2_lite.course.figures.parts import Figure, Look, log, looks, pictures, spread
from emc2_lite.course.style import BLUE, GREEN, GREY, INK, VERMILION


def scored_candidates(images: Tensor, scores: Tensor, target: Tensor, anchor: Tensor) -> Figure:
    """The candidates (m, 8, 8) under the anchor's image (8, 8), their scores (m,) and the target p (m,)."""
    figure = Figure().set_subplots(rows=3, shared_xaxes=True, vertical_spacing=0.04, row_heights=[0.18, 0.41, 0.41])
    places = [-2.2, *range(len(images))]
    figure.add_traces([pictures(anchor[None, None], x=-2.2), pictures(images[None])])
    for row, values, name, colour, digits in ((2, scores, "score", BLUE, 1), (3, target, "p", GREEN, 2)):
        text = [f"{value:.{digits}f}" for value in values.tolist()]
        style = {"textposition": "outside", "cliponaxis": False, "textangle": 0, "textfont": {"size": 12}}
        figure.bars(places[1:], values, name, colour, row=row, col=1, text=text, **style)
    scale = scores.abs().max().item()
    lowest = -0.35 * scale if scores.min() < 0 else 0
    figure.update_yaxes(visible=False, autorange="reversed", row=1)
    figure.update_yaxes(title="score l, nats", range=[scores.min().clamp(max=0).item() + lowest, 1.3 * scale], row=2)
    figure.update_yaxes(title="probability p", range=[0, 1.25 * target.max().item()], row=3)
    figure.update_xaxes(showgrid=False, tickvals=places, ticktext=["anchor", *map(str, places[1:])], tickangle=0)
    figure.update_xaxes(title="candidate k", row=3)
    best, worst = int(target.argmax()), int(target.argmin())
    alt = (
        f"The picture of an anchor and of its {len(images)} candidates; below each candidate its score and its "
        f"share in the softmax. Candidate {best} has the largest share, {target[best]:.2f}, with a score of "
        f"{scores[best]:.2f} nats; candidate {worst} the smallest, {target[worst]:.4f}, with {scores[worst]:.2f}."
    )
    return figure.finish("An anchor and its candidates", height=530, margin={"b": 75}, showlegend=False, alt=alt)


def walk(scores: Tensor, proposals: Tensor, challenge: Tensor, path: Tensor, images: Tensor) -> Figure:
    """A walk step by step: scores (m,), proposals (steps,), l_j - log U_j (steps,), states held (steps,), images."""
    steps, accepted = torch.arange(1, len(path) + 1), path == proposals
    sizes = {"column_widths": [0.1, 0.9], "row_heights": [0.42, 0.58]}
    spacing = {"horizontal_spacing": 0.01, "vertical_spacing": 0.06}
    figure = Figure().set_subplots(2, 2, specs=[[None, {}], [{}, {}]], **sizes, **spacing)
    gaps = torch.full_like(challenge, torch.nan)  # between two stalks
    stalks = torch.stack((scores[proposals], challenge, gaps), dim=1).flatten()
    bonus = "bonus -log U on the score"
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
    figure.update_yaxes(title="candidate", dtick=1, row=2, col=1, **states)
    figure.update_yaxes(showticklabels=False, row=2, col=2, **states)
    figure.update_yaxes(title="score and bonus, nats", row=1, col=2)
    figure.update_xaxes(range=[0.2, len(path) + 0.8], dtick=5, showgrid=False, col=2)
    figure.update_xaxes(title="step of the walk", row=2, col=2)
    visits = torch.bincount(path, minlength=len(scores))
    alt = (
        f"{len(path)} steps of a walk. Above, each proposal's score with its random bonus as a stalk, and the score "
        f"held as a line: where a stalk's head lies above it the proposal is accepted, {accepted.sum()} times, and "
        f"else rejected, {(~accepted).sum()} times. Below, the candidate held: candidate {visits.argmax()} most "
        f"often, for {visits.max()} steps; the walk ends at candidate {path[-1]}, with a score of "
        f"{scores[path[-1]]:.2f} nats."
    )
    return figure.finish("Propose, compare, move or stay", height=660, alt=alt)


def stepped(chain: Mapping, level: int, steps: int) -> Figure:
    """The first run of `chain`, of `emc2_lite.course.stepper`, after some steps at one temperature: its histogram."""
    now = chain["levels"][level]
    target, held = torch.tensor(now["target"]), torch.tensor(now["held"][0][:steps])
    counts, states = torch.bincount(held, minlength=len(target)), range(len(target))
    figure = Figure().bars(states, target, "softmax, exact", GREY)
    figure.bars(states, counts / steps, f"share of {steps} steps", BLUE, "/")
    accepted = sum(now["accepted"][0][:steps])
    alt = (
        f"Two bars for each of {len(target)} candidates: its share in the softmax at temperature "
        f"{now['temperature']:g}, and its share of the first {steps} steps of a walk, of which {accepted} were "
        f"accepted. The total variation between the two is {now['distance'][0][steps - 1]:.2f}."
    )
    x = {"title": "candidate k", "dtick": 1, "showgrid": False}
    return figure.finish(f"After {steps} steps", x, "share of the steps", alt=alt)


def shares(target: Tensor, chains: Tensor) -> Figure:
    """Exact p (m,) beside the shares of time of several chains (chains, m): mean, and lowest to highest as a bar."""
    (mean, error), states = spread(chains), range(len(target))
    figure = Figure().bars(states, target, "softmax, exact", GREY)
    name = f"{len(chains)} walks: mean, lowest to highest"
    figure.bars(states, mean, name, BLUE, "/", error_y={**error, "color": INK})
    x = {"title": "candidate k", "dtick": 1, "showgrid": False}
    furthest = (chains - target).abs().max()
    alt = (
        f"Two bars for each of {len(target)} candidates: its share in the softmax, and its mean share of the kept "
        f"steps of {len(chains)} walks, with a line from the lowest to the highest walk. The means lie within "
        f"{(mean - target).abs().max():.3f} of the softmax, single walks within {furthest:.2f}."
    )
    return figure.finish("Where the walk spends its time", x, "share of the kept steps", height=450, alt=alt)


def distance_over_steps(steps: Tensor, distances: Tensor, independent: Tensor) -> Figure:
    """Total variation of the walks' shares to p, (chains, points), over steps (points,); same for independent draws."""
    low, middle, high = (distances.quantile(level, dim=0) for level in (0.05, 0.5, 0.95))
    figure = Figure().band(steps, low, high, f"5 to 95 % of {len(distances)} walks")
    figure.curve(steps, middle, "median walk", 0)
    figure.curve(steps, independent, "independent draws, on average", 1, size=0)
    x, y = log("steps of the walk", exponentformat="none"), log("total variation to p", exponentformat="none")
    alt = (
        f"Total variation between the shares of a walk and the softmax, over {steps[0]} to {steps[-1]:,} steps, "
        f"both axes logarithmic. The median walk falls from {middle[0]:.2f} to {middle[-1]:.4f}; the average of "
        f"independent draws from {independent[0]:.2f} to {independent[-1]:.4f}."
    )
    return figure.finish("Longer walks come closer to p", x, y, height=450, alt=alt)


def matrix_and_flow(matrix: Tensor, flow: Tensor) -> Figure:
    """The transition matrix P (m, m), and below it the flow p(k) P(k, j), which is symmetric; both in percent."""
    titles = "P(k, j), percent", "flow p(k) P(k, j), percent"
    figure = Figure().set_subplots(rows=2, subplot_titles=titles, vertical_spacing=0.16)
    for row, values in ((1, matrix), (2, flow)):
        heat = go.Heatmap(z=(100 * values).tolist(), texttemplate="%{z:.1f}", textfont={"size": 11}, showscale=False)
        figure.add_trace(heat, row, 1)
    figure.update_xaxes(title="to candidate j", dtick=1, showgrid=False)
    figure.update_yaxes(title="from candidate k", dtick=1, autorange="reversed", showgrid=False)
    stay = matrix.diagonal()
    low, high = int(stay.argmin()), int(stay.argmax())
    alt = (
        f"Two tables of {len(matrix)} by {len(matrix)} numbers. Above, the transition matrix: a walker stays at "
        f"candidate {low} with probability {stay[low]:.2f}, the least, and at candidate {high} with "
        f"{stay[high]:.2f}, the most. Below, the flow from k to j, mirrored in the diagonal: the largest "
        f"difference between the two directions is {(flow - flow.T).abs().max():.0e}."
    )
    return figure.finish("One step, exactly", height=770, margin={"t": 90, "b": 75}, alt=alt)


def settled_laws(target: Tensor, laws: Mapping[str, Tensor]) -> Figure:
    """The target p (m,) as bars, and by name the laws (m,) that walks settle in, as points."""
    states = range(len(target))
    figure = Figure().bars(states, target, "softmax p", GREY)
    size, offset = 11, 0.2
    for place, (name, look) in enumerate(looks(laws).items()):
        shift = offset * (place - (len(laws) - 1) / 2)
        figure.points([state + shift for state in states], laws[name], name, look, size=size)
    best = int(target.argmax())
    gaps = {name: 0.5 * (law - target).abs().sum().item() for name, law in laws.items()}
    said = "; ".join(f"{name} {laws[name][best]:.3f}, total variation to p {gap:.3f}" for name, gap in gaps.items())
    alt = (
        f"The softmax over {len(target)} candidates as bars, with {target[best]:.3f} at candidate {best}, the "
        f"largest, and for each distribution one point per candidate. Points there: {said}."
    )
    x = {"title": "candidate k", "dtick": 1, "showgrid": False}
    return figure.finish("The distribution that a walk settles in", x, "probability", height=450, alt=alt)
