"""Intervals: how sure a measurement is."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from scipy.special import stdtrit
from torch import Tensor

from emc2_lite.evaluation.intervals import Interval

Row = dict[str, Any]


def of_seeds(values: Sequence[float]) -> Interval:
    """Mean over seeds, one value a seed, with Student's 95 % t interval; it assumes about normal values.

    Raises: ValueError: on fewer than 2 values.

    >>> of_seeds([1.0, 2.0, 3.0]).value
    2.0
    """
    if len(values) < 2:
        raise ValueError(f"An interval needs at least 2 seeds, and there are {len(values)} values.")
    sample = torch.tensor(values, dtype=torch.float64)
    return _around(sample.mean().item(), (sample.std() / len(values) ** 0.5).item(), len(values))


def over_seeds(rows: Sequence[Row], by: Sequence[str], values: Sequence[str]) -> list[Row]:
    """One row for each combination of the fields `by`: the mean of each value, and `value_low`, `value_high`.

    A single seed has no interval: low and high are None. A value that is None in a row (records write numbers that are
    not finite so) makes the mean None too.

    >>> over_seeds([{"method": "DCL", "seed": 0, "loss": 2.5}], by=["method"], values=["loss"])
    [{'method': 'DCL', 'seeds': 1, 'loss': 2.5, 'loss_low': None, 'loss_high': None}]
    """
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in by), []).append(row)
    result = []
    for key, members in groups.items():
        summary = dict(zip(by, key, strict=True)) | {"seeds": len(members)}
        for name in values:
            numbers = [row[name] for row in members]
            no_interval = (None if None in numbers else numbers[0], None, None)
            interval = no_interval if None in numbers or len(numbers) == 1 else of_seeds(numbers)
            summary |= zip((name, f"{name}_low", f"{name}_high"), interval, strict=True)
        result.append(summary)
    return result


def jackknife(statistic: Callable[[Tensor], float], count: int) -> Interval:
    """The statistic of `count` blocks, with a 95 % interval from leaving out one block at a time.

    `statistic` takes the indices of the blocks to use, (n,) int64.

    Source: Tukey 1958; Efron and Stein 1981.
    """
    blocks = torch.arange(count)
    left_out = torch.tensor([statistic(blocks[blocks != i]) for i in range(count)], dtype=torch.float64)
    error = ((count - 1) / count * (left_out - left_out.mean()).square().sum()).sqrt().item()
    return _around(statistic(blocks), error, count)


def _around(value: float, standard_error: float, count: int) -> Interval:
    """value +- t standard errors, t the 97.5 % point of Student's t with count - 1 degrees of freedom."""
    reach = float(stdtrit(count - 1, 0.975)) * standard_error
    return Interval(value, value - reach, value + reach)
