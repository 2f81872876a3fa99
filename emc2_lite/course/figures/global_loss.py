"""Figures of chapter 02: the global contrastive loss, its memory, and what a small batch gets wrong about it."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from emc2_lite.course.figures.parts import ABOVE, BELOW, BOTTOM_RIGHT, TOP_LEFT, Figure, Look, log, looks, pictures
from emc2_lite.course.style import BLUE, GREEN, GREY, PURPLE, VERMILION


def hardest(images: Tensor, shares: Tensor, labels: Sequence[int], negatives: int) -> Figure:
    """The anchor (first of the images (k + 1, 8, 8) and of the labels) and its k hardest negatives with p_r (k,)."""
    figure = Figure().set_subplots(rows=2, shared_xaxes=True, vertical_spacing=0.03, row_heights=[0.25, 0.75])
    places = [-0.4, *range(1, len(shares) + 1)]
    figure.add_traces([pictures(image[None, None], x) for image, x in zip(images, places, strict=True)])
    text = [f"{100 * share:.0f}" for share in shares.tolist()]
    figure.bars(places[1:], 100 * shares, "share", BLUE, text=text, textposition="outside", row=2, col=1)
    ticks = [f"anchor<br>a {labels[0]}", *(f"{k}<br>a {label}" for k, label in enumerate(labels[1:], start=1))]
    figure.update_xaxes(showgrid=False, zeroline=False)
    figure.update_xaxes(title="the hardest negatives, in order", tickvals=places, ticktext=ticks, row=2)
    figure.update_xaxes(visible=False, row=1)
    figure.update_yaxes(visible=False, autorange="reversed", row=1)
    figure.update_yaxes(title="share p of the push, %", range=[0, 118 * shares.max().item()], row=2)
    title = f"{len(shares)} of {negatives} negatives do {100 * shares.sum():.0f} % of the pushing"
    return figure.finish(title, showlegend=False, height=440)


def memory(samples: Sequence[int], megabytes: Mapping[str, Sequence[float]]) -> Figure:
    """Memory in MB over the number of samples, one curve for each way of computing the loss."""
    x, y = log("samples N, with two views each", tickformat=",~r"), log("memory, MB", tickformat=",~r")
    return Figure().curves(samples, megabytes).finish("Scores held at once: a square against a strip", x, y, TOP_LEFT)


def jensen(ratios: Tensor) -> Figure:
    """Each draw's mean of exp l, as a ratio (draws,) to the exact mean, on the curve of the logarithm."""
    mean, mean_log = ratios.mean().item(), ratios.log().mean().item()
    low, high = 0.9 * ratios.min().item(), 1.05 * ratios.max().item()
    x = [low * (high / low) ** (i / 200) for i in range(201)]
    figure = Figure().curve(x, [math.log(value) for value in x], "logarithm", Look(GREY), size=0)
    figure.points(ratios, ratios.log(), f"{len(ratios)} batches", Look(BLUE).hollow())
    figure.curve([mean, mean], [mean_log, math.log(mean)], "gap", Look(VERMILION), width=3, size=0)
    figure.points([mean], [math.log(mean)], "log of the mean", Look(GREEN, marker="square"), size=13)
    figure.points([mean], [mean_log], "mean of the logs", Look(VERMILION, marker="diamond"), size=13)
    title = f"The mean of the logs lies {math.log(mean) - mean_log:.2f} nats below the log of the mean"
    return figure.finish(title, "a batch's mean of exp l, exact mean = 1", "its logarithm, nats", BOTTOM_RIGHT)


def normaliser_errors(batch_sizes: Sequence[int], errors: Mapping[float, Sequence[Tensor]]) -> Figure:
    """Estimate minus exact log-normaliser, nats: by temperature, a tensor (rows seen,) for each batch size."""
    titles = [f"temperature {temperature:g}" for temperature in errors]
    figure = Figure().set_subplots(cols=len(errors), shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.03)
    for col, samples in enumerate(errors.values(), start=1):
        place = {"showlegend": col == 1, "row": 1, "col": col}
        low, high = ([sample.double().quantile(q).item() for sample in samples] for q in (0.05, 0.95))
        figure.band(batch_sizes, low, high, "5 to 95 % of the rows", **place)
        figure.curve(batch_sizes, [sample.mean().item() for sample in samples], "mean", 0, **place)
        figure.level(batch_sizes, 0, "exact", 1, **place)
    figure.update_xaxes(log("batch size b", batch_sizes, tickangle=0, tickfont={"size": 11}, showgrid=False))
    figure.update_yaxes(title="estimate minus exact, nats", col=1)
    return figure.finish("A batch's log-normaliser is too low", place=BELOW, margin_t=80)


