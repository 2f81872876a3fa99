"""Exercise of chapter 00; in the mistakes: rows a and b."""

import torch
from torch.nn import functional as F

from emc2_lite.course.exercise import Exercise


def _similarity(first, second):
    return F.normalize(first, dim=1) @ F.normalize(second, dim=1).T


def _rows(seed, count, dim):
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


similarity = Exercise(
    "similarity",
    _similarity,
    cases=[
        (_rows(0, 2, 3), _rows(1, 4, 3)),
        (5 * _rows(2, 3, 2), _rows(3, 3, 2) / 5),
        (_rows(4, 1, 8), _rows(5, 2, 8)),
    ],
    runs="The printout of mean similarities",
    mistakes={
        "The rows need length 1: divide each by its length first": lambda a, b: a @ b.T,
        "This gives length 1 to each column: each row needs length 1 (dim=1)": (
            lambda a, b: F.normalize(a, dim=0) @ F.normalize(b, dim=0).T
        ),
        "Only the rows of the first are divided by their lengths": lambda a, b: F.normalize(a, dim=1) @ b.T,
        "The result is transposed: entry [i, j] belongs to row i of the first": lambda a, b: _similarity(b, a),
        "This is the distance: the similarity is the inner product": (
            lambda a, b: torch.cdist(F.normalize(a, dim=1), F.normalize(b, dim=1))
        ),
    },
)
