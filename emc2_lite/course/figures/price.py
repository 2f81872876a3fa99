"""The map of training at equal price: who leads where."""

from collections.abc import Mapping, Sequence

from emc2_lite.course.figures.parts import Figure
from emc2_lite.laboratory.statistics import Interval, Row, leads, of_seeds
from emc2_lite.records import rows_where

# Blue where the method leads, vermilion where it is behind: tints, opaque, on which dark words are readable.
_SIDES = ((0.0, "#8FC1E3"), (0.5, "#F2F2F2"), (1.0, "#F5B183"))
_DARK = "#1A1A1A"

RivalLead = tuple[str, int, int, Interval]


def best_of(rows: list[Row], methods: Sequence[str]) -> str:
    """The method with the lowest mean loss over seeds."""
    means = {m: of_seeds([row["loss"] for row in rows_where(rows, method=m)]).value for m in methods}
    return min(means, key=means.__getitem__)


def lead_at(rows: list[Row], method: str) -> RivalLead:
    """The best other method at one place, the seeds in which `method` is ahead of it, of how many, and the difference.

    The difference is the loss of `method` minus the other's, in nats, paired by seed.
    """
    rival = best_of(rows, [name for name in dict.fromkeys(row["method"] for row in rows) if name != method])
    return rival, *leads(rows, method, rival)


def leads_by_place(rows: list[Row], method: str) -> dict[tuple[float, float], RivalLead]:
    """`lead_at` at every place that was measured: N / b and temperature, both from small to large.

    `rows` are runs, with method, temperature, seed, loss and n_over_b, the samples over the batch size.
    """
    places = sorted({(row["n_over_b"], row["temperature"]) for row in rows})
    return {(r, t): lead_at(rows_where(rows, n_over_b=r, temperature=t), method) for r, t in places}


def price_map(places: Mapping[tuple[float, float], RivalLead], method: str, title: str) -> Figure:
    """The lead of a method over the best other one at equal price: N / b by temperature, from `leads_by_place`.

    A square names the difference of the losses in nats, the seeds in which `method` is ahead and the best other method;
    a difference whose interval leaves out 0 is bold. Half a nat has the full colour.
    """
    ratios, temperatures = (sorted(set(numbers)) for numbers in zip(*places, strict=True))
    table = [[places.get((r, t)) for t in temperatures] for r in ratios]
    values = [[None if lead is None else lead[3].value for lead in line] for line in table]
    texts = [["" if lead is None else _words(*lead) for lead in line] for line in table]
    names = {"x": [f"{t:g}" for t in temperatures], "y": [f"{ratio:.0f}" for ratio in ratios]}
    words = {"texttemplate": "%{text}", "textfont": {"size": 12, "color": _DARK}, "hoverinfo": "skip"}
    colours = {"colorscale": _SIDES, "zmin": -0.5, "zmax": 0.5, "showscale": False}
    figure = Figure().add_heatmap(z=values, text=texts, xgap=3, ygap=3, **names, **words, **colours)
    category = {"type": "category", "showgrid": False}
    x, y = {"title": "temperature (no unit)", **category}, {"title": "N / b, samples over batch size", **category}
    listed = "; ".join(f"N / b {r:.0f}, temperature {t:g}: {_aloud(*lead)}" for (r, t), lead in places.items())
    alt = (
        f"{title}. A table of coloured squares, N / b upwards and temperature to the right, with the loss of {method} "
        f"minus that of the best other method, in nats; a star marks an interval that leaves 0 out. {listed}."
    )
    return figure.finish(title, x, y, height=120 + 74 * len(ratios), alt=alt)


def _clear(difference: Interval) -> bool:
    return difference.low > 0 or difference.high < 0


def _words(rival: str, wins: int, seeds: int, difference: Interval) -> str:
    text = f"{difference.value:+.2f}".replace("-", "−")
    text = f"<b>{text}</b>" if _clear(difference) else text
    return f"{text}<br>{wins} of {seeds}<br>{rival.replace(', gamma=', '<br>γ = ')}"


def _aloud(rival: str, wins: int, seeds: int, difference: Interval) -> str:
    return f"{difference.value:+.2f}{'*' if _clear(difference) else ''} against {rival}, ahead in {wins} of {seeds}"
