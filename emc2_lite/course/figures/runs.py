"""Figures of training runs, chapters 07 and 08, and of the command ``sweep``."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from html import escape

import plotly.graph_objects as go
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from emc2_lite.course.figures.laboratory import curves
from emc2_lite.course.figures.parts import ABOVE, Figure, Row, from_zero
from emc2_lite.course.style import CONFIG, GREY, template

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
    return figure.finish(title, title_y=0.97, margin={"t": 90, "b": 20}, width=720, height=110 + step * len(images))


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
    return figure.finish(title, x, {**y, "scaleanchor": "x"}, width=720, height=720)


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
    x, y = "labelled images a class", "linear probe, share of the test set"
    return curves(points, "labels", "probe", title=title, x_title=x, y_title=y)


def learning_rates(rates: Sequence[float], warmup_steps: int) -> Figure:
    """The learning rate of each step of a run, its warm-up shaded."""
    figure = Figure().curve(range(len(rates)), rates, "learning rate", 0, size=0, showlegend=False)
    figure.add_vrect(x0=0, x1=warmup_steps, fillcolor=GREY, opacity=0.25, line_width=0)
    y = {**from_zero("learning rate"), "tickformat": "~e"}
    return figure.finish(f"Warm-up of {warmup_steps} steps, then half a cosine", "step", y, height=340)


def _image(sheet: Tensor) -> go.Image:
    """One colour picture (3, H, W) in [0, 1], stored as JPEG."""
    content = io.BytesIO()
    Image.fromarray((255 * sheet).round().byte().permute(1, 2, 0).numpy()).save(content, "JPEG", quality=90)
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
    for place, panel in enumerate(panels, start=1):
        for number, (field, name) in enumerate(panel.items()):
            chosen = [row for row in rows if field in row]
            x, y = [row["epoch"] for row in chosen], [row[field] for row in chosen]
            figure.curve(x, y, name, number, size=6, showlegend=len(panel) > 1, row=place, col=1)
        figure.update_yaxes(title=name if len(panel) == 1 else "share", row=place, col=1)
    figure.update_xaxes(title="epoch", row=len(panels), col=1)
    return figure.finish(title, place=ABOVE, height=120 + 180 * len(panels))


def page(figures: Sequence[go.Figure], title: str) -> str:
    """The figures as a page of HTML that needs no network, in the course's look."""
    html = f"<!doctype html><meta charset='utf-8'><title>{escape(title)}</title>"
    for number, figure in enumerate(figures):
        styled = go.Figure(figure).update_layout(template=template())
        html += styled.to_html(full_html=False, include_plotlyjs=number == 0, config=CONFIG)
    return html


def left_out(differences: Mapping[str, float]) -> Figure:
    """Distance of a resumed run from the uninterrupted run at their ends, by the part that the checkpoint lacked."""
    floor = min(value for value in differences.values() if value > 0) / 10
    figure = Figure()
    for name, value in reversed(list(differences.items())):
        text = {"text": [f"{value:.1e}" if value else "exactly 0"], "textposition": "middle right", "showlegend": False}
        figure.points([max(value, floor)], [name], "", int(value > 0), size=12, mode="markers+text", **text)
    span = [math.log10(floor) - 0.3, math.log10(max(differences.values())) + 0.8]
    x = {"title": "largest difference of a weight at the end", "type": "log", "exponentformat": "power", "range": span}
    height = 120 + 42 * len(differences)
    return figure.finish("Resumed without ...", x, {"showgrid": False}, height=height, margin={"l": 230})


def accuracies(rows: Sequence[Row], value: str, title: str) -> Figure:
    """Accuracy on the test set over the batch size, a curve for each method: means over seeds with their intervals.

    `rows` are a sweep's `final`, of one temperature; `value` is "linear_probe" or "nearest_neighbour".
    """
    x, y = "batch size b (samples)", f"{MEASURES[value]}, share of the test set"
    return curves(rows, "batch_size", value, title=title, x_title=x, y_title=y).update_yaxes(rangemode="normal")
