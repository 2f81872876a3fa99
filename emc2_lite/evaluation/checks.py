"""Checks of what an evaluation is given: one sentence that says what came, what was expected and what to do."""

from typing import Annotated

import torch
from torch import Tensor

from emc2_lite.checks import Bounds, check_tensor

Count = Annotated[int, Bounds(least=1, most=10**9)]
Parts = tuple[Tensor, Tensor, Tensor, Tensor]


def check_labels(labels: Tensor, count: int, name: str = "labels", rows: str = "features") -> None:
    """One class, an int64 from 0 on, for each of `count` rows, and at least one row."""
    _check_vector(labels, name)
    if len(labels) != count:
        raise ValueError(f"There are {len(labels)} {name} for {count} {rows}: pass one label each.")
    if not count:
        raise ValueError(f"{name} is empty: pass at least one labelled image.")
    if labels.min() < 0:
        raise ValueError(f"{name} holds {int(labels.min())}, which names no class: leave out images without a label.")


def check_indices(indices: Tensor, count: int) -> None:
    """Numbers of at least one of `count` images, (n,) int64 from 0 on."""
    _check_vector(indices, "indices")
    if not len(indices):
        raise ValueError("indices is empty: pass at least one image.")
    low, high = map(int, indices.aminmax())
    if low < 0 or high >= count:
        raise ValueError(f"indices holds {low if low < 0 else high}: there are {count} images, numbered from 0.")


def _check_vector(values: Tensor, name: str) -> None:
    check_tensor(values, name)
    if values.dtype != torch.int64 or values.dim() != 1:
        raise ValueError(f"{name} is {values.dtype} of shape {tuple(values.shape)}: pass torch.int64 of shape (n,).")


def check_rows(rows: Tensor, name: str, width: int | None = None) -> None:
    """(n, f) with f above 0; `width` is the f of the features that these are compared with."""
    check_tensor(rows, name)
    if rows.dim() != 2 or not rows.shape[1]:
        raise ValueError(f"{name} has shape {tuple(rows.shape)}: pass (n, f), a row for each image.")
    if width not in (None, rows.shape[1]):
        raise ValueError(f"features has {width} numbers a row and {name} {rows.shape[1]}: pass one encoder's features.")


def numbered_classes(labels: Tensor, test_labels: Tensor) -> tuple[Tensor, Tensor]:
    """The same labels, with the classes of `labels` numbered 0, 1, ... in order, without gaps."""
    classes, numbered = labels.unique(return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"labels holds the single class {int(classes[0])}: pass at least 2 classes to tell apart.")
    if (unknown := test_labels[~torch.isin(test_labels, classes)]).numel():
        raise ValueError(
            f"test_labels holds class {int(unknown[0])}, which labels does not: "
            "pass training images of every class that is tested."
        )
    return numbered, torch.searchsorted(classes, test_labels)


def labelled_parts(features: Tensor, labels: Tensor, test_features: Tensor, test_labels: Tensor) -> Parts:
    """The four, checked: floating point, without gradient, on the device of `features`, classes numbered without gaps.

    Raises: ValueError: on an argument that is no tensor, shapes that do not fit, features that are not finite, an empty
        part, labels below 0, a single class, or a test class that the training part lacks.
    """
    check_rows(features, "features")
    check_rows(test_features, "test_features", features.shape[1])
    parts = []
    for rows, classes, prefix in ((features, labels, ""), (test_features, test_labels, "test_")):
        check_labels(classes, len(rows), f"{prefix}labels", f"{prefix}features")
        if not rows.isfinite().all():
            raise ValueError(
                f"{prefix}features holds NaN or infinite values: look for a diverged encoder or a broken image."
            )
        floating = torch.promote_types(rows.dtype, torch.float32)
        parts += [rows.detach().to(features.device, floating), classes.to(features.device)]
    labels, test_labels = numbered_classes(parts[1], parts[3])
    return parts[0], labels, parts[2], test_labels


def check_shots(labels: Tensor, shots: int, came: str) -> None:
    """`shots` is at most the size of the smallest class; `came` begins the sentence, such as "shots is"."""
    classes, counts = labels.unique(return_counts=True)
    fewest = int(counts.min())
    if shots > fewest:
        points = f"{fewest} point{'s' if fewest > 1 else ''} (class {int(classes[counts.argmin()])})"
        raise ValueError(f"{came} {shots}: the smallest class has {points}, so pass at most {fewest}.")
