"""How sure an estimate is."""

from typing import Annotated, NamedTuple

from scipy import stats
from torch import Tensor

from emc2_lite.checks import Bounds, checked_settings


class Interval(NamedTuple):
    """An estimate and its 95 % confidence interval, in the units of what is estimated."""

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

    Raises:
        ValueError: on a count below 1, successes outside 0 to count, or a confidence outside (0, 1).

    Source: Wilson 1927, Probable inference, the law of succession, and statistical inference.
    """
    if successes > count:
        raise ValueError(f"successes is {successes}: it must be at most count, {count}.")
    share, z = successes / count, float(stats.norm.ppf((1 + confidence) / 2))
    centre = share + z**2 / (2 * count)
    reach = z * (share * (1 - share) / count + z**2 / (4 * count**2)) ** 0.5
    scale = 1 + z**2 / count
    # At shares of 0 and 1 the share itself is the bound, which rounding would miss.
    low = (centre - reach) / scale if successes else 0.0
    high = (centre + reach) / scale if successes < count else 1.0
    return Interval(share, low, high)


def accuracy(predicted: Tensor, labels: Tensor) -> Interval:
    """Share of predictions that are right, with Wilson's 95 % interval for the luck of the test images."""
    return wilson(int((predicted == labels).sum()), len(labels))
