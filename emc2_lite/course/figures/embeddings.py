"""Figures of chapters 00 and 08: images, maps of them, and accuracies with few labels."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from emc2_lite.course.figures.parts import BOTTOM_RIGHT, Figure, log, look, looks, pictures, ticked
from emc2_lite.course.style import COLOURS

ACCURACY = "1-NN accuracy on the test images (share)"


def picture_sheet(images: Tensor, title: str, columns: Sequence[str] = (), rows: Sequence[str] = ()) -> Figure:
    """A sheet of (rows, columns, 8, 8) images, with optional words over the columns and beside the rows."""
    height, width = images.shape[:2]
    figure = Figure(pictures(images))
    x = ticked(columns, showticklabels=bool(columns), range=[-0.5, width - 0.5], side="top")
    y = ticked(rows, showticklabels=bool(rows), range=[height - 0.5, -0.5], scaleanchor="x", constrain="domain")
    left, top = 90 if rows else 20, 85 if columns else 55
    margin = {"l": left, "r": 20, "t": top, "b": 10}
    return figure.finish(title, x, y, height=int(top + 10 + height * (700 - left) / width), margin=margin)


def class_map(maps: Mapping[str, Tensor], labels: Tensor, title: str) -> Figure:
    """Maps of the same images, (N, 2) each, side by side; an image is its label (N,), coloured."""
    figure = Figure().set_subplots(cols=len(maps), horizontal_spacing=0.04, subplot_titles=list(maps))
    colours = [COLOURS[label % len(COLOURS)] for label in labels.tolist()]
    words = {"mode": "text", "text": list(map(str, labels.tolist())), "textfont": {"color": colours, "size": 13}}
    for column, places in enumerate(maps.values(), start=1):
        figure.points(places[:, 0], places[:, 1], "", 0, size=8, hoverinfo="text", **words, row=1, col=column)
    hidden = {"showticklabels": False, "zeroline": False, "showgrid": False, "showline": True, "mirror": True}
    figure.update_xaxes(title="map coordinate 1 (no unit)", **hidden)
    figure.update_yaxes(**hidden)
    figure.update_yaxes(title="map coordinate 2 (no unit)", col=1)
    return figure.finish(title, height=460, showlegend=False, margin={"t": 85})


def few_label_accuracies(results: Mapping[str, Tensor]) -> Figure:
    """Accuracies (draws,) of each kind of features: a dot for each draw of the labels, a bar at their mean.

    The first word of a name ("pixels", "untrained", "trained") chooses the colour and the marker.
    """
    figure = Figure()
    for row, (name, accuracies) in enumerate(results.items()):
        heights = [row + 0.5 * ((0.618034 * i) % 1 - 0.5) for i in range(len(accuracies))]
        tip = "%{x:.3f}<extra></extra>"
        figure.points(accuracies, heights, name, look(name), size=6, marker_opacity=0.6, hovertemplate=tip)
        mean, own, ends = accuracies.mean().item(), look(name)._replace(dash="solid"), [row - 0.38, row + 0.38]
        figure.curve([mean, mean], ends, name, own, width=4, size=0, hovertemplate=f"mean {tip}")
    x, y = {"title": ACCURACY, "range": [0, 1]}, ticked(list(results), range=[len(results) - 0.5, -0.5])
    title = "One labelled image a class: a dot for each draw of the ten, a bar at the mean"
    return figure.finish(title, x, y, showlegend=False)


def label_curves(shots: Sequence[int], curves: Mapping[str, Tensor]) -> Figure:
    """Mean accuracy over the labelled images of a class: (seeds, len(shots)) for each name, a line for each seed."""
    figure = Figure()
    for name, own in looks(curves).items():
        for seed, accuracies in enumerate(curves[name]):
            figure.curve(shots, accuracies, name, own, legendgroup=name, showlegend=seed == 0)
    x, y = log("labelled images a class", shots), {"title": ACCURACY, "range": [0.4, 1.01]}
    return figure.finish("The fewer the labels, the more the embeddings have to do", x, y, BOTTOM_RIGHT)
