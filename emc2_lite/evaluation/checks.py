"""Checks of what an evaluation is given: one sentence that says what came, what was expected and what to do."""

import torch
from torch import Tensor


def check_labels(labels: Tensor, count: int, name: str = "labels", of: str = "features") -> None:
    """One class, an int64 from 0 on, for each of `count` rows, and at least one row."""
    if labels.dtype != torch.int64 or labels.dim() != 1:
        raise ValueError(f"{name} is {labels.dtype} of shape {tuple(labels.shape)}: pass torch.int64 of shape (n,).")
    if len(labels) != count:
        raise ValueError(f"There are {len(labels)} {name} for {count} {of}: pass one label each.")
    if not count:
        raise ValueError(f"{name} is empty: pass at least one labelled image.")
    if labels.min() < 0:
        raise ValueError(f"{name} holds {int(labels.min())}, which names no class: leave out images without a label.")


def numbered_classes(labels: Tensor, test_labels: Tensor) -> tuple[Tensor, Tensor]:
    """The same labels with the classes numbered 0, 1, ... in order, without gaps."""
    classes, numbered = labels.unique(return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"labels holds the single class {int(classes[0])}: pass at least 2 classes to tell apart.")
    unknown = test_labels[~torch.isin(test_labels, classes)]
    if unknown.numel():
        raise ValueError(
            f"test_labels holds class {int(unknown[0])}, which labels does not: "
            "pass training images of every class that is tested."
        )
    return numbered, torch.searchsorted(classes, test_labels)


def labelled_parts(
    features: Tensor, labels: Tensor, test_features: Tensor, test_labels: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The four, checked: floating point, without gradient, on the device of `features`, classes numbered without gaps.

    Raises:
        ValueError: on shapes that do not fit, features that are not finite, an empty part, labels below 0, a single
            class, or a test class that the training part lacks.
    """
    parts = []
    for rows, names, prefix in ((features, labels, ""), (test_features, test_labels, "test_")):
        if rows.dim() != 2 or not rows.shape[1]:
            raise ValueError(f"{prefix}features has shape {tuple(rows.shape)}: pass (n, f), a row for each image.")
        check_labels(names, len(rows), f"{prefix}labels", f"{prefix}features")
        if not torch.isfinite(rows).all():
            raise ValueError(
                f"{prefix}features holds NaN or infinite values: look for a diverged encoder or a broken image."
            )
        floating = torch.promote_types(rows.dtype, torch.float32)
        parts += [rows.detach().to(features.device, floating), names.to(features.device)]
    known, labels, new, test_labels = parts
    if known.shape[1] != new.shape[1]:
        raise ValueError(
            f"features has {known.shape[1]} numbers a row and test_features {new.shape[1]}: "
            "pass features of the same encoder."
        )
    labels, test_labels = numbered_classes(labels, test_labels)
    return known, labels, new, test_labels


def check_shots(labels: Tensor, shots: int, came: str) -> None:
    """From 1 to the size of the smallest class; `came` begins the sentence, such as "shots is"."""
    fewest = int(labels.unique(return_counts=True)[1].min())
    if not 1 <= shots <= fewest:
        raise ValueError(f"{came} {shots}: the smallest class has {fewest} points, so pass 1 to {fewest}.")
