"""Views that are encoded again, by name, each distinct one once a pass; and the numbers that name them.

Each reading of a device's numbers makes the host wait for the device, so readings are few.
"""

from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from emc2_lite.checks import check_tensor
from emc2_lite.losses.checks import normalised, not_normalised, tolerance
from emc2_lite.losses.two_view import TwoViewBlock

Encode = Callable[[Tensor, Tensor], Tensor]
Name = tuple[int, int]  # a view: the index of its sample and its number


def read(*tensors: Tensor) -> list[list[int]]:
    """The integers or truth values of several tensors on one device, each as a flat list, at the price of one wait."""
    if tensors[0].device.type == "cpu":  # no reading waits, and one by one is faster
        return [tensor.reshape(-1).tolist() for tensor in tensors]
    numbers = iter(torch.cat([tensor.reshape(-1).long() for tensor in tensors]).tolist())
    return [list(islice(numbers, tensor.numel())) for tensor in tensors]


def on_device(device: torch.device, *lists: list[int]) -> tuple[Tensor, ...]:
    """Lists of integers as int64 tensors on the device: one copy, for which the host does not wait."""
    together = torch.from_numpy(np.array([number for one in lists for number in one], dtype=np.int64))
    return together.to(device, non_blocking=True).split([len(one) for one in lists])


class Others(NamedTuple):
    """Negatives from outside the batch."""

    embeddings: Tensor  # (k, d), with gradient
    weights: Tensor  # (R, k)
    place: Tensor  # (n,), the embedding of each of n rows' negatives


class Encodings:
    """The named views, encoded again; ValueError on a wrong shape, dtype or device.

    embeddings: (k, d), one for each distinct name, in the dtype of `like`; place: (n,), the embedding of each name.
    fit: a 0-dimensional bool, whether they are finite and normalised; `read_checked` reads it, with other numbers.
    """

    def __init__(self, encode: Encode, names: list[Name], like: Tensor):
        places = {name: k for k, name in enumerate(sorted(set(names)))}
        index, view, self.place = on_device(
            like.device, [i for i, _ in places], [v for _, v in places], [places[name] for name in names]
        )
        returned = encode(index, view)
        check_tensor(returned, "What encode returned")
        if returned.shape != (len(index), like.shape[-1]):
            raise ValueError(
                f"encode returned shape {tuple(returned.shape)} for {len(index)} views: "
                f"it must return one embedding a view, {(len(index), like.shape[-1])}."
            )
        if not returned.is_floating_point() or returned.device != like.device:
            raise ValueError(
                f"What encode returned is {returned.dtype} on {returned.device}: "
                f"pass floating-point embeddings on {like.device}."
            )
        self.returned, self.embeddings = returned, returned.to(like)
        self.fit = normalised(returned, tolerance(returned.dtype))


def read_checked(again: Encodings | None, *tensors: Tensor) -> list[list[int]]:
    """`read` the tensors and, in the same wait, refuse encodings that are not finite and normalised (ValueError)."""
    if again is None:
        return read(*tensors)
    *lists, (fit,) = read(*tensors, again.fit)
    if not fit:
        raise not_normalised(again.returned, "What encode returned")
    return lists


def encode_others(
    block: TwoViewBlock, encode: Encode, names: list[Name], rows: list[int], weight: Tensor
) -> Others | None:
    """Negatives from outside the batch, encoded with gradient: row rows[n] meets view names[n], with weight[rows[n]].

    ValueError if the batch has gradient and what `encode` returned has none, or is not normalised.
    """
    if not names:
        return None
    again = Encodings(encode, names, block.embeddings)
    if block.with_gradient and not again.embeddings.requires_grad:
        raise ValueError(
            "encode returned embeddings without gradient for views that count in the loss: "
            "call the encoder in it without torch.no_grad() and without detach()."
        )
    read_checked(again)
    (meeting,) = on_device(block.index.device, rows)
    weights = weight.new_zeros(len(block.logits), len(again.embeddings))
    weights.index_put_((meeting, again.place), weight.index_select(0, meeting), accumulate=True)
    return Others(again.embeddings, weights, again.place)
