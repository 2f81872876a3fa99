"""Figures of chapter 05: chains that live across batches."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from emc2_lite.course.figures.parts import Figure, Look, Row, from_zero, log, looks, ticked
from emc2_lite.course.style import BLUE, GREEN, GREY, PURPLE, VERMILION
from emc2_lite.laboratory import GradientBias, TrainingCurve

PATTERNS = ("/", "x", ".")  # of bars beside plain grey ones


def chain_over_visits(proposed: Tensor, held: Tensor, accepted: Tensor, steps_per_visit: int, burn_in: float) -> Figure:
    """One chain, step by step: (steps,) scores proposed, (steps,) scores held, (steps,) bool; burn-in is shaded."""
    step = torch.arange(1, len(proposed) + 1)
    figure = Figure()
    for name, chosen, look in ("rejected", ~accepted, Look(GREY, marker="x-thin")), ("accepted", accepted, Look(GREEN)):
        edge = {"color": look.colour, "width": 2}
        figure.points(step[chosen], proposed[chosen], f"{name} proposal", look, size=9, marker_line=edge)
    figure.curve(step, held, "score held", 0, size=0, line_shape="hv")
    burned = int(burn_in * steps_per_visit)
    for start in range(0, len(step), steps_per_visit):
        figure.add_vrect(x0=start + 0.5, x1=start + 0.5 + burned, fillcolor=GREY, opacity=0.15, line_width=0)
        figure.add_vline(x=start + 0.5, line={"color": GREY, "width": 1})
    visits, best = len(step) // steps_per_visit, int(held.argmax())
    alt = (
        f"Scores of one chain over {len(step)} steps, in {visits} visits of {steps_per_visit} proposals; the first "
        f"{burned} steps of a visit are shaded. The chain accepts {int(accepted.sum())} proposals and rejects "
        f"{int((~accepted).sum())}. The score held begins at {held[0]:.1f} nats, is highest from step {best + 1} on "
        f"with {held[best]:.1f}, and is {held[-1]:.1f} at the end."
    )
    x = {"title": "step of the chain", "showgrid": False}
    return figure.finish("One chain's visits (shaded: burn-in)", x, "score (nats)", alt=alt)


def after_a_move(
    softmax: Tensor, weights: Tensor, distance: float, visit: int, burn_in: float, highest: float
) -> Figure:
    """Today's softmax and mean kept weights of some negatives, (2n,): n that were hard before a move, n that are after.

    `distance` is the total variation over all negatives; the axis ends at `highest` for every visit.
    """
    n = len(softmax) // 2
    place = [*range(n), *range(n + 1, 2 * n + 1)]
    figure = Figure().bars(place, softmax, "today's softmax", GREY)
    figure.bars(place, weights, "mean kept weight", BLUE, PATTERNS[0])
    groups = ", ".join(
        f"those hard {when} have {softmax[part].sum():.2f} of the softmax and {weights[part].sum():.2f} of the weight"
        for when, part in (("before the move", slice(n)), ("after it", slice(n, None)))
    )
    alt = (
        f"Bars of {2 * n} negatives in visit {visit} with a burn-in of {burn_in:g}: {groups}. "
        f"Over all negatives the total variation is {distance:.2f}."
    )
    x = ticked(["hard before", "hard after"], title="negatives")
    x["tickvals"] = [(n - 1) / 2, (3 * n + 1) / 2]
    y = {"title": "share (dimensionless)", "range": [0, highest]}
    title = f"Visit {visit}, burn-in {burn_in:g}: total variation {distance:.2f}"
    return figure.finish(title, x, y, bargap=0.25, alt=alt)


def beside_the_softmax(target: Tensor, shares: Mapping[str, Tensor], title: str, y: str, shown: int = 12) -> Figure:
    """Shares of the `shown` most probable negatives: exact softmax (m,), and others (m,) by name."""
    top, rank = target.argsort(descending=True)[:shown], range(1, shown + 1)
    figure, said = Figure().bars(rank, target[top], "exact softmax", GREY), []
    for (name, look), pattern in zip(looks(shares).items(), PATTERNS, strict=False):
        figure.bars(rank, shares[name][top], name, look.colour, pattern)
        said.append(
            f"{name}: {shares[name][top[0]]:.2f} at the hardest, {shares[name][top].sum():.2f} in all {shown} together"
        )
    alt = (
        f"{title}. Bars of the {shown} most probable negatives. Exact softmax: {target[top[0]]:.2f} at the hardest, "
        f"{target[top].sum():.2f} in all {shown} together; {'; '.join(said)}."
    )
    x = {"title": "negative, by its softmax (rank)", "dtick": 1, "showgrid": False}
    return figure.finish(title, x, from_zero(y), bargap=0.25, alt=alt)


def bias_curves(results: Mapping[str, Sequence[GradientBias]], temperature: float) -> Figure:
    """Error of the mean gradient over the averaged steps: for each name thin curves of the tables, and their mean."""
    steps = {name: torch.stack([run.steps for run in runs]) for name, runs in results.items()}
    errors = {name: torch.stack([run.error for run in runs]) for name, runs in results.items()}
    x = log("steps averaged", next(iter(steps.values()))[0].tolist())
    title = f"Error of the mean gradient, T = {temperature:g}"
    alt = f"Relative error of the mean gradient over the steps averaged, logarithmic. {_ends(steps, errors, 'steps')}"
    return _thin_and_mean(steps, errors).finish(title, x, from_zero("relative error (dimensionless)"), alt=alt)


def price_curves(results: Mapping[str, Sequence[TrainingCurve]]) -> Figure:
    """Exact loss over encodings spent: for each name thin curves of the seeds, and their mean."""
    prices = {name: torch.stack([run.price for run in runs]) for name, runs in results.items()}
    losses = {name: torch.stack([run.loss for run in runs]) for name, runs in results.items()}
    title, x = "Training at equal price", from_zero("price so far (encodings)")
    alt = f"Exact global loss over the encodings spent. {_ends(prices, losses, 'encodings')}"
    return _thin_and_mean(prices, losses).finish(title, x, "exact global loss (nats)", alt=alt)


def _ends(x: Mapping[str, Tensor], y: Mapping[str, Tensor], unit: str) -> str:
    """What each bold curve begins and ends with, and from where to where the thin ones end."""
    return " ".join(
        f"{name}: {values[:, 0].mean():.2f} at {x[name][:, 0].double().mean():.0f} {unit}, {values[:, -1].mean():.2f} "
        f"(each {values[:, -1].min():.2f} to {values[:, -1].max():.2f}) at {x[name][:, -1].double().mean():.0f}."
        for name, values in y.items()
    )


def _thin_and_mean(x: Mapping[str, Tensor], y: Mapping[str, Tensor]) -> Figure:
    """For each name a thin curve of each row of x and y, (rows, points), and a bold one of the means over rows."""
    figure = Figure()
    faint = {"opacity": 0.5, "showlegend": False, "hoverinfo": "skip"}
    for name, look in looks(y).items():
        for row in zip(x[name], y[name], strict=True):
            figure.curve(*row, name, look, width=1, size=0, **faint)
        figure.curve(x[name].double().mean(dim=0), y[name].mean(dim=0), name, look, width=3, size=9)
    return figure


def coin_outcomes(held_weight: float, reencode: float, degrees: float) -> Figure:
    """The held view's term: its gradient in z_r, times the temperature, for both sides of the coin and in the mean.

    Today's embedding of the view points to the right, and the remembered one is `degrees` away.
    """
    turn = torch.tensor(math.radians(degrees))
    today, remembered = torch.tensor([1.0, 0.0]), torch.stack((turn.cos(), turn.sin()))
    chance, kept = reencode * held_weight, held_weight * remembered
    again = kept + (today - remembered) / reencode if reencode else kept
    mean, owed = chance * again + (1 - chance) * kept, held_weight * today
    arc = torch.linspace(-0.5, 0.7, 25)
    figure = Figure().curve(arc.cos(), arc.sin(), "length 1", Look(GREY, "dot"), size=0)
    along, across = torch.stack((kept, again)).T
    figure.curve(along, across, "", Look(GREEN, "dash"), size=0, showlegend=False, hoverinfo="skip")
    for name, vector, look, size in (
        ("embedding today", today, Look(BLUE), 11),
        ("remembered", remembered, Look(VERMILION, marker="square"), 11),
        (f"not encoded ({1 - chance:.0%})", kept, Look(GREEN, marker="diamond-open"), 11),
        (f"encoded again ({chance:.0%})", again, Look(GREEN, marker="diamond"), 11),
        ("what is owed", owed, Look(GREY, marker="circle-open"), 18),
        ("mean of the sides", mean, Look(PURPLE, marker="x"), 9),
    ):
        figure.points(vector[:1], vector[1:], name, look, size=size)
    alt = (
        f"Points in a plane. Owed: {_point(owed)}. Not encoded, probability {1 - chance:.2f}: {_point(kept)}. Encoded "
        f"again, probability {chance:.2f}: {_point(again)}. The mean of both sides, {_point(mean)}, is "
        f"{(mean - owed).norm():.2f} away from what is owed."
    )
    x = {"title": "along today's embedding", "range": [-0.5, 1.5], "showgrid": False}
    y = {"title": "across it (dimensionless)", "range": [-1.35, 0.75], "scaleanchor": "x"}
    title = f"Weight {held_weight:g}: {3 * chance:.2g} encodings on average"
    return figure.finish(title, x, y, height=560, alt=alt)


def _point(vector: Tensor) -> str:
    along, across = (f"{value:.2f}".replace("-0.00", "0.00") for value in vector.tolist())
    return f"({along}, {across})"


def stored_against_true(scores: Mapping[str, tuple[Tensor, Tensor]]) -> Figure:
    """Stored scores (chains,) over true scores (chains,) by name; they agree on the diagonal."""
    low = min(true.min().item() for _, true in scores.values())
    high = max(stored.max().item() for stored, _ in scores.values())
    figure, said = Figure().curve([low, high], [low, high], "stored = true", Look(GREY, "dash"), size=0), []
    for name, look in looks(scores).items():
        stored, true = scores[name]
        figure.points(true, stored, name, look.hollow())
        above = (stored - true > 3).double().mean().item()
        said.append(f"{name}: {above:.1%} of {len(true)} chains lie more than 3 nats above the diagonal")
    alt = f"Stored scores over true scores, a point a chain, from {low:.1f} to {high:.1f} nats. {'; '.join(said)}."
    x, y = "true score, final weights (nats)", "score as stored (nats)"
    return figure.finish("What the chains believe, and what is true", x, y, alt=alt)


def sampler_times(rows: Sequence[Row]) -> Figure:
    """Time of a visit over the batch size, from the rows of a benchmark record; both axes are logarithmic."""
    times: dict[str, dict[int, float]] = {}
    for row in rows:
        for name, milliseconds in ((row["contender"], row["ms"]), (row["reference"], row["reference_ms"])):
            times.setdefault(name, {})[int(row["size"].removeprefix("b="))] = milliseconds
    sizes = sorted(next(iter(times.values())))
    slowest_first = sorted(times, key=lambda name: -times[name][sizes[0]])
    figure = Figure().curves(sizes, {name: [times[name][b] for b in sizes] for name in slowest_first})
    said = "; ".join(
        f"{name}: {times[name][sizes[0]]:.3g} and {times[name][sizes[-1]]:.3g} ms" for name in slowest_first
    )
    alt = f"Times of a visit over the batch size, both logarithmic; at b = {sizes[0]} and {sizes[-1]}: {said}."
    x, y = log("batch size b (samples)", sizes), log("time (ms)")
    return figure.finish("A visit of all 2b chains of a batch", x, y, height=480, alt=alt)


def step_phases(profiles: Mapping[str, Mapping[str, float]]) -> Figure:
    """Seconds of the phases of a training step, stacked in a bar for each loss."""
    figure, said = Figure(), []
    colours, patterns = (GREY, BLUE, VERMILION, GREY, BLUE, GREEN, PURPLE), ("", "/", "x", "-", "\\", "|", "+")
    names = [name.replace(", ", "<br>") for name in profiles]
    for phase, colour, pattern in zip(next(iter(profiles.values())), colours, patterns, strict=True):
        times = [1000 * profile[phase] for profile in profiles.values()]
        figure.bars(times, names, phase, colour, pattern, orientation="h")
    for name, profile in profiles.items():
        longest = max(profile, key=profile.__getitem__)
        total = 1000 * sum(profile.values())
        said.append(f"{name}: {total:.1f} ms, of which {longest} takes {1000 * profile[longest]:.1f}")
    alt = f"Stacked bars of the phases of a training step. {'; '.join(said)}."
    y, stacked = (
        {"title": "method", "autorange": "reversed", "showgrid": False},
        {"barmode": "stack", "legend_traceorder": "normal"},
    )
    return figure.finish("Where the time of a training step goes", "time (ms)", y, alt=alt, **stacked)
