"""Figures of chapter 08: accuracies of features, and their uncertainty."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from emc2_lite.course.figures.parts import Figure, Look, Row, log, looks, reach, ticked
from emc2_lite.course.style import BLUE, GREY

ACCURACY = "accuracy (share of test images)"
Bounds = Callable[[int, int], Sequence]  # (successes, count) -> the two ends of an interval


def measured(rows: Sequence[Row], title: str) -> Figure:
    """Accuracies of rows (by `row_of`) with their intervals: a line for each `features`, a marker for a `measure`."""
    figure = _intervals(rows, "features", "measure", "accuracy")
    low, high = (pick(rows, key=lambda row: row["accuracy"]) for pick in (min, max))
    widths = [row["high"] - row["low"] for row in rows]
    ends = (f"{row['accuracy']:.3f} by {row['measure']} ({row['features']})" for row in (low, high))
    alt = (
        f"Accuracies with 95 % intervals, a line for each kind of features ({_names(rows, 'features')}) and a marker "
        f"for each measure ({_names(rows, 'measure')}). They lie between {' and '.join(ends)}. The intervals are "
        f"{min(widths):.3f} to {max(widths):.3f} wide, "
        f"and {_sharing(rows)} of the {len(rows)} hold the number {high['low']:.3f}, the lower end of the highest."
    )
    return figure.finish(title, ACCURACY, _lines(rows, "features"), alt=alt)


def differences(rows: Sequence[Row], title: str) -> Figure:
    """Differences of accuracies with their intervals, a line for each `what`, a marker for each `luck`; a rule at 0."""
    figure = _intervals(rows, "what", "luck", "difference").add_vline(0, line={"color": GREY, "dash": "dot"})
    said = [
        f"{row['what']}, {row['luck']}: {row['difference']:+.4f} ({row['low']:+.4f} to {row['high']:+.4f})"
        for row in rows
    ]
    holding = sum(row["low"] <= 0 <= row["high"] for row in rows)
    alt = f"Differences with 95 % intervals. {'; '.join(said)}. {holding} of the {len(rows)} intervals hold 0."
    return figure.finish(title, "difference of the accuracies", _lines(rows, "what"), alt=alt)


def luck_of_the_test_set(accuracy: float, sizes: Sequence[int], interval: Bounds) -> Figure:
    """The interval around one accuracy, (successes, count) -> (low, high), over the number of test images."""
    ends = [tuple(map(float, interval(round(accuracy * size), size))) for size in sizes]
    low, high = ([end[place] for end in ends] for place in (0, 1))
    figure = Figure().curve(sizes, high, "highest", Look(BLUE, "dash"), size=0)
    figure.curve(sizes, low, "lowest", Look(BLUE, "dot"), size=0)
    figure.level(sizes, accuracy, "measured", Look(GREY))
    ticks = [100, 1000, 10000]
    x = log("test images", ticks, ticktext=[f"{tick:,}" for tick in ticks])
    alt = (
        f"Two curves around the measured accuracy {accuracy:g}, over the number of test images (a logarithmic axis): "
        f"the lowest and the highest true accuracy of a 95 % interval. With {sizes[0]:,} images it goes from "
        f"{low[0]:.3f} to {high[0]:.3f}, with {sizes[-1]:,} from {low[-1]:.4f} to {high[-1]:.4f}."
    )
    return figure.finish(f"What {accuracy:g} may stand for (95 %)", x, "accuracy (share)", height=380, alt=alt)


def best_of_many(candidates: Sequence[int], chosen: Mapping[str, Sequence[float]], true: float) -> Figure:
    """Mean reported accuracy of the best of several equally good candidates, by the images that chose the best."""
    figure = Figure().curves(candidates, chosen)
    figure.level(candidates, true, "true accuracy of each", Look(GREY, "dot"))
    x, title = log("candidates", candidates), "The best of many equally good candidates"
    said = [f"{name}: from {values[0]:.3f} to {values[-1]:.3f}" for name, values in chosen.items()]
    alt = (
        f"Mean accuracy reported for the best of {candidates[0]} to {candidates[-1]} candidates, each truly worth "
        f"{true:g} (dotted): {'; '.join(said)}."
    )
    return figure.finish(title, x, "mean accuracy reported", height=400, alt=alt)


def few_labels(counts: Sequence[int], curves: Mapping[str, Tensor]) -> Figure:
    """Accuracy over the labels a class: (draws, len(counts)) for each name; mean, lowest and highest draw."""
    figure = Figure()
    for name, look in looks(curves).items():
        figure.means(counts, curves[name], name, look)
    x, title = log("labelled images a class", counts), "Few labels: mean, lowest, highest draw"
    alt = (
        f"Accuracy of the linear probe over the labelled images a class, from {counts[0]} to {counts[-1]} on a "
        f"logarithmic axis; bars go from the lowest to the highest draw. The means rise: {_rises(curves)}."
    )
    return figure.finish(title, x, ACCURACY, height=430, alt=alt)


def row_of(features: str, measure: str, accuracy: float, low: float, high: float) -> Row:
    """A row for `measured`: an accuracy and the ends of its interval."""
    return {"features": features, "measure": measure, "accuracy": accuracy, "low": low, "high": high}


def row_of_difference(what: str, luck: str, difference: float, low: float, high: float) -> Row:
    """A row for `differences`: a difference and the ends of its interval."""
    return {"what": what, "luck": luck, "difference": difference, "low": low, "high": high}


def _intervals(rows: Sequence[Row], line: str, marker: str, value: str) -> Figure:
    """A horizontal interval for each row: the field `line` is its line, `marker` its marker, `value` its middle."""
    names = list(dict.fromkeys(row[line] for row in rows))[::-1]
    kinds = list(dict.fromkeys(row[marker] for row in rows))
    figure = Figure()
    for number, kind in enumerate(kinds):
        chosen = [row for row in rows if row[marker] == kind]
        offset = 0.22 * ((len(kinds) - 1) / 2 - number)
        heights = [names.index(row[line]) + offset for row in chosen]
        low, middle, high = ([row[field] for row in chosen] for field in ("low", value, "high"))
        figure.points(middle, heights, kind, number, size=9, error_x=reach(low, middle, high))
    return figure.update_layout(height=190 + 62 * len(names))


def _lines(rows: Sequence[Row], line: str) -> dict:
    """The vertical axis of `_intervals`."""
    names = list(dict.fromkeys(row[line] for row in rows))[::-1]
    return ticked(names, range=[-0.6, len(names) - 0.4])


def _names(rows: Sequence[Row], field: str) -> str:
    return ", ".join(dict.fromkeys(row[field] for row in rows))


def _sharing(rows: Sequence[Row]) -> int:
    """How many of the intervals hold the lower end of the interval of the highest accuracy."""
    number = max(rows, key=lambda row: row["accuracy"])["low"]
    return sum(row["low"] <= number <= row["high"] for row in rows)


def _rises(curves: Mapping[str, Tensor]) -> str:
    ends = {name: (draws[:, 0].mean().item(), draws[:, -1].mean().item()) for name, draws in curves.items()}
    return ", ".join(f"{name} from {first:.3f} to {last:.3f}" for name, (first, last) in ends.items())
