"""Random draws of images from each class."""

import torch
from torch import Tensor

from emc2_lite.evaluation.checks import check_labels


def shuffled_members(labels: Tensor, generator: torch.Generator) -> list[Tensor]:
    """The indices of each class's images, classes in order, each class's images in a random order.

    `generator` is of the CPU, so that the order is the same on every device.
    """
    members = [torch.nonzero(labels == label).flatten() for label in labels.unique()]
    return [indices[torch.randperm(len(indices), generator=generator).to(labels.device)] for indices in members]


def validation_split(labels: Tensor, share: float = 0.2, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A stratified split at random: (fit, held_out) indices in increasing order, int64, on the device of `labels`.

    Of each class round(share * n) of its n images are held out, but at least 1 and at most n - 1.

    Raises:
        ValueError: on a share outside (0, 1), labels below 0, or a class with a single image.
    """
    if not 0 < share < 1:
        raise ValueError(f"share is {share}: it must be between 0 and 1, such as 0.2.")
    check_labels(labels, len(labels))
    fit, held_out = [], []
    for members in shuffled_members(labels, torch.Generator().manual_seed(seed)):
        if len(members) < 2:
            raise ValueError(
                f"Class {int(labels[members[0]])} has a single label: "
                "pass at least 2 a class, one to fit and one to hold out."
            )
        count = min(max(1, round(share * len(members))), len(members) - 1)
        held_out.append(members[:count])
        fit.append(members[count:])
    return torch.cat(fit).sort().values, torch.cat(held_out).sort().values
