"""Figures of chapter 05: chains that live across batches."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from emc2_lite.course.figures.parts import ABOVE, BELOW, BOTTOM_RIGHT, Figure, Look, Row, from_zero, log, looks
from emc2_lite.course.style import BLUE, GREEN, GREY, PURPLE, VERMILION
from emc2_lite.laboratory import GradientBias, TrainingCurve


def chain_over_visits(proposed: Tensor, held: Tensor, accepted: Tensor, steps_per_visit: int, burn_in: float) -> Figure:
    """One chain, step by step: (steps,) scores proposed, (steps,) scores held, (steps,) bool; burn-in is shaded."""
    step = torch.arange(1, len(proposed) + 1)
    figure = Figure()
    for name, chosen, look in ("rejected", ~accepted, Look(GREY, marker="x-thin")), ("accepted", accepted, Look(GREEN)):
        edge = {"color": look.colour, "width": 2}
        figure.points(step[chosen], proposed[chosen], f"{name} proposal", look, size=9, marker_line=edge)
    figure.curve(step, held, "score held", 0, size=0, line_shape="hv")
    for start in range(0, len(step), steps_per_visit):
        end = start + 0.5 + int(burn_in * steps_per_visit)
        figure.add_vrect(x0=start + 0.5, x1=end, fillcolor=GREY, opacity=0.15, line_width=0)
        figure.add_vline(x=start + 0.5, line={"color": GREY, "width": 1})
    x = {"title": "step of the chain", "showgrid": False}
    title = "One chain across its visits (shaded: steps dropped as burn-in)"
    return figure.finish(title, x, "score l (dimensionless)", BELOW)


def followed_law(target: Tensor, carried: Tensor, restarted: Tensor, temperature: float, shown: int = 12) -> Figure:
    """Shares of the `shown` most probable negatives: exact softmax (m,), the carried chain's, the restarted one's."""
    top, rank = target.argsort(descending=True)[:shown], range(1, shown + 1)
    figure = Figure().bars(rank, target[top], "exact softmax", GREY)
    figure.bars(rank, carried[top], "carried from batch to batch", BLUE, "/")
    figure.bars(rank, restarted[top], "started anew in each", VERMILION, "x")
    x = {"title": "negative, by its exact probability (rank)", "dtick": 1, "showgrid": False}
    y = from_zero("share of visit ends (dimensionless)")
    return figure.finish(f"Where a visit ends, temperature {temperature:g}", x, y, ABOVE, bargap=0.25)


def bias_curves(results: Mapping[str, Sequence[GradientBias]], temperature: float) -> Figure:
    """Error of the mean gradient over the averaged steps: for each name thin curves of the tables, and their mean."""
    steps = {name: torch.stack([run.steps for run in runs]) for name, runs in results.items()}
    errors = {name: torch.stack([run.error for run in runs]) for name, runs in results.items()}
    x = log("steps averaged", next(iter(steps.values()))[0].tolist())
    title = f"How far the mean gradient is from the exact one, temperature {temperature:g}"
    return _thin_and_mean(steps, errors).finish(title, x, from_zero("relative error (dimensionless)"), BELOW)


def price_curves(results: Mapping[str, Sequence[TrainingCurve]]) -> Figure:
    """Exact loss over encodings spent: for each name thin curves of the seeds, and their mean."""
    prices = {name: torch.stack([run.price for run in runs]) for name, runs in results.items()}
    losses = {name: torch.stack([run.loss for run in runs]) for name, runs in results.items()}
    title, x = "Training at equal price", from_zero("price so far (encodings)")
    return _thin_and_mean(prices, losses).finish(title, x, "exact global loss (nats)", BELOW)


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
    """The carried-over term's gradient in z_r, times the temperature, for both sides of the coin and in the mean.

    Today's embedding of the view points to the right, and the remembered one is `degrees` away.
    """
    turn = torch.tensor(math.radians(degrees))
    today, remembered = torch.tensor([1.0, 0.0]), torch.stack((turn.cos(), turn.sin()))
    chance, kept = reencode * held_weight, held_weight * remembered
    again = kept + (today - remembered) / reencode if reencode else kept
    mean = chance * again + (1 - chance) * kept
    arc = torch.linspace(-0.5, 0.7, 50)
    figure = Figure().curve(arc.cos(), arc.sin(), "length 1", Look(GREY, "dot"), size=0)
    label = [f"not encoded: {1 - chance:.0%}", f"encoded: {chance:.0%}" if chance else ""]
    sides = {"mode": "lines+markers+text", "line": {"color": GREEN, "dash": "dash"}, "text": label}
    for name, vectors, look, size, options in (
        ("embedding today", [today], Look(BLUE), 11, {}),
        ("remembered", [remembered], Look(VERMILION, marker="square"), 11, {}),
        ("the coin's two sides", [kept, again], Look(GREEN, marker="diamond"), 11, sides),
        ("what is owed", [held_weight * today], Look(GREY, marker="circle-open"), 18, {}),
        ("mean of the sides", [mean], Look(PURPLE, marker="x"), 9, {}),
    ):
        along, across = torch.stack(vectors).T
        figure.points(along, across, name, look, size=size, textposition="middle left", **options)
    title = f"A carried-over view of weight {held_weight:g} costs {3 * chance:.2g} encodings on average"
    x = {"title": "along today's embedding (dimensionless)", "range": [-0.5, 1.5], "showgrid": False}
    y = {"title": "across it (dimensionless)", "range": [-1.35, 0.75], "scaleanchor": "x"}
    return figure.finish(title, x, y, ABOVE, height=560)


def stored_against_true(scores: Mapping[str, tuple[Tensor, Tensor]]) -> Figure:
    """Stored scores (chains,) over true scores (chains,) by name; they agree on the diagonal."""
    low = min(true.min().item() for _, true in scores.values())
    high = max(stored.max().item() for stored, _ in scores.values())
    figure = Figure().curve([low, high], [low, high], "stored = true", Look(GREY, "dash"), size=0)
    for name, look in looks(scores).items():
        stored, true = scores[name]
        figure.points(true, stored, name, look.hollow())
    x, y = "score of the held pair under today's weights (dimensionless)", "score as stored (dimensionless)"
    return figure.finish("What the chains believe, and what is true", x, y, BOTTOM_RIGHT)


def sampler_times(rows: Sequence[Row], device: str) -> Figure:
    """Time of a visit over the batch size, from the rows of a benchmark record; both axes are logarithmic."""
    times: dict[str, dict[int, float]] = {}
    for row in rows:
        for name, milliseconds in ((row["contender"], row["ms"]), (row["reference"], row["reference_ms"])):
            times.setdefault(name, {})[int(row["size"].removeprefix("b="))] = milliseconds
    sizes = sorted(next(iter(times.values())))
    slowest_first = sorted(times, key=lambda name: -times[name][sizes[0]])
    figure = Figure().curves(sizes, {name: [times[name][b] for b in sizes] for name in slowest_first})
    x, y = log("batch size b (samples)", sizes), log("time (ms)")
    return figure.finish(f"A visit of 2b chains to 2b - 2 candidates each, {device}", x, y, BELOW, height=480)


def step_phases(profiles: Mapping[str, Mapping[str, float]]) -> Figure:
    """Seconds of the phases of a training step, stacked in a bar for each loss."""
    figure = Figure()
    colours, patterns = (GREY, BLUE, VERMILION, GREY, BLUE, GREEN, PURPLE), ("", "/", "x", "-", "\\", "|", "+")
    for phase, colour, pattern in zip(next(iter(profiles.values())), colours, patterns, strict=True):
        times = [1000 * profile[phase] for profile in profiles.values()]
        figure.bars(times, list(profiles), phase, colour, pattern, orientation="h")
    y, stacked = {"autorange": "reversed", "showgrid": False}, {"barmode": "stack", "legend_traceorder": "normal"}
    return figure.finish("Where the time of a training step goes", "time (ms)", y, BELOW, margin_l=190, **stacked)
