"""Figures of training at equal price: the map of who leads where, and the lead over the length of a run."""

from collections.abc import Sequence

from emc2_lite.course.figures.parts import Figure
from emc2_lite.laboratory.statistics import Interval, Row, leads, of_seeds
from emc2_lite.records import rows_where

# Blue where the method leads, vermilion where it is behind; opaque, so that the words are readable in both themes.
_SIDES = ((0.0, "#0072B2"), (0.5, "#F2F2F2"), (1.0, "#D55E00"))


def best_of(rows: list[Row], methods: Sequence[str]) -> str:
    """The method with the lowest mean loss over seeds."""
    means = {m: of_seeds([row["loss"] for row in rows_where(rows, method=m)]).value for m in methods}
    return min(means, key=means.__getitem__)


def lead_at(rows: list[Row], method: str) -> tuple[str, int, int, Interval]:
    """The best other method at one place, the seeds in which `method` is ahead of it, of how many, and the difference.

    The difference is the loss of `method` minus the other's, in nats, paired by seed.
    """
    rival = best_of(rows, [name for name in dict.fromkeys(row["method"] for row in rows) if name != method])
    return rival, *leads(rows, method, rival)


def price_map(rows: list[Row], method: str, title: str) -> Figure:
    """The lead of a method over the best other one at equal price: temperatures by N / b, a panel a kind of views.

    `rows` are the runs, with method, temperature, views, seed, loss and n_over_b, the samples over the batch size.
    A square names the best other method, the difference of the losses in nats and the seeds in which `method` is ahead;
    a difference whose interval leaves out 0 is bold.
    """
    kinds, ratios, temperatures = (sorted({row[key] for row in rows}) for key in ("views", "n_over_b", "temperature"))
    kinds.reverse()  # stored views first
    titles = [f"{kind} views" for kind in kinds]
    figure = Figure().set_subplots(rows=len(kinds), shared_xaxes=True, vertical_spacing=0.08, subplot_titles=titles)
    words = {"texttemplate": "%{text}", "textfont": {"size": 12}, "hoverinfo": "skip"}
    names = {"x": [f"{ratio:.0f}" for ratio in ratios], "y": [f"{t:g}" for t in temperatures]}
    furthest = 0.0
    for number, kind in enumerate(kinds, start=1):
        places = [[{"views": kind, "n_over_b": r, "temperature": t} for r in ratios] for t in temperatures]
        squares = [[_square(rows_where(rows, **place), method) for place in line] for line in places]
        values = [[value for value, _ in line] for line in squares]
        texts = [[text for _, text in line] for line in squares]
        furthest = max(furthest, *(abs(value) for line in values for value in line if value is not None))
        figure.add_heatmap(
            z=values, text=texts, coloraxis="coloraxis", xgap=3, ygap=3, row=number, col=1, **names, **words
        )
        figure.update_yaxes(title="temperature", type="category", showgrid=False, row=number)
    figure.update_xaxes(title="N / b, samples over batch size", row=len(kinds))
    figure.update_xaxes(type="category", showgrid=False)
    colours = {"colorscale": _SIDES, "cmin": -furthest, "cmax": furthest, "showscale": False}
    return figure.finish(title, coloraxis=colours, height=110 + 260 * len(kinds))


def _square(rows: list[Row], method: str) -> tuple[float | None, str]:
    """The difference at one place and its text; nothing where the place was not measured."""
    if not rows:
        return None, ""
    rival, wins, seeds, difference = lead_at(rows, method)
    text = f"{difference.value:+.2f}".replace("-", "−")
    clear = difference.low > 0 or difference.high < 0
    return difference.value, f"{f'<b>{text}</b>' if clear else text}<br>{wins} of {seeds}<br>{rival}"
