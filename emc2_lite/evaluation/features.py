"""Features of a frozen encoder."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from emc2_lite.checks import checked_settings
from emc2_lite.evaluation.checks import Count, check_indices


@checked_settings
@torch.no_grad()
def features_of(encoder: nn.Module, views: Any, indices: Tensor | None = None, *, batch_size: Count = 512) -> Tensor:
    """`encoder.features` of images as they are, without augmentation: (n, f) float32 on the encoder's device.

    The encoder is in evaluation mode meanwhile, and each of its modules in its former mode afterwards.

    Args:
        encoder: has `features`, (k, C, S, S) -> (k, f).
        views: has `originals`, (k,) int64 -> (k, C, S, S), and a length N.
        indices: (n,) int64, the images to look at; all N when not given.
        batch_size: images at a time.

    Raises:
        ValueError: on no images, indices outside 0 to N - 1, a batch_size below 1, or features that are not finite.
    """
    device = next(encoder.parameters()).device
    indices = torch.arange(len(views)) if indices is None else indices
    check_indices(indices, len(views))
    indices = indices.to(device)
    with _evaluation_mode(encoder):
        features = torch.cat([encoder.features(views.originals(i)).float() for i in indices.split(batch_size)])
    broken = torch.nonzero(~features.isfinite().all(dim=1)).flatten()
    if len(broken):
        raise ValueError(
            f"The features of {len(broken)} of {len(features)} images hold NaN or infinite values, those of image "
            f"{int(indices[broken[0]])} first: look for a diverged encoder or a broken image."
        )
    return features


@contextmanager
def _evaluation_mode(encoder: nn.Module) -> Iterator[None]:
    training = [module for module in encoder.modules() if module.training]
    encoder.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
