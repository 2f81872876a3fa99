"""Figures of chapter 08: accuracies of features, and their uncertainty."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from emc2_lite.course.figures.parts import ABOVE, Figure, Look, Row, log, looks, reach, ticked
from emc2_lite.course.style import BLUE, GREY
from emc2_lite.evaluation import Interval, wilson


def measured(rows: Sequence[Row], title: str) -> Figure:
    """Accuracies of rows (by `row_of`) with their intervals: a line for each `features`, a marker for a `measure`."""
    names = list(dict.fromkeys(row["features"] for row in rows))[::-1]
    measures = list(dict.fromkeys(row["measure"] for row in rows))
    figure = Figure()
    for number, measure in enumerate(measures):
        chosen = [row for row in rows if row["measure"] == measure]
        offset = 0.22 * ((len(measures) - 1) / 2 - number)
        heights = [names.index(row["features"]) + offset for row in chosen]
        low, middle, high = ([row[field] for row in chosen] for field in ("low", "accuracy", "high"))
        figure.points(middle, heights, measure, number, size=9, error_x=reach(low, middle, high))
    y, height = ticked(names, range=[-0.6, len(names) - 0.4]), 190 + 62 * len(names)
    return figure.finish(title, "accuracy, share of the test images", y, ABOVE, height=height)


def luck_of_the_test_set(accuracy: float, sizes: Sequence[int]) -> Figure:
    """Wilson's interval around one accuracy, over the number of test images."""
    bounds = [wilson(round(accuracy * size), size) for size in sizes]
    figure = Figure().curve(sizes, [bound.high for bound in bounds], "highest", Look(BLUE, "dash"), size=0)
    figure.curve(sizes, [bound.low for bound in bounds], "lowest", Look(BLUE, "dot"), size=0)
    figure.level(sizes, accuracy, "measured", Look(GREY))
    ticks = [100, 360, 1000, 8000, 50000]
    x = log("test images", ticks, ticktext=[f"{tick:,}" for tick in ticks])
    title = f"What {accuracy:g} on the test images may stand for (95 %)"
    return figure.finish(title, x, "accuracy", ABOVE, height=380)


def best_of_many(candidates: Sequence[int], chosen: Mapping[str, Sequence[float]], true: float) -> Figure:
    """Mean reported accuracy of the best of several equally good candidates, by the images that chose the best."""
    figure = Figure().curves(candidates, chosen).add_hline(true, line={"color": GREY, "dash": "dot"})
    x, title = log("candidates", candidates), "The best of many equally good candidates"
    return figure.finish(title, x, "accuracy reported, mean", ABOVE, height=380)


def few_labels(counts: Sequence[int], curves: Mapping[str, Tensor]) -> Figure:
    """Accuracy over the labels a class: (draws, len(counts)) for each name; mean, lowest and highest draw."""
    figure = Figure()
    for name, look in looks(curves).items():
        figure.means(counts, curves[name], name, look)
    x, title = log("labelled images a class", counts), "Few labels: means, and the lowest and highest draw"
    return figure.finish(title, x, "accuracy, share of the test images", ABOVE, height=430)


def row_of(features: str, measure: str, accuracy: Interval) -> Row:
    """A row for `measured`: features, measure, accuracy, and low and high, the ends of its interval."""
    bounds = {"accuracy": accuracy.value, "low": accuracy.low, "high": accuracy.high}
    return {"features": features, "measure": measure, **bounds}
