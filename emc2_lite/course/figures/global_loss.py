"""Figures of chapter 02: the global contrastive loss, its memory, and what a small batch gets wrong about it."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from emc2_lite.course.figures.parts import Figure, Look, log, looks, pictures
from emc2_lite.course.style import BLUE, GREEN, GREY, PURPLE, VERMILION


def hardest(images: Tensor, shares: Tensor, labels: Sequence[int], negatives: int) -> Figure:
    """The anchor (first of the images (k + 1, 8, 8) and of the labels) and its k hardest negatives with p_r (k,)."""
    figure = Figure().set_subplots(rows=2, shared_xaxes=True, vertical_spacing=0.03, row_heights=[0.25, 0.75])
    places = [-1, *range(1, len(shares) + 1)]
    figure.add_traces([pictures(image[None, None], x) for image, x in zip(images, places, strict=True)])
    text = [f"{100 * share:.0f}" for share in shares.tolist()]
    figure.bars(places[1:], 100 * shares, "share", BLUE, text=text, textposition="outside", row=2, col=1)
    ticks = [f"anchor:<br>{labels[0]}", *map(str, labels[1:])]
    figure.update_xaxes(showgrid=False, zeroline=False)
    figure.update_xaxes(title="digit, hardest negatives first", tickvals=places, ticktext=ticks, tickangle=0, row=2)
    figure.update_xaxes(visible=False, row=1)
    figure.update_yaxes(visible=False, autorange="reversed", row=1)
    figure.update_yaxes(title="share p of the push, %", range=[0, 118 * shares.max().item()], row=2)
    title = f"{len(shares)} of {negatives} negatives: {100 * shares.sum():.0f} % of the push"
    alt = (
        f"An anchor, the digit {labels[0]}, its {len(shares)} hardest negatives as pictures, and below each a bar, its "
        f"share p of the push. The shares fall from {100 * shares[0]:.0f} to {100 * shares[-1]:.0f} %, together "
        f"{100 * shares.sum():.0f} % of the push of {negatives} negatives. "
        f"{sum(label == labels[0] for label in labels[1:])} of the {len(shares)} show the anchor's own digit."
    )
    return figure.finish(title, alt=alt, showlegend=False, height=440)


def memory(samples: Sequence[int], megabytes: Mapping[str, Sequence[float]]) -> Figure:
    """Memory over the number of samples, from MB, one curve for each way of computing the loss."""
    x = log("samples N, with two views each", tickformat="~s")
    ends = ", ".join(f"{name}: {values[0]:,.1f} to {values[-1]:,.1f} MB" for name, values in megabytes.items())
    alt = f"Memory in MB over N from {samples[0]:,} to {samples[-1]:,} samples, both axes logarithmic. {ends}."
    figure = Figure().curves(samples, {name: [1e6 * value for value in values] for name, values in megabytes.items()})
    y = log("memory, bytes", dtick=2, tickformat="~s")
    return figure.finish("Scores held at once: a square against a strip", x, y, alt=alt, height=460)


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
    gap = math.log(mean) - mean_log
    alt = (
        f"{len(ratios)} batches on the curve of the logarithm, which bends down: a batch's mean of exp l, from "
        f"{ratios.min():.2f} to {ratios.max():.2f} times the exact one, against its logarithm. The log of the mean is "
        f"{math.log(mean):+.2f} nats, the mean of the logs {mean_log:+.2f} nats, so {gap:.2f} nats lower."
    )
    title = f"Mean of the logs: {gap:.2f} nats below the log of the mean"
    return figure.finish(title, "mean of exp l (exact mean = 1)", "its logarithm, nats", alt=alt, height=460)


def normaliser_errors(batch_sizes: Sequence[int], errors: Mapping[float, Sequence[Tensor]]) -> Figure:
    """Estimate minus exact log-normaliser, nats: by temperature, a tensor (rows seen,) for each batch size."""
    titles, said = [f"temperature {temperature:g}" for temperature in errors], []
    spaced = {"vertical_spacing": 0.08, "subplot_titles": titles}
    figure = Figure().set_subplots(rows=len(errors), shared_xaxes=True, **spaced)
    for row, (title, samples) in enumerate(zip(titles, errors.values(), strict=True), start=1):
        place = {"showlegend": row == 1, "row": row, "col": 1}
        low, high = ([sample.double().quantile(part).item() for sample in samples] for part in (0.05, 0.95))
        mean = [sample.mean().item() for sample in samples]
        figure.band(batch_sizes, low, high, "5 to 95 % of the rows", **place)
        figure.curve(batch_sizes, mean, "mean", 0, **place)
        figure.level(batch_sizes, 0, "exact", 1, **place)
        said.append(
            f"At {title} the mean goes from {mean[0]:z.2f} to {mean[-1]:z.2f} nats; at b = {batch_sizes[0]}, 5 to 95 % "
            f"of the rows lie from {low[0]:.1f} to {high[0]:.1f} nats."
        )
    figure.update_xaxes(log(None, batch_sizes, tickangle=0, showgrid=False))
    figure.update_xaxes(title="batch size b, samples", row=len(errors))
    figure.update_yaxes(title="estimate minus exact, nats", row=(len(errors) + 1) // 2)
    alt = (
        f"A batch's estimate of the log-normaliser minus the exact one, over batch sizes from {batch_sizes[0]} to "
        f"{batch_sizes[-1]}, in {len(errors)} panels. {' '.join(said)}"
    )
    return figure.finish("A batch's log-normaliser is too low on average", alt=alt, margin_t=80, height=640)


def seen_by_a_batch(
    exact: Tensor, expected: Tensor, errors: Tensor, chance: float, batch_size: int, temperature: float
) -> Figure:
    """One anchor: exact shares (k,) of its hardest negatives beside their expected shares (k,) in a batch, and the
    errors (draws,) of the batch's log-normaliser, nats; `chance` is the probability that a negative is in the batch."""
    rank, below = range(1, len(exact) + 1), {"xaxis": "x2", "yaxis": "y2"}
    figure = Figure().bars(rank, 100 * exact, "exact p", GREY)
    figure.curve(rank, 100 * expected, "expected in a batch", 0)
    figure.level([0.4, len(rank) + 0.6], 100 * chance, "chance to be in the batch", 1)
    low, high = -1.4 / temperature, min(5.0, 0.7 / temperature)
    counts = torch.histc(errors.float().clamp(low, high), 45, low, high)
    centres = [low + (high - low) * (i + 0.5) / 45 for i in range(45)]
    shares, mean = 100 * counts / len(errors), errors.mean().item()
    top = 1.1 * shares.max().item()
    figure.bars(centres, shares, "batches", BLUE, opacity=0.5, showlegend=False, **below)
    figure.curve([mean, mean], [0, top], "mean of the batches", Look(PURPLE, "dot"), width=3, size=0, **below)
    x = {"title": "hardest negatives, in order", "showgrid": False, "range": [0.3, len(rank) + 0.7]}
    y = {"title": "share of the push, %", "range": [0, 115 * exact.max().item()], "domain": [0.6, 1]}
    x2 = {"title": "log-normaliser minus exact, nats", "range": [low, high], "zerolinewidth": 2, "anchor": "y2"}
    y2 = {"title": "batches, %", "range": [0, top], "domain": [0, 0.4]}
    alt = (
        f"Batches of {batch_size} at temperature {temperature:g}. Above, the {len(exact)} hardest negatives of an "
        f"anchor: the first has an exact share of {100 * exact[0]:.1f} % and an expected share in a batch of "
        f"{100 * expected[0]:.1f} %; together they have {100 * exact.sum():.0f} % and {100 * expected.sum():.0f} %. "
        f"The chance to be in the batch is {100 * chance:.1f} %. Below, a histogram of the batches' log-normalisers "
        f"minus the exact one, from {errors.min():.1f} to {errors.max():.1f} nats, with the mean at {mean:+z.2f} nats."
    )
    title = f"Log-normaliser off by {mean:+z.2f} nats on average"
    layout = {"xaxis2": x2, "yaxis2": y2, "height": 600, "bargap": 0.15}
    return figure.finish(title, x, y, alt=alt, **layout)


