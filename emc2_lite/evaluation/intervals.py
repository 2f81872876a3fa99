"""How sure an estimate is."""

from typing import Annotated, NamedTuple

from torch import Tensor

from emc2_lite.checks import Bounds, checked_settings


class Interval(NamedTuple):
    """An estimate and its 95 % confidence interval, in the units of the estimate."""

    value: float
    low: float
    high: float


@checked_settings
def wilson(
    successes: Annotated[int, Bounds(least=0)],
    count: Annotated[int, Bounds(least=1, most=10**15)],
    confidence: Annotated[float, Bounds(above=0, below=1)] = 0.95,
) -> Interval:
    """The share successes / count, with Wilson's score interval: it stays in [0, 1] and holds for shares near 0 and 1.

    With p the share, n the count and z the normal quantile at (1 + confidence) / 2, the bounds are

        (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n).

    Raises: ValueError: on a count below 1, successes outside 0 to count, or a confidence outside (0, 1).
    Source: Wilson 1927, Probable inference, the law of succession, and statistical inference.

    >>> [round(number, 3) for number in wilson(8, 10)]
    [0.8, 0.49, 0.943]
    """
    from scipy.stats import binomtest

    if successes > count:
        raise ValueError(f"successes is {successes}: it must be at most count, {count}.")
    low, high = binomtest(successes, count).proportion_ci(confidence, method="wilson")
    return Interval(successes / count, float(low), float(high))


def accuracy(scores: Tensor, labels: Tensor) -> Interval:
    """Share of rows (n, C) whose largest score is the label's (n,), with Wilson's 95 % interval over draws of rows."""
    return wilson(int((scores.argmax(dim=1) == labels).sum()), len(labels))
