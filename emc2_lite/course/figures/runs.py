"""Figures of training runs, chapters 07 and 08, and of the command ``sweep``."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from emc2_lite.course.figures.laboratory import curves
from emc2_lite.course.figures.parts import Figure, Look, Row, from_zero
from emc2_lite.course.style import CONFIG, GREY, VERMILION, template

MEASURES = {"linear_probe": "linear probe", "nearest_neighbour": "1-NN"}


def colour_sheet(images: Tensor, title: str, rows: Sequence[str], columns: Sequence[str], zoom: int = 2) -> Figure:
    """Colour pictures in rows and columns: (R, C, 3, S, S) in [0, 1]; `zoom` is the side of a pixel on the screen."""
    from torchvision.utils import make_grid  # here, because torchvision takes seconds

    count, side = images.shape[1], images.shape[-1]
    pixels = F.interpolate(images.flatten(0, 1), scale_factor=zoom, mode="nearest")
    sheet = make_grid(pixels, nrow=count, padding=4, pad_value=1.0)
    figure = Figure(_image(sheet))
    step = zoom * side + 4
    middles = [4 + zoom * side / 2 + step * i for i in range(max(images.shape[:2]))]
    figure.update_xaxes(tickvals=middles[: len(columns)], ticktext=list(columns), side="top", showgrid=False, ticks="")
    figure.update_yaxes(tickvals=middles[: len(rows)], ticktext=list(rows), showgrid=False, ticks="")
    apart = (images - images[:, :1]).abs().mean(dim=(0, 2, 3, 4)).tolist()
    words = (f"{name} {value:.2f}" for name, value in zip(columns[1:], apart[1:], strict=True))
    alt = (
        f"Colour pictures in {len(images)} rows ({', '.join(filter(None, rows)) or 'without names'}) and {count} "
        f"columns. Mean distance of a pixel from the row's first picture, on a scale from 0 to 1: {', '.join(words)}."
    )
    return figure.finish(title, title_y=0.97, margin={"t": 90, "b": 20}, height=110 + step * len(images), alt=alt)


def picture_map(images: Tensor, places: Tensor, title: str, side: int = 900) -> Figure:
    """Colour pictures (N, 3, S, S) in [0, 1], each at its place (N, 2) on a map of `side` pixels, the last on top."""
    small = images.shape[-1]
    low, high = places.amin(0), places.amax(0)
    corners = ((places - low) / (high - low) * (side - small)).round().long().tolist()
    sheet = torch.ones(3, side, side)
    for picture, (x, y) in zip(images, corners, strict=True):
        sheet[:, side - small - y : side - y, x : x + small] = picture  # the second coordinate points up
    figure = Figure(_image(sheet))
    hidden = {"showticklabels": False, "showgrid": False, "zeroline": False, "ticks": ""}
    x, y = ({"title": f"map coordinate {number} (no unit)", **hidden} for number in (1, 2))
    left = places[:, 0] < (low[0] + high[0]) / 2
    light = [images[side].mean().item() for side in (left, ~left)]
    alt = (
        f"{len(images)} colour pictures, each at its place on a map of two coordinates without unit. "
        f"{int(left.sum())} lie in the left half, of mean brightness {light[0]:.2f}, and {int((~left).sum())} in the "
        f"right half, of mean brightness {light[1]:.2f}, on a scale from 0 (black) to 1 (white)."
    )
    return figure.finish(title, x, {**y, "scaleanchor": "x"}, height=720, alt=alt)


def few_labels(rows: Sequence[Row], counts: Sequence[int], every: int, title: str) -> Figure:
    """The linear probe over the labels a class, a curve for each method: means over seeds with their intervals.

    `rows` are a sweep's `final` with the fields labels_N for each N of `counts`; `every` is the number of labels a
    class of all images, the field linear_probe.
    """
    fields = {count: f"labels_{count}" for count in counts} | {every: "linear_probe"}
    points = [
        {"method": row["method"], "labels": count} | {f"probe{end}": row[field + end] for end in ("", "_low", "_high")}
        for row in rows
        for count, field in fields.items()
    ]
    x, y = "labelled images a class", "linear probe, share of test set"
    return curves(points, "labels", "probe", title=title, x_title=x, y_title=y)


def learning_rates(epochs: Sequence[float], rates: Sequence[float], warmup: float) -> Figure:
    """The learning rate over the epochs of a run, its warm-up shaded."""
    figure = Figure().curve(epochs, rates, "learning rate", 0, size=0, showlegend=False)
    figure.add_vrect(x0=0, x1=warmup, fillcolor=GREY, opacity=0.25, line_width=0)
    largest, title = max(rates), f"Warm-up of {warmup:g} of {epochs[-1]:g} epochs"
    alt = (
        f"The learning rate over {epochs[-1]:g} epochs, {warmup:g} of them warm-up. It begins at {rates[0]:.1e}, is "
        f"largest, {largest:.1e}, at epoch {epochs[list(rates).index(largest)]:g}, and ends at {rates[-1]:.1e}."
    )
    return figure.finish(title, "epoch", {**from_zero("learning rate"), "tickformat": "~e"}, height=340, alt=alt)


def along_steps(values: Mapping[str, Sequence[float]], title: str, y: str) -> Figure:
    """A curve over the steps of a run for each name."""
    steps = range(max(map(len, values.values())))
    figure = Figure().curves(steps, values, size=0)
    words = (
        f"{name} begins at {line[0]:.3g}, ends at {line[-1]:.3g} and lies from {min(line):.3g} to {max(line):.3g}"
        for name, line in values.items()
    )
    alt = f"{y} over {len(steps)} steps of training. {'; '.join(words)}."
    return figure.finish(title, "step", from_zero(y), alt=alt, showlegend=len(values) > 1)


def scale_along(scales: Sequence[float], largest: Sequence[float], skipped: Sequence[bool], title: str) -> Figure:
    """The scale of float16 after each step of a run, the largest scale for its gradient, and the steps skipped."""
    steps = list(range(len(scales)))
    figure = Figure().curve(steps, largest, "largest scale for the gradient", Look(GREY, "dash"), size=0)
    figure.curve(steps, scales, "the scaler's scale", 0, size=0)
    out = [step for step in steps if skipped[step]]
    figure.points(out, [scales[step] for step in out], "step skipped", Look(VERMILION, marker="x"), size=10)
    within = sum(mine <= most for mine, most in zip(scales, largest, strict=True)) / len(steps)
    alt = (
        f"The scale of float16 over {len(steps)} steps, logarithmic, beside the largest scale at which the step's "
        f"gradient would not overflow. The scale begins at {scales[0]:.0f} and ends at {scales[-1]:.0f}; after "
        f"{within:.0%} of the steps it is no larger than the largest for the step; steps skipped: "
        f"{', '.join(map(str, out)) or 'none'}."
    )
    y = {"title": "scale (no unit)", "type": "log", "exponentformat": "power", "dtick": 1}
    return figure.finish(title, "step", y, alt=alt)


def _image(sheet: Tensor) -> go.Image:
    """One colour picture (3, H, W) in [0, 1], stored as JPEG."""
    content = io.BytesIO()
    Image.fromarray((255 * sheet).round().byte().permute(1, 2, 0).numpy()).save(content, "JPEG", quality=85)
    source = base64.b64encode(content.getvalue()).decode()
    return go.Image(source=f"data:image/jpeg;base64,{source}", hoverinfo="skip")


# The fields of the metrics and their names, by panel.
PANELS = (
    {"loss": "loss, nats"},
    {"accuracy": "1-NN accuracy"},
    {"acceptance_rate": "acceptance rate", "encoded_again": "views encoded again, a view"},
    {"negative_similarity": "mean cosine"},  # of negatives
    {"learning_rate": "learning rate"},
)


def along_the_run(rows: Sequence[Row], title: str = "Along the run") -> Figure:
    """A run's metrics over its epochs, one below the other; a metric without values has no panel."""
    panels = [panel for panel in PANELS if any(next(iter(panel)) in row for row in rows)]
    figure = Figure().set_subplots(rows=len(panels), shared_xaxes=True, vertical_spacing=0.05)
    lines: dict[str, list[float]] = {}
    for place, panel in enumerate(panels, start=1):
        for number, (field, name) in enumerate(panel.items()):
            chosen = [row for row in rows if row.get(field) is not None]
            x, lines[name] = [row["epoch"] for row in chosen], [row[field] for row in chosen]
            figure.curve(x, lines[name], name, number, size=6, showlegend=len(panel) > 1, row=place, col=1)
        figure.update_yaxes(title=name if len(panel) == 1 else "share", row=place, col=1)
    figure.update_xaxes(title="epoch", row=len(panels), col=1)
    words = []
    for name, line in lines.items():
        if line:
            words.append(
                f"{name} from {line[0]:.3g} to {line[-1]:.3g}, at least {min(line):.3g}, at most {max(line):.3g}"
            )
    alt = (
        f"Metrics of a run over its epochs, in {len(panels)} panels one below the other, each from the first value to "
        f"the last: {'; '.join(words)}."
    )
    return figure.finish(title, height=120 + 150 * len(panels), alt=alt)


