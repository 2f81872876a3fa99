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
    A square names the best other method, the difference of the losses in nats and the seeds in which `method` is ahead.
    """
    kinds, ratios, temperatures = (sorted({row[key] for row in rows}) for key in ("views", "n_over_b", "temperature"))
    kinds.reverse()  # stored views first
    figure = Figure().set_subplots(
        rows=len(kinds), shared_xaxes=True, vertical_spacing=0.08, subplot_titles=[f"{kind} views" for kind in kinds]
    )
    reached = 0.0
    for number, kind in enumerate(kinds, start=1):
        values: list[list[float | None]] = []
        texts: list[list[str]] = []
        for temperature in temperatures:
            values.append([])
            texts.append([])
            for ratio in ratios:
                place = rows_where(rows, views=kind, n_over_b=ratio, temperature=temperature)
                if not place:
                    values[-1].append(None)
                    texts[-1].append("")
                    continue
                rival, wins, seeds, difference = lead_at(place, method)
                clear = difference.low > 0 or difference.high < 0
                reached = max(reached, abs(difference.value))
                values[-1].append(difference.value)
                number_text = f"{difference.value:+.2f}".replace("-", "−")
                texts[-1].append(f"{f'<b>{number_text}</b>' if clear else number_text}<br>{wins} of {seeds}<br>{rival}")
        figure.add_heatmap(
            z=values, x=[f"{ratio:.0f}" for ratio in ratios], y=[f"{t:g}" for t in temperatures], text=texts,
            texttemplate="%{text}", textfont={"size": 12}, coloraxis="coloraxis", xgap=3, ygap=3, hoverinfo="skip",
            row=number, col=1,
        )  # fmt: skip
        figure.update_yaxes(title="temperature", type="category", showgrid=False, row=number)
    figure.update_xaxes(title="N / b, samples per batch size", row=len(kinds))
    figure.update_xaxes(type="category", showgrid=False)
    colours = {"colorscale": _SIDES, "cmin": -reached, "cmax": reached, "showscale": False}
    return figure.finish(title, coloraxis=colours, height=110 + 260 * len(kinds))
