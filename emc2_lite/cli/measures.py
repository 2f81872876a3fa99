"""The rows of an evaluation as lines, each with a phrase that says what the number is."""

from collections.abc import Iterator

from emc2_lite.records import Row, Rows
from emc2_lite.runs.evaluate import PAPER_PROBE

PHRASES = {
    "1-NN": "the class of the nearest training image is right",
    "20-NN, weighted": "the 20 nearest training images vote, the nearer the more",
    "linear probe, tuned": "a linear classifier of the features: what they are worth with all labels",
    PAPER_PROBE: "the classifier of the paper's code: compare it with the paper's tables alone",
}
FEW = "the same classifier from few labels"
SUPERVISED = "the same network trained on the labels alone"
TUNED = "linear probe, tuned"


def explained(rows: Rows) -> Iterator[str]:
    """A line a row: measure, accuracy on the test set, 95 % interval or the draw of the labels, phrase.

    The phrase of a supervised baseline ends with the probe's distance to the baseline, where both have the same labels.
    """
    cells = [(row["measure"], f"{row['accuracy']:.3f}", _spread(row), _phrase(row, rows)) for row in rows]
    measure, spread = (max(len(cell[column]) for cell in cells) for column in (0, 2))
    for cell in cells:
        yield f"{cell[0]:{measure}}  {cell[1]}  {cell[2]:{spread}}  {cell[3]}"


def _spread(row: Row) -> str:
    return f"({row['low']:.3f} to {row['high']:.3f})" if "low" in row else f"draw {row['draw']}"


def _phrase(row: Row, rows: Rows) -> str:
    name = row["measure"]
    if not name.startswith("supervised, "):
        return PHRASES.get(name, FEW)
    labels = name.removeprefix("supervised, ")
    probe = f"linear probe, {labels}" if "labels a class" in labels else TUNED
    accuracies = [other["accuracy"] for other in rows if other["measure"] == probe]
    if not accuracies:
        return SUPERVISED
    return f"{SUPERVISED}; the probe has {sum(accuracies) / len(accuracies) - row['accuracy']:+.3f}"
