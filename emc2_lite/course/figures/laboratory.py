"""Figures of the gradient laboratory, chapter 06, and the bars of chapter 03, from the rows of records."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from emc2_lite.course.figures.parts import Figure, Look, Row, from_zero, log, look, looks, reach
from emc2_lite.course.style import BLUE, GREEN, GREY, INK, VERMILION

BIAS = "bias (share of |∇L|)"
NOISE = "noise (share of |∇L|)"
PRICE = "price of a step (NT-Xent = 1)"
# Ticks of logarithmic axes, by field; a smaller value is drawn at the first one.
TICKS = {"bias": (0.01, 0.1, 1, 10), "noise": (0.1, 1, 10), "run_noise": (0.1, 1, 10)}


def interval_bars(rows: Sequence[Row], value: str, title: str, axis: str) -> Figure:
    """A point with its interval for each row, named by `method`; `value`, `value_low`, `value_high` are fields."""
    figure = Figure()
    for row in reversed(rows):
        name = row["method"]
        figure.points([row[value]], [name], "", look(name), size=11, error_x=_interval([row], value), showlegend=False)
    alt = f"{title}. A point with its 95 % interval for each method, {axis} from left to right: {_ranked(rows, value)}."
    return figure.finish(title, from_zero(axis), {"showgrid": False}, height=80 + 45 * len(rows), alt=alt)


def curves(
    rows: Sequence[Row], x: str, value: str, *, title: str, x_title: str, y_title: str, log_x: bool = True
) -> Figure:
    """Means over seeds with their intervals, by method; `x`, `value`, `value_low`, `value_high` are fields."""
    figure = _curves(Figure(), rows, x, value)
    ticks = sorted({row[x] for row in rows})
    axis = log(x_title, ticks, tickangle=0) if log_x else {"title": x_title}
    alt = _alt(rows, x, value, title, x_title, y_title)
    return figure.finish(title, {"showgrid": False, **axis}, from_zero(y_title), height=500, alt=alt)


def marks(measures: Mapping[str, tuple[Sequence[Row], str]], title: str, axis: str) -> Figure:
    """Methods, one a line, by one to three measures on one logarithmic axis.

    `measures` has the rows and the field of each measure, by its name in the legend. The first measure has filled
    symbols above the line's middle, the next open ones, the third crosses. The first field sets the ticks.
    """
    names = list(dict.fromkeys(row["method"] for rows, _ in measures.values() for row in rows))
    chosen, figure = looks(names), Figure()
    first, *others = TICKS[next(iter(measures.values()))[1]]
    shift = 0.6 / len(measures)
    for number, (label, (rows, field)) in enumerate(measures.items()):
        places = [-names.index(row["method"]) + shift * ((len(measures) - 1) / 2 - number) for row in rows]
        own = [chosen[row["method"]] for row in rows]
        symbols = [style.marker if not number else style.hollow().marker for style in own]
        colours = [style.colour for style in own]
        marker = {"color": colours, "symbol": symbols if number < 2 else "x-thin-open", "size": 10}
        bars = _interval(rows, field, first) | {"color": INK, "width": 3}
        values = [max(row[field], first) for row in rows]
        figure.points(values, places, label, 0, marker=marker | {"line": {"width": 2, "color": colours}}, error_x=bars)
    span = math.log10(others[-1] / first)
    ends = [math.log10(first) - 0.06 * span, math.log10(others[-1]) + 0.06 * span]
    words = [f"≤ {first:g}", *(f"{tick:g}" for tick in others)]
    x = log(axis, (first, *others), ticktext=words, range=ends, tickangle=0)
    y = {"tickvals": [-place for place in range(len(names))], "ticktext": names, "showgrid": False, "zeroline": False}
    listed = ". ".join(f"{label}: {_ranked(rows, field)}" for label, (rows, field) in measures.items())
    alt = f"{title}. Methods one below the other, {axis} from left to right, logarithmic. {listed}."
    return figure.finish(title, x, y, height=160 + (16 + 14 * len(measures)) * len(names), alt=alt)


def noise_over_length(lengths: Tensor, noises: Mapping[str, Tensor], title: str) -> Figure:
    """Noise of runs by their length in steps, a curve for each method, bars from the lowest to the highest seed.

    `noises` has (seeds, lengths) for each method, times the square root of the length.
    """
    figure = Figure()
    for name, own in looks(noises).items():
        figure.means(lengths, noises[name], name, own)
    x = log("steps of a run, n", lengths.tolist(), tickangle=0)
    ends = {name: (values[:, 0].mean().item(), values[:, -1].mean().item()) for name, values in noises.items()}
    listed = ", ".join(f"{name} from {first:.2f} to {last:.2f}" for name, (first, last) in ends.items())
    alt = (
        f"{title}. A curve for each method over the number of steps of a run, from {lengths[0]} to {lengths[-1]}, "
        f"logarithmic; the noise of the run's mean times the square root of that number goes: {listed}."
    )
    return figure.finish(title, x, from_zero(NOISE), height=460, alt=alt)


def recovery(rows: Sequence[Row], title: str) -> Figure:
    """Bias over visits since the encoder's jump, a curve for each method; the end of a window is its place.

    A live figure has the same number of curves for each value: empty ones make six.
    """
    x_title = "visits since the jump"
    figure = curves(rows, "visits_to", "bias", title=f"After the jump: {title}", x_title=x_title, y_title=BIAS)
    for _ in range(len(figure.data), 6):
        figure.curve([], [], "", 0, showlegend=False)
    return figure


def price_and_bias(rows: Sequence[Row], title: str) -> Figure:
    """The bias of each method with its interval over the price of a step: cheap is left, unbiased is below."""
    figure = Figure()
    for name, own in looks(row["method"] for row in rows).items():
        (row,) = (row for row in rows if row["method"] == name)
        figure.points([row["price"]], [row["bias"]], name, own, size=12, error_y=_interval([row], "bias"))
    cheapest_first = sorted(rows, key=lambda row: row["price"])
    listed = ", ".join(f"{row['method']} {row['price']:.2f} and {row['bias']:.2f}" for row in cheapest_first)
    alt = f"{title}. A point for each method, its price to the right and its bias upwards: {listed}."
    return figure.finish(title, PRICE, from_zero(BIAS), height=520, alt=alt)


def coin_trade(
    shares: Sequence[float], prices: Sequence[float], noises: Sequence[float], share: float, b: int
) -> Figure:
    """Price, noise of a run, and noise at equal price over ρ, each as a multiple of its value at the last ρ, 1.

    A fixed budget buys steps in inverse proportion to the price, so that the noise of their mean goes with the root of
    the price times the noise. `share` is the ρ that is marked, one of `shares`.
    """
    at_equal_price = [math.sqrt(price) * noise for price, noise in zip(prices, noises, strict=True)]
    measures = {
        "price of a step": (prices, Look(VERMILION, "dash")),
        "noise of a run": (noises, Look(GREEN, "dot")),
        "noise at equal price": (at_equal_price, Look(BLUE)),
    }
    figure, here = Figure(), shares.index(share)
    for name, (values, own) in measures.items():
        figure.curve(shares, [value / values[-1] for value in values], name, own, size=0)
    heights = [values[here] / values[-1] for values, _ in measures.values()]
    colours = [own.colour for _, own in measures.values()]
    figure.points([share] * 3, heights, "", 0, marker={"color": colours, "size": 12}, showlegend=False)
    title = f"b = {b}, ρ = {share:g}: price {prices[here]:.2f}, noise {noises[here]:.2f}"
    best = at_equal_price.index(min(at_equal_price))
    alt = (
        f"Three curves over the share ρ from {shares[0]:g} to 1 at batch size {b}, each relative to its end at ρ = 1. "
        f"The price falls to {prices[0] / prices[-1]:.2f} at the smallest ρ, and the noise rises to "
        f"{noises[0] / noises[-1]:.2f}. The noise at equal price is smallest at ρ = {shares[best]:g}, with "
        f"{at_equal_price[best] / at_equal_price[-1]:.2f}; at the marked ρ = {share:g} it is {heights[2]:.2f}."
    )
    y = {"title": "relative to ρ = 1", "range": [0.5, 1.75]}
    return figure.finish(title, {"title": "ρ, share encoded again", "range": [0, 1.03]}, y, alt=alt)


def falling_norms(rows: Sequence[Row], title: str) -> Figure:
    """Mean squared norm of the exact gradient over the steps of the run, both logarithmic, and a line of slope -1/2."""
    x, value, x_title, y_title = "horizon", "mean_squared_norm", "steps of the run, n", "mean of |∇L|² (nats²)"
    horizons = sorted({row[x] for row in rows})
    start = max(row[value] for row in rows if row[x] == horizons[0])
    slope = [1.3 * start * (horizon / horizons[0]) ** -0.5 for horizon in horizons]
    figure = _curves(Figure(), rows, x, value)
    figure.curve(horizons, slope, "slope of 1/√n", Look(GREY, "dot"), width=1, size=0)
    axis = {"title": y_title, "type": "log", "dtick": "D2", "tickformat": "~r", "exponentformat": "power"}
    alt = _alt(rows, x, value, title, x_title, y_title) + " A thin line has the slope of 1/√n."
    return figure.finish(title, log(x_title, horizons, showgrid=False, tickangle=0), axis, height=480, alt=alt)


def _curves(figure: Figure, rows: Sequence[Row], x: str, value: str) -> Figure:
    """Each method's values over the field `x`, with their intervals."""
    for name, own in looks(row["method"] for row in rows).items():
        chosen = [row for row in rows if row["method"] == name]
        places, values = [row[x] for row in chosen], [row[value] for row in chosen]
        figure.curve(places, values, name, own, error_y=_interval(chosen, value))
    return figure


