"""Intervals: how sure a measurement is."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from scipy import stats
from torch import Tensor

from emc2_lite.evaluation.intervals import Interval


def of_seeds(values: Sequence[float]) -> Interval:
    """Mean of one number a seed, with Student's t interval; it supposes that the numbers are about normal.

    Raises:
        ValueError: on fewer than 2 values.
    """
    if len(values) < 2:
        raise ValueError(f"An interval needs at least 2 seeds, and there are {len(values)} values.")
    sample = torch.tensor(values, dtype=torch.float64)
    return around(sample.mean().item(), (sample.std() / len(values) ** 0.5).item(), len(values))


def over_seeds(rows: Sequence[dict[str, Any]], by: Sequence[str], values: Sequence[str]) -> list[dict[str, Any]]:
    """One row for each combination of the fields `by`: the mean of each value, and `value_low`, `value_high`.

    With a single seed there is no interval, and low and high are None. A measurement that is None, as records have
    numbers that were not finite, makes the mean None too.
    """
    groups: dict[tuple, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in by), []).append(row)
    result = []
    for key, members in groups.items():
        summary = dict(zip(by, key, strict=True)) | {"seeds": len(members)}
        for name in values:
            numbers = [row[name] for row in members]
            if None in numbers or len(numbers) == 1:
                interval = Interval(None if None in numbers else numbers[0], None, None)
            else:
                interval = of_seeds(numbers)
            summary |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
        result.append(summary)
    return result


def jackknife(statistic: Callable[[Tensor], float], count: int) -> Interval:
    """The statistic of `count` blocks, with an interval from leaving out one block at a time.

    `statistic` takes the indices of the blocks to use, (n,) int64.

    Source: Tukey 1958; Efron and Stein 1981.
    """
    everything = torch.arange(count)
    left_out = torch.tensor([statistic(everything[everything != i]) for i in range(count)], dtype=torch.float64)
    error = ((count - 1) / count * (left_out - left_out.mean()).square().sum()).sqrt().item()
    return around(statistic(everything), error, count)


def around(value: float, standard_error: float, count: int) -> Interval:
    """value +- t standard errors, t the 97.5 % point of Student's t with count - 1 degrees of freedom."""
    reach = float(stats.t.ppf(0.975, count - 1)) * standard_error
    return Interval(value, value - reach, value + reach)
