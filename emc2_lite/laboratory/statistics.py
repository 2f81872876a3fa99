"""Intervals: how sure a measurement is."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

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


class Lead(NamedTuple):
    """One method's values against another's, paired by seed.

    wins: the number of seeds in which the first method's value is the lower one.
    seeds: the number of all seeds.
    difference: mean over seeds of the first value minus the second, with Student's 95 % interval.
    """

    wins: int
    seeds: int
    difference: Interval


def leads(rows: Sequence[Row], first: str, second: str, value: str = "loss") -> Lead:
    """In how many seeds method `first` has a lower value than method `second`, and by how much.

    Args:
        rows: a row for each method and seed, with the fields method, seed and `value`; such as
            ``rows_where(record["metrics"], temperature=0.07, batch_size=8, views="stored")``.

    Raises: ValueError: on rows in which a method has a seed twice, the two have different seeds, or fewer than 2.

    >>> losses = {"EMC2": [2.0, 2.5, 3.0], "DCL": [3.0, 3.0, 3.5]}
    >>> rows = [{"method": m, "seed": s, "loss": x} for m in losses for s, x in enumerate(losses[m])]
    >>> lead = leads(rows, "EMC2", "DCL")
    >>> lead.wins, lead.seeds, round(lead.difference.value, 2)
    (3, 3, -0.67)
    """
    by_seed: list[dict[int, float]] = []
    for method in (first, second):
        chosen = [row for row in rows if row["method"] == method]
        by_seed.append({row["seed"]: row[value] for row in chosen})
        if len(by_seed[-1]) < len(chosen):
            raise ValueError(f"{method} has {len(chosen)} rows for {len(by_seed[-1])} seeds: pass one row a seed.")
    ours, theirs = by_seed
    if ours.keys() != theirs.keys():
        raise ValueError(f"{first} has the seeds {sorted(ours)} and {second} {sorted(theirs)}: pass pairs.")
    differences = [ours[seed] - theirs[seed] for seed in ours]
    return Lead(sum(difference < 0 for difference in differences), len(ours), of_seeds(differences))


def disjoint(first: Interval, second: Interval) -> bool:
    """Whether two intervals have no number in common.

    >>> disjoint(Interval(1.0, 0.5, 1.5), Interval(2.0, 1.4, 2.6))
    False
    """
    return first.high < second.low or second.high < first.low


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
