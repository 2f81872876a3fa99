"""What the readers of data sets return."""

from typing import NamedTuple

from torch import Tensor


class LabelledImages(NamedTuple):
    """Images in memory, and their classes.

    images: (N, C, H, W), float32 in [0, 1] for digits, uint8 for colour images.
    labels: (N,) int64, -1 where there is none.
    """

    images: Tensor
    labels: Tensor
