"""Image datasets as tensors."""

from typing import NamedTuple

import sklearn.datasets
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor


class LabelledImages(NamedTuple):
    """images: (N, C, H, W) float32 in [0, 1]; labels: (N,) int64."""

    images: Tensor
    labels: Tensor


def load_digits(split: str = "all") -> LabelledImages:
    """The UCI handwritten digits that ship with scikit-learn: 1,797 real images, 8 x 8, one channel, ten classes.

    Args:
        split: "all" (1,797), "train" (1,437) or "test" (360). The split is stratified by class and always the same.

    Raises:
        ValueError: on another split.

    Source: Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository.
    """
    if split not in ("all", "train", "test"):
        raise ValueError(f'split is {split!r}: use "all", "train" or "test".')
    raw = sklearn.datasets.load_digits()
    digits = LabelledImages(
        torch.from_numpy(raw.images).float().unsqueeze(1) / 16, torch.from_numpy(raw.target).to(torch.int64)
    )
    if split == "all":
        return digits
    train, test = train_test_split(range(len(raw.target)), test_size=0.2, random_state=0, stratify=raw.target)
    chosen = torch.tensor(sorted(train if split == "train" else test))
    return LabelledImages(digits.images[chosen], digits.labels[chosen])
