"""Image datasets as tensors."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
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


def load_stl10_unlabelled(folder: str | Path, count: int) -> Tensor:
    """The first `count` unlabelled images of STL-10: (count, 3, 96, 96) uint8. No more of the file is read.

    Args:
        folder: where `stl10_binary/` lies, as torchvision's download unpacks it.
        count: from 1 to 100,000.

    Raises:
        FileNotFoundError: if `stl10_binary/unlabeled_X.bin` is not there.
        ValueError: if the file holds fewer images, or count is not positive.

    Source: Coates, Lee and Ng 2011, An analysis of single-layer networks in unsupervised feature learning.
    """
    if count < 1:
        raise ValueError(f"count is {count}: ask for 1 image or more.")
    path = Path(folder) / "stl10_binary" / "unlabeled_X.bin"
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no {path}: unpack STL-10 there, for instance with "
            f'torchvision.datasets.STL10("{folder}", split="unlabeled", download=True), about 2.6 GB.'
        )
    pixels = np.fromfile(path, dtype=np.uint8, count=count * 3 * 96 * 96)
    if pixels.size < count * 3 * 96 * 96:
        raise ValueError(
            f"{path} holds {pixels.size // (3 * 96 * 96)} images, {count} were asked for: "
            "it is damaged or cut short; unpack it again."
        )
    # The file goes through each image column by column.
    return torch.from_numpy(pixels).view(count, 3, 96, 96).transpose(2, 3).contiguous()