def _interval(rows: Sequence[Row], value: str, floor: float = -math.inf) -> dict[str, Any]:
    """plotly's error bars from the intervals of the rows; none where there is a single seed."""
    bounds = [[row.get(f"{value}_low"), row[value], row.get(f"{value}_high")] for row in rows]
    if any(None in three for three in bounds):
        return {"visible": False}
    floor = max(floor, 0.0) if value == "bias" else floor  # a length: what lies below 0 is not drawn
    return reach(*torch.tensor(bounds, dtype=torch.float64).clamp(min=floor).T)


def _ranked(rows: Iterable[Row], value: str) -> str:
    """The methods and their values, the smallest first."""
    return ", ".join(f"{row['method']} {row[value]:.2g}" for row in sorted(rows, key=lambda row: row[value]))


def _alt(rows: Sequence[Row], x: str, value: str, title: str, x_title: str, y_title: str) -> str:
    """A curve for each method, in words: from the first to the last x."""
    ends = {}
    for name in dict.fromkeys(row["method"] for row in rows):
        chosen = sorted((row for row in rows if row["method"] == name), key=lambda row: row[x])
        ends[name] = f"{name} from {chosen[0][value]:.3g} to {chosen[-1][value]:.3g}"
    places = sorted({row[x] for row in rows})
    return (
        f"{title}: {y_title} over {x_title}, a curve with 95 % intervals for each method. "
        f"From {places[0]:g} to {places[-1]:g}: {', '.join(ends.values())}."
    )
