"""Figures of chapter 03: averages and caches, their staleness and their memory."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from emc2_lite.course.figures.parts import ABOVE, BELOW, TOP_LEFT, TOP_RIGHT, Figure, Look, from_zero, log, looks
from emc2_lite.course.style import BLUE, GREY


def average_over_visits(batches: Tensor, average: Tensor, exact: float, gamma: float, temperature: float) -> Figure:
    """One row over its visits: logs of the batches' means and of the moving average, (visits,), and the exact, nats."""
    visit = range(1, len(batches) + 1)
    figure = Figure().points(visit, batches, "this visit's batch", Look(GREY).hollow(), size=6)
    figure.curve(visit, average, "moving average", 0, size=0).level(visit, exact, "exact", 1)
    gap = (average[len(visit) // 2 :] - exact).mean().item()
    title = f"gamma {gamma:g}, temperature {temperature:g}: {gap:+.2f} nats over the second half"
    return figure.finish(title, "visit of the row (one an epoch)", "log-normaliser, nats", ABOVE)


def expected_weights(exact: Tensor, weights: Mapping[str, Tensor]) -> Figure:
    """Mean weights (negatives,) of one row by method, over the exact p (negatives,); they agree on the diagonal."""
    low = max(1e-6, exact.min().item())
    figure = Figure().curve([low, 1], [low, 1], "weight = p", Look(GREY, "dash"), size=0)
    for name, look in looks(weights).items():
        shown = weights[name] > 0
        figure.points(exact[shown], weights[name][shown], name, look.hollow())
    x = log("exact probability p of the negative", exponentformat="power")
    y = log("mean weight", exponentformat="power")
    return figure.finish("What a negative should weigh, and what it weighs on average", x, y, TOP_LEFT)


def after_the_jump(curves: Mapping[str, Sequence[float]], before: int) -> Figure:
    """Mean error of log u over all rows, nats, (visits,) by name; the encoder jumps after visit number `before`."""
    visits = max(map(len, curves.values()))
    figure = Figure().curves(range(1 - before, visits - before + 1), curves, size=0)
    text = {"text": "the encoder jumps", "yanchor": "bottom"}
    figure.add_vline(x=0.5, line={"color": GREY, "width": 1}, annotation=text, annotation_position="top right")
    title = "An average of the past meets a new encoder (mean over all rows)"
    return figure.finish(title, "visits since the jump", "log u minus exact, nats", BELOW)


def draws_and_softmax(exact: Tensor, drawn: Tensor, draws: int) -> Figure:
    """Shares of `draws` Gumbel-max draws on each of the most probable entries, (k,), beside the softmax (k,)."""
    rank = range(1, len(exact) + 1)
    figure = Figure().bars(rank, exact, "softmax", GREY).bars(rank, drawn, f"{draws:,} draws", BLUE, "/")
    x = {"title": "cached view, by its probability (rank)", "dtick": 1, "showgrid": False}
    title = "The largest of (score + Gumbel noise) is a draw from the softmax"
    return figure.finish(title, x, from_zero("share (dimensionless)"), TOP_RIGHT, bargap=0.25)


def staleness(curves: Mapping[str, Sequence[float]], every: int) -> Figure:
    """Mean |cached score - true score| of drawn negatives, dimensionless, averaged over `every` steps, by name."""
    steps = [every * (k + 0.5) for k in range(max(map(len, curves.values())))]
    title, y = "How late the cache is, at the negatives drawn from it", from_zero("error of the score (dimensionless)")
    return Figure().curves(steps, curves).finish(title, "step of training", y, BELOW)


def bytes_kept(datasets: Sequence[str], kept: Mapping[str, Sequence[float]]) -> Figure:
    """Bytes of state by method, a bar for each data set, on a logarithmic scale of megabytes."""
    figure = Figure()
    for (name, look), pattern in zip(looks(kept).items(), ("", "/", "x", "\\"), strict=False):
        figure.bars(datasets, [amount / 1e6 for amount in kept[name]], name, look.colour, pattern)
    return figure.finish("What has to be remembered", "data set", log("state, MB", tickformat=",~r"), BELOW)