def seen_by_a_batch(
    exact: Tensor, expected: Tensor, errors: Tensor, chance: float, batch_size: int, temperature: float
) -> Figure:
    """One anchor: exact shares (k,) of its hardest negatives beside their expected shares (k,) in a batch, and the
    errors (draws,) of the batch's log-normaliser, nats; `chance` is the probability that a negative is in the batch."""
    figure = Figure().set_subplots(cols=2, column_widths=[0.6, 0.4], horizontal_spacing=0.14)
    rank = range(1, len(exact) + 1)
    figure.bars(rank, 100 * exact, "exact p", GREY, row=1, col=1)
    figure.curve(rank, 100 * expected, "expected in a batch", 0, row=1, col=1)
    figure.level([0.4, len(rank) + 0.6], 100 * chance, "chance to be in the batch", 1, row=1, col=1)
    low, high = -1.4 / temperature, min(5.0, 0.7 / temperature)
    counts = torch.histc(errors.float().clamp(low, high), 45, low, high)
    centres = [low + (high - low) * (i + 0.5) / 45 for i in range(45)]
    shares, mean = 100 * counts / len(errors), errors.mean().item()
    top = 1.1 * shares.max().item()
    figure.bars(centres, shares, "batches", BLUE, opacity=0.5, row=1, col=2)
    for x, name, look in ((0.0, "exact", Look(GREEN)), (mean, "mean of the batches", Look(PURPLE, "dot"))):
        figure.curve([x, x], [0, top], name, look, width=3, size=0, row=1, col=2)
    figure.update_xaxes(title="hardest negatives, in order", showgrid=False, range=[0.3, len(rank) + 0.7], col=1)
    figure.update_yaxes(title="share of the push, %", range=[0, 115 * exact.max().item()], col=1)
    figure.update_xaxes(title="log-normaliser minus exact, nats", range=[low, high], zeroline=False, col=2)
    figure.update_yaxes(title="batches, %", range=[0, top], col=2)
    title = f"b = {batch_size}, temperature {temperature:g}: log-normaliser off by {mean:+.2f} nats on average"
    return figure.finish(title, place=ABOVE, margin_t=120, height=470, bargap=0.15)


def gradient_errors(
    batch_sizes: Sequence[int],
    errors: Mapping[float, Mapping[str, Tensor]],
    cosines: Mapping[float, Mapping[str, Tensor]],
    positive_part: Mapping[float, float],
) -> Figure:
    """Mean in-batch gradients against exact ones: by temperature and estimator, (encoders, batch sizes) of relative
    errors and of cosines; `positive_part` is the relative distance of the two exact gradients from each other."""
    titles = [f"temperature {temperature:g}" for temperature in errors]
    shared = {"shared_xaxes": True, "shared_yaxes": True, "vertical_spacing": 0.05}
    figure = Figure().set_subplots(rows=2, cols=len(errors), subplot_titles=titles, **shared)
    for row, by_temperature in ((1, errors), (2, cosines)):
        for col, results in enumerate(by_temperature.values(), start=1):
            for name, look in looks(results).items():
                place = {"showlegend": row == col == 1, "row": row, "col": col}
                figure.means(batch_sizes, results[name], name, look, **place)
    for col, part in enumerate(positive_part.values(), start=1):
        place = {"showlegend": col == 1, "row": 1, "col": col}
        figure.level(batch_sizes, part, "distance of the two limits", Look(VERMILION, "dot"), **place)
    figure.update_xaxes(log(None, batch_sizes, tickangle=0, showgrid=False))
    figure.update_xaxes(title="batch size b", row=2)
    figure.update_yaxes(title="relative error", rangemode="tozero", col=1, row=1)
    figure.update_yaxes(title="cosine", range=[0, 1.05], row=2)
    figure.update_yaxes(title=None, col=2, row=2)
    title = "The mean in-batch gradient: how far off (top), which way (bottom)"
    return figure.finish(title, place=BELOW, margin_t=90, height=650)


def averaging(steps: Sequence[int], errors: Mapping[str, Tensor], noises: Mapping[str, Tensor]) -> Figure:
    """Relative error of a mean over steps, by estimator (seeds, checkpoints), and the part that is sampling noise."""
    figure = Figure()
    styles = looks(errors)
    for name, values in errors.items():
        mean = values.mean(dim=0)
        reach = {"type": "data", "array": (values - mean).abs().amax(dim=0).tolist(), "thickness": 1.5}
        figure.curve(steps, mean, name, styles[name], error_y=reach)
    for name, values in noises.items():
        look = styles[name].hollow()._replace(dash="dashdot")
        figure.curve(steps, values.mean(dim=0), f"{name}: noise alone", look, width=1, size=12)
    x = log("steps averaged", steps, showgrid=False)
    y = log("relative error of the mean gradient", [0.02, 0.05, 0.1, 0.2, 0.5, 1])
    return figure.finish("Averaging removes the noise and leaves the bias", x, y, BELOW, height=510)