def gradient_bias(
    batch_sizes: Sequence[int], errors: Mapping[str, Tensor], limit: float, temperature: float, samples: int
) -> Figure:
    """Relative error of the mean in-batch gradient: by estimator, (encoders, batch sizes), in a set of `samples`;
    `limit` is the relative distance of the two exact gradients from each other."""
    figure, said = Figure(), []
    for name, look in looks(errors).items():
        figure.means(batch_sizes, errors[name], name, look)
        mean = errors[name].mean(dim=0)
        said.append(f"{name}: {mean[0]:.2f} to {mean[-1]:.2f}")
    figure.level(batch_sizes, limit, "∇L⁺ against ∇L", Look(VERMILION, "dot"))
    alt = (
        f"Relative error of the mean in-batch gradient at temperature {temperature:g} in a set of {samples} samples, "
        f"over batch sizes from {batch_sizes[0]} to {batch_sizes[-1]}. {'; '.join(said)}. "
        f"A dotted line at {limit:.2f} is the distance of the two exact gradients."
    )
    x = log("batch size b, samples", [2, 4, 8, 16, 32, 64, 128, 256], range=[0.2, 2.5], tickangle=0, showgrid=False)
    y = {"title": "relative error", "range": [0, 2]}
    return figure.finish("Bias of the mean gradient of a batch", x, y, alt=alt, height=460)


