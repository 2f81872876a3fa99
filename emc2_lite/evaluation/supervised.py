"""The supervised baseline: what the same encoder learns from the labels themselves."""

from collections.abc import Iterator
from itertools import chain, pairwise
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emc2_lite.checks import Bounds, Seed, check_tensor, checked_settings
from emc2_lite.evaluation.checks import Count, check_indices, check_labels, numbered_classes
from emc2_lite.evaluation.features import features_of
from emc2_lite.evaluation.intervals import Interval, accuracy
from emc2_lite.evaluation.probe import linear_layer


@checked_settings
def supervised_accuracy(
    encoder: nn.Module,
    views: Any,
    labels: Tensor,
    test_views: Any,
    test_labels: Tensor,
    *,
    epochs: Count,
    batch_size: Count,
    learning_rate: Annotated[float, Bounds(above=0)] = 1e-3,
    indices: Tensor | None = None,
    seed: Seed = 0,
) -> Interval:
    """Test accuracy of the encoder's trunk and a linear layer, trained with cross-entropy on random views.

    In epoch e an image shows its view number e. Adam, its learning rate falling to 0 by half a cosine, step by step;
    batches are drawn without replacement, and what does not fill one waits for the next shuffle. The encoder is trained
    in place, its projector left alone; pass a fresh one. The test images are looked at once, without augmentation.

    Args:
        encoder: has `features`, (k, C, S, S) -> (k, f).
        views: called as views(index, view), both (k,) int64; has `prefetch` and a length N.
        labels: (N,) int64; what `indices` leaves out may be -1.
        test_views, test_labels: has `originals`, and (M,) int64.
        indices: (n,) int64, the labelled images to train on; all N when not given.

    Raises:
        ValueError: on epochs below 1, a batch_size outside 1 to n, labels that do not fit or name no class, a single
            class, a test class that training lacks, or features that are not finite in the end.
    """
    device = next(encoder.parameters()).device
    indices = torch.arange(len(views)) if indices is None else indices
    check_indices(indices, len(views))
    check_tensor(labels, "labels")
    check_tensor(test_labels, "test_labels")
    if labels.shape != (len(views),):
        raise ValueError(f"labels has shape {tuple(labels.shape)}: pass one label for each of {len(views)} images.")
    indices, labels, test_labels = indices.to(device), labels.to(device), test_labels.to(device)
    check_labels(labels[indices], len(indices))
    check_labels(test_labels, len(test_views), "test_labels", "test images")
    if batch_size > len(indices):
        raise ValueError(
            f"batch_size is {batch_size}: it must be at most the number of labelled images, {len(indices)}."
        )
    numbered, test_labels = numbered_classes(labels[indices], test_labels)
    targets = torch.full_like(labels, -1)
    targets[indices] = numbered

    width = features_of(encoder, test_views, indices.new_zeros(1)).shape[1]
    classifier = linear_layer(width, int(numbered.max()) + 1, seed).to(device)
    optimiser = torch.optim.Adam([*encoder.parameters(), *classifier.parameters()], learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * (len(indices) // batch_size))
    encoder.train()
    batches = _batches(indices, batch_size, epochs, seed)
    for (index, view), following in pairwise(chain(batches, [None])):
        images = views(index, view)
        if following:
            views.prefetch(*following)
        loss = F.cross_entropy(classifier(encoder.features(images)), targets[index])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        return accuracy(classifier(features_of(encoder, test_views)).argmax(dim=1), test_labels)


def _batches(indices: Tensor, batch_size: int, epochs: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        order = indices[torch.randperm(len(indices), generator=generator).to(indices.device)]
        for index in order[: len(order) - len(order) % batch_size].split(batch_size):
            yield index, torch.full_like(index, epoch)
