"""Encoders under evaluation: the features of a frozen one, and the supervised baseline beside it."""

from collections.abc import Iterator
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from emc2_lite.checks import Bounds, Seed, check_tensor, checked_settings
from emc2_lite.evaluation.checks import Count, check_indices, check_labels, numbered_classes
from emc2_lite.evaluation.intervals import Interval, accuracy
from emc2_lite.evaluation.probe import linear_layer
from emc2_lite.vision.encoders import Encoder
from emc2_lite.vision.views import Views


@checked_settings
@torch.no_grad()
def features_of(encoder: Encoder, views: Views, indices: Tensor | None = None, *, batch_size: Count = 512) -> Tensor:
    """`encoder.features` of images without augmentation: (n, f) float32 on the encoder's device.

    `indices` (n,) int64 are the images, all N by default, `batch_size` at a time. The encoder is in evaluation mode
    meanwhile, and each module in its former mode afterwards.

    Raises: ValueError: on no images, indices outside 0 to N - 1, a batch_size below 1, or features that are not finite.

    >>> from emc2_lite.vision import DigitEncoder, DigitViews
    >>> features_of(DigitEncoder(), DigitViews(torch.rand(3, 1, 8, 8))).shape
    torch.Size([3, 128])
    """
    device = next(encoder.parameters()).device
    indices = torch.arange(len(views)) if indices is None else indices
    check_indices(indices, len(views))
    indices = indices.to(device)
    training = [module for module in encoder.modules() if module.training]
    encoder.eval()
    try:
        features = torch.cat([encoder.features(views.originals(i)).float() for i in indices.split(batch_size)])
    finally:
        for module in training:
            module.training = True
    if len(broken := torch.nonzero(~features.isfinite().all(dim=1)).flatten()):
        raise ValueError(
            f"The features of {len(broken)} of {len(features)} images hold NaN or infinite values, those of image "
            f"{int(indices[broken[0]])} first: look for a diverged encoder or a broken image."
        )
    return features


@checked_settings
def supervised_accuracy(
    encoder: Encoder,
    views: Views,
    labels: Tensor,
    test_views: Views,
    test_labels: Tensor,
    *,
    epochs: Count,
    batch_size: Count,
    learning_rate: Annotated[float, Bounds(above=0)] = 1e-3,
    indices: Tensor | None = None,
    seed: Seed = 0,
) -> Interval:
    """Test accuracy of the encoder's trunk and a linear layer, trained with cross-entropy on random views.

    In epoch e an image shows its view number e. Adam's learning rate falls to 0 by half a cosine, step by step; batches
    are drawn without replacement, and an incomplete batch waits for the next shuffle. The encoder is trained in place,
    without its projector: pass a fresh one. The test images are encoded once, without augmentation.

    `labels` (N,) and `test_labels` (M,) are int64, a label for each image; `indices` (n,) int64 are the images to train
    on, all N by default, and `labels` may be -1 outside them.

    Raises: ValueError: on epochs below 1, a batch_size outside 1 to n, labels that do not fit or name no class, a
        single class, a test class that training lacks, or features that are not finite in the end.

    >>> from emc2_lite.vision import DigitEncoder, DigitViews
    >>> views, labels = DigitViews(torch.rand(4, 1, 8, 8)), torch.tensor([0, 1, 0, 1])
    >>> 0 <= supervised_accuracy(DigitEncoder(), views, labels, views, labels, epochs=1, batch_size=2).value <= 1
    True
    """
    device = next(encoder.parameters()).device
    indices = torch.arange(len(views)) if indices is None else indices
    check_indices(indices, len(views))
    check_labels(test_labels, len(test_views), "test_labels", "test images")
    check_tensor(labels, "labels")
    if labels.shape != (len(views),):
        raise ValueError(f"labels has shape {tuple(labels.shape)}: pass one label for each of {len(views)} images.")
    indices, labels, test_labels = indices.to(device), labels.to(device), test_labels.to(device)
    check_labels(labels[indices], len(indices))
    if batch_size > len(indices):
        raise ValueError(
            f"batch_size is {batch_size}: it must be at most the number of labelled images, {len(indices)}."
        )
    numbered, test_labels = numbered_classes(labels[indices], test_labels)
    targets = torch.full_like(labels, -1).index_copy(0, indices, numbered)
    width = features_of(encoder, test_views, indices.new_zeros(1)).shape[1]
    classifier = linear_layer(width, int(numbered.max()) + 1, seed).to(device)
    optimiser = torch.optim.Adam([*encoder.parameters(), *classifier.parameters()], learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * (len(indices) // batch_size))
    encoder.train()
    batches = _batches(indices, batch_size, epochs, seed)
    coming = next(batches, None)
    while coming:
        index, view = coming
        images = views(index, view)
        if coming := next(batches, None):
            views.prefetch(*coming)
        loss = F.cross_entropy(classifier(encoder.features(images)), targets[index])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        return accuracy(classifier(features_of(encoder, test_views)), test_labels)


def _batches(indices: Tensor, batch_size: int, epochs: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        order = indices[torch.randperm(len(indices), generator=generator).to(indices.device)]
        for index in order[: len(order) - len(order) % batch_size].split(batch_size):
            yield index, torch.full_like(index, epoch)
