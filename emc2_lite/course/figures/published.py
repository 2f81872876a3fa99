"""The paper's published curves beside ours, from the rows of `emc2_lite.laboratory.experiments.published`."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from emc2_lite.course.figures.parts import Figure, Look, Row, from_zero, looks, reach
from emc2_lite.course.style import GREY

HIGHEST = 7.8  # nats, the upper end of the axes of losses; the published cache goes higher
X_TITLES = {"epoch": "epoch", "hours": "hours of wall time"}
PROBE = "linear probe (share right)"
Panels = Mapping[str, tuple[Sequence[Row], str]]  # by title: rows, and the field to draw over their steps


def exact_losses(theirs: Sequence[Row], ours: Sequence[Row], samples: int = 500) -> Figure:
    """The paper's figure 2 and ours: exact losses over the steps on one scale, and the mean cosine of the negatives.

    `theirs` are the rows of the published figure 2, `ours` the metrics of the experiment `published`. The level is the
    loss of embeddings that are all equal, the logarithm of the number of negatives, 2 (samples - 1).
    """
    losses: Panels = {
        "published": (theirs, "loss"),
        "ours, at β²": (ours, "loss_at_beta_squared"),
        "ours, at β": (ours, "loss"),
    }
    cosines: Panels = {"ours, mean cosine": (ours, "negative_cosine")}
    negatives = 2 * samples - 2
    alt = (
        f"Four panels over the steps, a curve for each method; means over seeds, with thin lines for single seeds. "
        f"First to last value of the exact loss: {_ends(losses)}. With all embeddings equal it is log {negatives} = "
        f"{math.log(negatives):.3f} nats (dashed). Mean cosine of the negatives: {_ends(cosines)}."
    )
    figure = _panels("Figure 2 of the paper, and ours", {**losses, **cosines}, "exact loss (nats)", alt)
    lowest = min(row[field] for rows, field in losses.values() for row in rows if row[field] is not None)
    steps = [0, max(row["step"] for row in (*theirs, *ours))]
    name = f"log {negatives}: all embeddings equal"
    for number, place in enumerate(_places(losses)):
        figure.level(steps, math.log(negatives), name, Look(GREY, "dash"), width=1, showlegend=not number, **place)
        figure.update_yaxes(range=[lowest - 0.05, HIGHEST], **place)
    return figure


def exact_norms(theirs: Sequence[Row], ours: Sequence[Row]) -> Figure:
    """|∇L|², the exact gradient's squared norm, over the steps, as in `exact_losses`; below right |g - ∇L|² at β."""
    panels: Panels = {
        "published |∇L|²": (theirs, "squared_norm"),
        "ours, |∇L|² at β²": (ours, "squared_norm_at_beta_squared"),
        "ours, |∇L|² at β": (ours, "squared_norm"),
        "ours, |g − ∇L|²": (ours, "squared_error"),
    }
    alt = (
        "Four panels over the steps with one logarithmic scale, a curve for each method; means over seeds, with thin "
        f"lines for single seeds. First to last value: {_ends(panels, '.2g')}."
    )
    figure = _panels("Gradients in figure 2 of the paper, and ours", panels, "squared norm", alt)
    return figure.update_yaxes({"type": "log", "dtick": 1, "exponentformat": "power", "matches": "y"})


def yardstick(theirs: Sequence[Row], by: Literal["epoch", "hours"] = "epoch") -> Figure:
    """The paper's figure 1: the linear probe's accuracy on STL-10 by epoch or by wall time.

    Rows have method, linear_probe and the field `by`.
    """
    figure, said = Figure(), []
    for name, own in looks(row["method"] for row in theirs).items():
        x, y = _columns(theirs, name, by, "linear_probe")
        figure.curve(x, y, name, own, size=5)
        said.append(f"{name} {y[-1]:.3f} after {x[-1]:.3g} {by.rstrip('s')}s, its highest {max(y):.3f}")
    alt = (
        f"The linear probe's accuracy by {X_TITLES[by]}, as published, a curve for each method. At the end: "
        f"{'; '.join(said)}."
    )
    title = "Figure 1 of the paper: STL-10, ResNet-18, b = 32"
    return figure.finish(title, X_TITLES[by], PROBE, height=460, alt=alt)


