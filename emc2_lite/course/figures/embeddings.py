"""Figures of chapters 00 and 08: images, maps of them, and accuracies with few labels."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from emc2_lite.course.figures.parts import Figure, log, look, looks, pictures, ticked
from emc2_lite.course.style import COLOURS, INK

ACCURACY = "accuracy by 1-NN (share)"


def picture_sheet(images: Tensor, title: str, columns: Sequence[str] = (), rows: Sequence[str] = ()) -> Figure:
    """A sheet of (rows, columns, 8, 8) images, with optional words over the columns and beside the rows."""
    height, width, *size = images.shape
    figure = Figure(pictures(images))
    x = ticked(columns, showticklabels=bool(columns), range=[-0.5, width - 0.5], side="top")
    squares = {"scaleanchor": "x", "constrain": "domain", "constraintoward": "top"}
    y = ticked(rows, showticklabels=bool(rows), range=[height - 0.5, -0.5], **squares)
    left, top = 90 if rows else 20, 85 if columns else 55
    margin = {"l": left, "r": 20, "t": top, "b": 10}
    named = {"Columns": columns, "Rows": rows}
    beside = "".join(f" {side}: {', '.join(words)}." for side, words in named.items() if words)
    alt = (
        f"A sheet of {height} by {width} pictures, each {size[0]} by {size[1]} pixels, dark on light.{beside} {title}."
    )
    tall = min(420, height * (650 - left) / width)  # a narrow page leaves the rest of it empty
    return figure.finish(title, x, y, height=int(top + 10 + tall), margin=margin, alt=alt)


def class_map(maps: Mapping[str, Tensor], labels: Tensor, title: str) -> Figure:
    """Maps of the same images, (N, 2) each, side by side; an image is its label (N,), coloured."""
    figure = Figure().set_subplots(cols=len(maps), horizontal_spacing=0.04, subplot_titles=list(maps))
    colours = [COLOURS[label % len(COLOURS)] for label in labels.tolist()]
    words = {"mode": "markers+text", "text": list(map(str, labels.tolist())), "textfont": {"color": INK, "size": 10}}
    discs = {"marker": {"color": colours, "size": 11, "opacity": 0.3}}
    for column, places in enumerate(maps.values(), start=1):
        figure.points(places[:, 0], places[:, 1], "", 0, hoverinfo="text", **words, **discs, row=1, col=column)
    hidden = {"showticklabels": False, "zeroline": False, "showgrid": False, "showline": True, "mirror": True}
    figure.update_xaxes(title="coordinate 1", **hidden)
    figure.update_yaxes(**hidden)
    figure.update_yaxes(title="coordinate 2 (no unit)", col=1)
    shares = [f"{_together(places, labels):.0%} in {name}" for name, places in maps.items()]
    alt = (
        f"{len(maps)} map{'s' * (len(maps) > 1)} of the same {len(labels)} images, each image drawn as its class, a "
        f"digit on a coloured disc. Share of the images whose nearest one on the map has the same class: "
        f"{', '.join(shares)}."
    )
    return figure.finish(title, height=460, showlegend=False, alt=alt)


def _together(places: Tensor, labels: Tensor) -> float:
    """Share of the images whose nearest other image on the map has their label."""
    distances = torch.cdist(places.double(), places.double()).fill_diagonal_(torch.inf)
    return (labels[distances.argmin(dim=1)] == labels).double().mean().item()


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
    said = [f"{name} {a.mean():.3f} ({a.min():.3f} to {a.max():.3f})" for name, a in results.items()]
    count = len(next(iter(results.values())))
    alt = (
        f"1-NN accuracies with one labelled image a class: a dot for each of {count} draws, a bar at their mean. "
        f"Mean, lowest and highest: {'; '.join(said)}."
    )
    return figure.finish("One labelled image a class: draws and means", x, y, showlegend=False, alt=alt)


def label_curves(shots: Sequence[int], curves: Mapping[str, Tensor]) -> Figure:
    """Mean accuracy over the labelled images of a class: (seeds, len(shots)) for each name, a line for each seed."""
    figure = Figure()
    for name, own in looks(curves).items():
        for seed, accuracies in enumerate(curves[name]):
            figure.curve(shots, accuracies, name, own, legendgroup=name, showlegend=seed == 0)
    x, y = log("labelled images a class", shots), {"title": ACCURACY, "range": [0.4, 1.01]}
    ends = {name: accuracies.mean(dim=0) for name, accuracies in curves.items()}
    said = [f"{name} from {mean[0]:.3f} to {mean[-1]:.3f}" for name, mean in ends.items()]
    alt = (
        f"Accuracy over the labelled images a class, from {shots[0]} to {shots[-1]} on a logarithmic axis, a line for "
        f"each seed. Means over the seeds: {', '.join(said)}."
    )
    return figure.finish("The fewer the labels, the more the embeddings have to do", x, y, alt=alt)
