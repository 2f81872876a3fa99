"""Numbers between the device and the host, where views are named: each reading makes the host wait for the device."""

import numpy as np
import torch
from torch import Tensor


def read(*tensors: Tensor) -> list[list[int]]:
    """The integers or truth values of several tensors on one device, each as a flat list, at the price of one wait."""
    if tensors[0].device.type == "cpu":  # where no reading waits, and each by itself is faster
        return [tensor.reshape(-1).tolist() for tensor in tensors]
    numbers = torch.cat([tensor.reshape(-1).long() for tensor in tensors]).tolist()
    lists, start = [], 0
    for tensor in tensors:
        lists.append(numbers[start : start + tensor.numel()])
        start += tensor.numel()
    return lists


def on_device(device: torch.device, *lists: list[int]) -> tuple[Tensor, ...]:
    """Lists of integers as int64 tensors on the device: one copy, for which the host does not wait."""
    together = torch.from_numpy(np.array([number for one in lists for number in one], dtype=np.int64))
    return together.to(device, non_blocking=True).split([len(one) for one in lists])


def distinct(pairs: list[tuple[int, int]]) -> tuple[list[int], list[int], list[int]]:
    """Of (index, view) pairs the distinct ones, in order: their indices and their views; and each pair's place."""
    views = sorted(set(pairs))
    place = {pair: k for k, pair in enumerate(views)}
    return [index for index, _ in views], [view for _, view in views], [place[pair] for pair in pairs]


def columns_of(pairs: list[tuple[int, int]], indices: list[int], views: list[int]) -> list[int]:
    """The column in which each (index, view) pair stands in a batch of samples (b,) in views (2b,); -1 if in none."""
    columns = {pair: column for column, pair in enumerate(zip(indices * 2, views, strict=True))}
    return [columns.get(pair, -1) for pair in pairs]
