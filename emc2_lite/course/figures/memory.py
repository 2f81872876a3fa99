"""Figures of chapter 03: averages and caches, their staleness and their memory."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from torch import Tensor

from emc2_lite.course.figures.parts import Figure, Look, from_zero, log, looks
from emc2_lite.course.style import BLUE, GREY

OLDEST = 40  # steps: the end of the colours of `cache_ages`; older entries have its colour
LINE = 20  # entries a line in `cache_ages`


def average_over_visits(batches: Tensor, average: Tensor, exact: float, gamma: float, temperature: float) -> Figure:
    """One row over its visits: logs of the batches' means and of the moving average, (visits,), and the exact, nats."""
    visit = range(1, len(batches) + 1)
    figure = Figure().points(visit, batches, "batch", Look(GREY).hollow(), size=6)
    figure.curve(visit, average, "average", 0, size=0).level(visit, exact, "exact", 1)
    gap = (average[len(visit) // 2 :] - exact).mean().item()
    alt = (
        f"Logarithms of means over {len(visit)} visits of a row, in nats, at gamma {gamma:g} and temperature "
        f"{temperature:g}. The batches' means lie from {batches.min():.1f} to {batches.max():.1f}, "
        f"{(batches < exact).double().mean():.0%} of them below the exact level of {exact:.1f}. "
        f"The moving average is {gap:+.2f} nats off in the mean of the second half of the visits."
    )
    title = f"gamma {gamma:g}: {gap:+.2f} nats off in the second half"
    return figure.finish(title, "visit of the row (one an epoch)", "log of a mean, nats", alt=alt)


def expected_weights(exact: Tensor, weights: Mapping[str, Tensor]) -> Figure:
    """Mean weights (negatives,) of one row by method, over the exact p (negatives,); they agree on the diagonal."""
    low, hardest = max(1e-6, exact.min().item()), exact.argmax()
    figure = Figure().curve([low, 1], [low, 1], "weight = p", Look(GREY, "dash"), size=0)
    for name, look in looks(weights).items():
        shown = weights[name] > 0
        figure.points(exact[shown], weights[name][shown], name, look.hollow())
    alt = (
        "Mean weight of each negative of one row over its exact share p, both on logarithmic axes, with the diagonal "
        f"where they are equal. The hardest negative has p = {exact[hardest]:.3f} and the mean weight "
        + ", ".join(f"{weights[name][hardest]:.3f} at {name}" for name in weights)
        + "."
    )
    x, y = (
        log(words, exponentformat="power", dtick=2) for words in ("exact share p (no unit)", "mean weight (no unit)")
    )
    return figure.finish("What a negative weighs on average", x, y, alt=alt)


def after_the_jump(curves: Mapping[str, Sequence[float]], before: int) -> Figure:
    """Mean error of log u over all rows, nats, (visits,) by name; the encoder jumps after visit number `before`."""
    visits = max(map(len, curves.values()))
    figure = Figure().curves(range(1 - before, visits - before + 1), curves, size=0)
    text = {"text": "the encoder jumps", "yanchor": "bottom"}
    figure.add_vline(x=0.5, line={"color": GREY, "width": 1}, annotation=text, annotation_position="top right")
    alt = (
        "Mean error of log u over all rows, in nats, by visits since the encoder jumped; before the jump, right after "
        f"it, and {visits - before} visits later: "
        + "; ".join(f"{name} {e[before - 1]:+.2f}, {e[before]:+.2f}, {e[-1]:+.2f}" for name, e in curves.items())
        + "."
    )
    title = "An old average, a new encoder"
    return figure.finish(title, "visits since the jump", "log u minus exact, nats", alt=alt)


def draws_and_softmax(exact: Tensor, drawn: Tensor, draws: int) -> Figure:
    """Shares of `draws` Gumbel-max draws on each of the most probable entries, (k,), beside the softmax (k,)."""
    rank = range(1, len(exact) + 1)
    figure = Figure().bars(rank, exact, "softmax", GREY).bars(rank, drawn, f"{draws:,} draws", BLUE, "/")
    alt = (
        f"Two bars for each of the {len(exact)} most probable cached views of a row: its softmax, from "
        f"{exact[0]:.3f} down to {exact[-1]:.3f}, and its share of {draws:,} draws. "
        f"The two differ by at most {(exact - drawn).abs().max():.3f}."
    )
    x = {"title": "cached view, by rank of its share", "dtick": 1, "showgrid": False}
    title, y = "The largest score with its bonus is a draw", from_zero("share (no unit)")
    return figure.finish(title, x, y, bargap=0.25, alt=alt)


def cache_ages(ages: Tensor, astray: float) -> Figure:
    """A square for each entry of the cache, (2N,), coloured by its age in steps, in lines of `LINE`.

    astray: the share of the weight that the ages put on wrong entries, in the mean over rows.
    """
    values = ages.tolist()
    lines = [values[start : start + LINE] for start in range(0, len(values), LINE)]
    ticks = {"tickvals": list(range(0, OLDEST + 1, 10)), "ticktext": [*range(0, OLDEST, 10), f"{OLDEST} +"]}
    bar = {"title": {"text": "age, steps", "side": "right"}, "thickness": 12, **ticks}
    squares = {"xgap": 1, "ygap": 1, "colorscale": "Cividis", "reversescale": True, "colorbar": bar}
    names = "line %{y}, place %{x}: %{z} steps<extra></extra>"
    numbers = {"x": list(range(1, LINE + 1)), "y": list(range(1, len(lines) + 1))}
    figure = Figure(go.Heatmap(z=lines, zmin=0, zmax=OLDEST, hovertemplate=names, **numbers, **squares))
    mean, oldest = ages.double().mean().item(), ages.max().item()
    alt = (
        f"The {len(values)} entries of the cache as squares, {LINE} a line, coloured by age in steps: the mean is "
        f"{mean:.1f}, the oldest {oldest}, and {(ages < 10).double().mean():.0%} are younger than 10 steps. "
        f"Of the draws' weight, {astray:.0%} lies on wrong entries."
    )
    x = {"title": "place of the entry in its line", "showgrid": False, "range": [0.5, LINE + 0.5]}
    y = {"title": f"line ({LINE} entries each)", "showgrid": False, "range": [len(lines) + 0.5, 0.5]}
    return figure.finish(f"Mean age {mean:.0f} steps, {astray:.0%} of weight astray", x, y, alt=alt)


def staleness(curves: Mapping[str, Sequence[float]], every: int) -> Figure:
    """Mean |cached score - true score| of drawn negatives, nats, averaged over `every` steps, by name."""
    steps = [every * (k + 0.5) for k in range(max(map(len, curves.values())))]
    alt = (
        "Mean error of the cached scores of drawn views, in nats, over the steps of training; "
        f"in the last {every} steps: " + ", ".join(f"{values[-1]:.2f} at {name}" for name, values in curves.items())
    )
    title, y = "How late the cache is at the drawn views", from_zero("error of the score, nats")
    return Figure().curves(steps, curves).finish(title, "step of training", y, alt=f"{alt}.")


def bytes_kept(datasets: Sequence[str], kept: Mapping[str, Sequence[float]]) -> Figure:
    """Bytes of state by method, a bar for each data set, on a logarithmic scale of megabytes."""
    figure, labels = Figure(), [name.replace(", ", "<br>", 1) for name in datasets]
    for (name, look), pattern in zip(looks(kept).items(), ("", "/", "x", "\\"), strict=False):
        figure.bars(labels, [amount / 1e6 for amount in kept[name]], name, look.colour, pattern)
    alt = f"State that each method keeps, in megabytes on a logarithmic axis. For {datasets[-1]} samples: " + "; ".join(
        f"{name} ({amounts[-1] / 1e6:,.0f})" for name, amounts in kept.items()
    )
    y = log("state, MB", tickformat=",~r")
    return figure.finish("What has to be remembered", "data set, samples", y, alt=f"{alt}.")
