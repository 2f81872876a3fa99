"""Figures of training runs, chapters 07 and 08, and of the command ``sweep``."""

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots
from torch import Tensor
from torch.nn import functional as F
from torchvision.io import encode_jpeg
from torchvision.utils import make_grid

from emc2_lite.course.figures.laboratory import ABOVE, curves
from emc2_lite.course.style import BLUE, CONFIG, DASHES, GREEN, GREY, MARKERS, VERMILION, template

Row = Mapping[str, Any]
MEASURES = {"linear_probe": "linear probe", "nearest_neighbour": "1-NN"}


def colour_sheet(images: Tensor, title: str, rows: Sequence[str], columns: Sequence[str], zoom: int = 2) -> go.Figure:
    """Colour pictures in rows and columns: (R, C, 3, S, S) in [0, 1]; `zoom` is the side of a pixel on the screen."""
    count, side = images.shape[1], images.shape[-1]
    pixels = F.interpolate(images.flatten(0, 1), scale_factor=zoom, mode="nearest")
    sheet = make_grid(pixels, nrow=count, padding=4, pad_value=1.0)
    source = base64.b64encode(encode_jpeg((255 * sheet).round().byte(), quality=90).numpy().tobytes()).decode()
    figure = go.Figure(go.Image(source=f"data:image/jpeg;base64,{source}", hoverinfo="skip"))
    step = zoom * side + 4
    middles = [4 + zoom * side / 2 + step * i for i in range(max(images.shape[:2]))]
    figure.update_xaxes(tickvals=middles[: len(columns)], ticktext=list(columns), side="top", showgrid=False, ticks="")
    figure.update_yaxes(tickvals=middles[: len(rows)], ticktext=list(rows), showgrid=False, ticks="")
    return figure.update_layout(
        title={"text": title, "y": 0.97}, margin={"t": 90, "b": 20}, width=720, height=110 + step * len(images)
    )


def learning_rates(rates: Sequence[float], warmup_steps: int) -> go.Figure:
    """The learning rate of each step of a run, its warm-up shaded."""
    figure = go.Figure(go.Scatter(y=rates, mode="lines", line={"color": BLUE}, name="learning rate", showlegend=False))
    figure.add_vrect(x0=0, x1=warmup_steps, fillcolor=GREY, opacity=0.25, line_width=0)
    return figure.update_layout(
        title=f"Warm-up of {warmup_steps} steps, then half a cosine",
        xaxis={"title": "step"},
        yaxis={"title": "learning rate", "tickformat": "~e", "rangemode": "tozero"},
        height=340,
    )


PANELS = (
    (("loss", "loss, nats", BLUE),),
    (("accuracy", "1-NN accuracy", BLUE),),
    (("acceptance_rate", "acceptance rate", GREEN), ("encoded_again", "views encoded again, a view", VERMILION)),
    (("negative_similarity", "mean cosine", GREEN),),  # of negatives
    (("learning_rate", "learning rate", BLUE),),
)


def along_the_run(rows: Sequence[Row], title: str = "Along the run") -> go.Figure:
    """A run's metrics over its epochs, one under the other; what no row holds has no panel."""
    panels = [panel for panel in PANELS if any(panel[0][0] in row for row in rows)]
    figure = make_subplots(rows=len(panels), shared_xaxes=True, vertical_spacing=0.05)
    for row, panel in enumerate(panels, start=1):
        for style, (field, name, colour) in enumerate(panel):
            chosen = [r for r in rows if field in r]
            figure.add_scatter(
                x=[r["epoch"] for r in chosen],
                y=[r[field] for r in chosen],
                mode="lines+markers",
                name=name,
                line={"color": colour, "dash": DASHES[style]},
                marker={"symbol": MARKERS[style], "size": 6},
                showlegend=len(panel) > 1,
                row=row,
                col=1,
            )
        figure.update_yaxes(title=panel[0][1] if len(panel) == 1 else "share", row=row, col=1)
    figure.update_xaxes(title="epoch", row=len(panels), col=1)
    return figure.update_layout(
        title={"text": title, "y": 0.98}, legend=ABOVE, height=120 + 180 * len(panels), margin={"t": 90}
    )


def page(figures: Sequence[go.Figure], title: str) -> str:
    """The figures as a page of HTML that needs no network, in the course's look."""
    parts = [
        go.Figure(figure)
        .update_layout(template=template())
        .to_html(full_html=False, include_plotlyjs=number == 0, config=CONFIG)
        for number, figure in enumerate(figures)
    ]
    head = f"<!doctype html><meta charset='utf-8'><title>{escape(title)}</title>"
    return head + "".join(parts)


def left_out(differences: Mapping[str, float]) -> go.Figure:
    """How far a resumed run ends from the one that was not interrupted, by what its checkpoint lacked."""
    names = list(differences)[::-1]
    floor = min(value for value in differences.values() if value > 0) / 10
    figure = go.Figure()
    for name in names:
        exact = differences[name] == 0
        figure.add_scatter(
            x=[max(differences[name], floor)],
            y=[name],
            mode="markers+text",
            marker={"size": 12, "symbol": MARKERS[0 if exact else 1], "color": BLUE if exact else VERMILION},
            text=["exactly 0" if exact else f"{differences[name]:.1e}"],
            textposition="middle right",
            showlegend=False,
        )
    top = max(differences.values())
    figure.update_xaxes(title="largest difference of a weight at the end", type="log", exponentformat="power")
    figure.update_xaxes(range=[math.log10(floor) - 0.3, math.log10(top) + 0.8])
    return figure.update_layout(
        title="Resumed without ...", yaxis={"showgrid": False}, height=120 + 42 * len(names), margin={"l": 230}
    )


def accuracies(rows: Sequence[Row], value: str, title: str) -> go.Figure:
    """Accuracy on the test set over the batch size, a curve a method: means over seeds with their intervals.

    `rows` are a sweep's `final`, of one temperature; `value` is "linear_probe" or "nearest_neighbour".
    """
    return curves(
        rows,
        "batch_size",
        value,
        title=title,
        x_title="batch size b (samples)",
        y_title=f"{MEASURES[value]}, share of the test set",
    ).update_yaxes(rangemode="normal")
