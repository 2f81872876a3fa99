"""Random draws of images from each class."""

from typing import Annotated

import torch
from torch import Tensor

from emc2_lite.checks import Bounds, Seed, check_tensor, checked_settings
from emc2_lite.evaluation.checks import check_labels, check_pairs


def shuffled_members(labels: Tensor, generator: torch.Generator) -> list[Tensor]:
    """The indices of each class's images, classes in order, each class's images in a random order.

    `generator` is of the CPU, so that the order is the same on every device.
    """
    members = [torch.nonzero(labels == label).flatten() for label in labels.unique()]
    return [indices[torch.randperm(len(indices), generator=generator).to(labels.device)] for indices in members]


@checked_settings
def validation_split(
    labels: Tensor, share: Annotated[float, Bounds(above=0, below=1)] = 0.2, seed: Seed = 0
) -> tuple[Tensor, Tensor]:
    """A stratified split at random: (fit, held_out) indices in increasing order, int64, on the device of `labels`.

    Of each class round(share * n) of its n images are held out, but at least 1 and at most n - 1; so none of a class
    with a single image.

    Raises:
        ValueError: on a share outside (0, 1), labels below 0, or if no class has two images.
    """
    check_tensor(labels, "labels")
    check_labels(labels, labels.numel())
    check_pairs(labels)
    fit, held_out = [], []
    for members in shuffled_members(labels, torch.Generator().manual_seed(seed)):
        count = min(max(1, round(share * len(members))), len(members) - 1)
        held_out.append(members[:count])
        fit.append(members[count:])
    return torch.cat(fit).sort().values, torch.cat(held_out).sort().values