def board(ours: Sequence[Row], theirs: Sequence[Row], title: str) -> Figure:
    """The linear probe's accuracy over the time that it took: our methods, and beside them the paper's figure 1.

    `ours` are rows of `emc2_lite.laboratory.board` with a time, with their intervals over seeds; `theirs` those of the
    published figure, of which each method's last point is drawn.
    """
    figure = Figure().set_subplots(cols=2, horizontal_spacing=0.13, subplot_titles=["ours", "published: STL-10"])
    for name, own in looks(row["method"] for row in (*ours, *theirs)).items():
        rows, ends = ([row for row in part if row["method"] == name] for part in (ours, theirs))
        low, middle, high = ([row[f"linear_probe{end}"] for row in rows] for end in ("_low", "", "_high"))
        minutes = [row["seconds"] / 60 for row in rows]
        how = {"size": 11, "legendgroup": name}
        figure.points(
            minutes, middle, name, own, error_y=reach(low, middle, high), showlegend=bool(rows), row=1, col=1, **how
        )
        last = ends[-1:]
        hours, accuracy = ([row[field] for row in last] for field in ("hours", "linear_probe"))
        figure.points(hours, accuracy, name, own, showlegend=not rows, row=1, col=2, **how)
    figure.update_xaxes(title="minutes, CPU", col=1).update_xaxes(from_zero("hours, T4"), col=2)
    figure.update_yaxes(title=PROBE, col=1)
    said = [
        f"{row['method']} {row['linear_probe']:.3f} ({row['linear_probe_low']:.3f} to {row['linear_probe_high']:.3f}) "
        f"in {row['seconds'] / 60:.1f} minutes"
        for row in ours
    ]
    published = {
        row["method"]: f"{row['method']} {row['linear_probe']:.3f} in {row['hours']:.1f} hours" for row in theirs
    }
    alt = (
        "The linear probe's accuracy over the time that it took, in two panels. Ours, with 95 % intervals: "
        f"{'; '.join(said)}. Published: {'; '.join(published.values())}."
    )
    return figure.finish(title, height=500, alt=alt)


def _panels(title: str, panels: Panels, y_title: str, alt: str) -> Figure:
    """Four panels, each with every method: a line of means over seeds, and a thin line for each of several seeds."""
    spacing = {"horizontal_spacing": 0.11, "vertical_spacing": 0.09}
    figure = Figure().set_subplots(rows=2, cols=2, shared_xaxes=True, subplot_titles=list(panels), **spacing)
    styles, named = looks(row["method"] for rows, _ in panels.values() for row in rows), set()
    for place, (rows, field) in zip(_places(panels), panels.values(), strict=True):
        for name in dict.fromkeys(row["method"] for row in rows):
            steps, values = _columns(rows, name, "step", field)
            means = {step: [v for s, v in zip(steps, values, strict=True) if s == step] for step in sorted({*steps})}
            how = {"size": 0, "legendgroup": name, **place}
            for run in zip(*means.values(), strict=True) if len(values) > len(means) else ():
                figure.curve(means, run, name, styles[name], width=1, opacity=0.4, showlegend=False, **how)
            mean = [sum(numbers) / len(numbers) for numbers in means.values()]
            figure.curve(means, mean, name, styles[name], showlegend=name not in named, **how)
            named.add(name)
    figure.update_xaxes(title="step", row=2).update_yaxes(title=y_title, col=1)
    figure.update_annotations(font_size=13)
    return figure.finish(title, height=740, alt=alt)


def _ends(panels: Panels, digits: str = ".3f") -> str:
    """The first and the last value of each method in each panel, in words."""
    words = []
    for title, (rows, field) in panels.items():
        said = []
        for name in dict.fromkeys(row["method"] for row in rows):
            steps, values = _columns(rows, name, "step", field)
            ends = ([v for s, v in zip(steps, values, strict=True) if s == end] for end in (min(steps), max(steps)))
            first, last = (sum(end) / len(end) for end in ends)
            said.append(f"{name} {first:{digits}} to {last:{digits}}")
        words.append(f"{title}: {', '.join(said)}")
    return "; ".join(words)


def _places(panels: Panels) -> list[dict[str, int]]:
    return [{"row": 1 + number // 2, "col": 1 + number % 2} for number in range(len(panels))]


def _columns(rows: Sequence[Row], method: str, x: str, y: str) -> tuple[list, list]:
    """The two fields of the method's rows, where y is measured."""
    chosen = [row for row in rows if row["method"] == method and row[y] is not None]
    return [row[x] for row in chosen], [row[y] for row in chosen]