def directions(batch_sizes: Sequence[int], cosines: Mapping[float, Mapping[str, Tensor]]) -> Figure:
    """Cosines of mean in-batch gradients with exact ones: by temperature and estimator, (encoders, batch sizes)."""
    titles, said = [f"T = {temperature:g}" for temperature in cosines], []
    figure = Figure().set_subplots(cols=len(cosines), shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.06)
    for col, (title, results) in enumerate(zip(titles, cosines.values(), strict=True), start=1):
        for name, look in looks(results).items():
            figure.means(batch_sizes, results[name], name, look, showlegend=col == 1, row=1, col=col)
        means = {name: values.mean(dim=0) for name, values in results.items()}
        ends = [f"{name} {mean[0]:.2f} to {mean[-1]:.2f}, lowest {mean.min():.2f}" for name, mean in means.items()]
        said.append(f"At {title}: {'; '.join(ends)}.")
    ticks = [2, 8, 32, 128]
    figure.update_xaxes(log("batch size b", ticks, tickangle=0, showgrid=False))
    figure.update_yaxes(title="cosine", range=[0, 1.05], col=1)
    alt = (
        "Cosine of the angle between the mean in-batch gradient and the exact one, over batch sizes from "
        f"{batch_sizes[0]} to {batch_sizes[-1]}, in {len(cosines)} panels. {' '.join(said)}"
    )
    title = "Direction of the mean gradient of a batch"
    return figure.finish(title, alt=alt, margin_t=80, height=460)


def averaging(steps: Sequence[int], errors: Mapping[str, Tensor], noises: Mapping[str, Tensor]) -> Figure:
    """Relative error of a mean over steps, by estimator (seeds, checkpoints), and the part that is sampling noise."""
    figure, said = Figure(), []
    styles = looks(errors)
    for name, values in errors.items():
        mean = values.mean(dim=0)
        reach = {"type": "data", "array": (values - mean).abs().amax(dim=0).tolist(), "thickness": 1.5}
        figure.curve(steps, mean, name, styles[name], error_y=reach)
        noise = noises[name].mean(dim=0)
        said.append(f"{name}: {mean[0]:.2f} to {mean[-1]:.2f}, noise alone {noise[0]:.2f} to {noise[-1]:.2f}.")
    for name, values in noises.items():
        look = styles[name].hollow()._replace(dash="dashdot")
        figure.curve(steps, values.mean(dim=0), f"{name}: noise alone", look, width=1, size=12)
    x = log("steps averaged", steps, showgrid=False)
    y = log("relative error of the mean", [0.02, 0.05, 0.1, 0.2, 0.5, 1])
    alt = (
        f"Relative error of the mean gradient over {steps[0]:,} to {steps[-1]:,} steps, both axes logarithmic. "
        f"{' '.join(said)}"
    )
    return figure.finish("Averaging removes noise, not bias", x, y, alt=alt, height=510)