def page(figures: Sequence[go.Figure], title: str) -> str:
    """The figures as a page of HTML that needs no network, in the course's look."""
    html = f"<!doctype html><meta charset='utf-8'><title>{escape(title)}</title>"
    for number, figure in enumerate(figures):
        styled = go.Figure(figure).update_layout(template=template())
        html += styled.to_html(full_html=False, include_plotlyjs=number == 0, config=CONFIG)
    return html


def left_out(differences: Mapping[str, float]) -> Figure:
    """Distance of a resumed run from the uninterrupted run at their ends, by the part that the checkpoint lacked."""
    floor = min((value for value in differences.values() if value > 0), default=1e-6) / 10
    span = [math.log10(floor) - 0.3, math.log10(max(floor, *differences.values())) + 0.5]
    figure, words = Figure(), {}
    for place, (name, value) in enumerate(reversed(list(differences.items()))):
        words[name] = f"{name}: {value:.1e}" if value else f"{name}: exactly 0"
        figure.points([max(value, floor)], [place], "", int(value > 0), size=12, showlegend=False)
        label: dict[str, Any] = {
            "mode": "text",
            "text": [words[name]],
            "textposition": "middle right",
            "showlegend": False,
        }
        figure.points([10 ** span[0]], [place + 0.36], "", 0, **label)
    alt = (
        "Largest difference of a weight between a resumed run and the uninterrupted run, at their ends, by what was "
        f"left out of the checkpoint, on a logarithmic axis. {'; '.join(reversed(list(words.values())))}."
    )
    x = {"title": "largest difference of a weight", "type": "log", "exponentformat": "power", "range": span, "dtick": 1}
    y = {"showticklabels": False, "showgrid": False, "zeroline": False, "range": [-0.4, len(words) - 0.3]}
    return figure.finish("What the checkpoint leaves out", x, y, height=120 + 52 * len(words), alt=alt)


def accuracies(rows: Sequence[Row], value: str, title: str) -> Figure:
    """Accuracy on the test set over the batch size, a curve for each method: means over seeds with their intervals.

    `rows` are a sweep's `final`, of one temperature; `value` is "linear_probe" or "nearest_neighbour".
    """
    x, y = "batch size b (samples)", f"{MEASURES[value]}, share of test set"
    return curves(rows, "batch_size", value, title=title, x_title=x, y_title=y).update_yaxes(rangemode="normal")
