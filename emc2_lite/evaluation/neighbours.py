"""Nearest-neighbour classification by cosine."""

import torch
from torch import Tensor
from torch.nn import functional as F

from emc2_lite.checks import Seed, Temperature, checked_settings
from emc2_lite.evaluation.checks import Count, check_rows, check_shots, labelled_parts
from emc2_lite.evaluation.intervals import Interval, accuracy
from emc2_lite.evaluation.probe import shuffled_members


@checked_settings
def nearest_neighbours(
    features: Tensor, queries: Tensor, k: Count, *, chunk_size: Count = 512
) -> tuple[Tensor, Tensor]:
    """The k rows of `features` (N, f) of largest cosine with each of `queries` (M, f): (cosine, index), both (M, k).

    The largest comes first, equal cosines in any order; a row of zeros has cosine 0. Memory is O(chunk_size * N).

    Raises: ValueError: on shapes that do not fit, a k outside 1 to N, or a chunk_size below 1.

    >>> nearest_neighbours(torch.eye(3), torch.tensor([[3.0, 4.0, 0.0]]), k=2)
    (tensor([[0.8000, 0.6000]]), tensor([[1, 0]]))
    """
    check_rows(features, "features")
    check_rows(queries, "queries", features.shape[1])
    if k > len(features):
        raise ValueError(f"k is {k}: there are {len(features)} points to look among, so pass 1 to {len(features)}.")
    directions = F.normalize(features, dim=1).T
    nearest = [(F.normalize(chunk, dim=1) @ directions).topk(k, dim=1) for chunk in queries.split(chunk_size)]
    return torch.cat([best.values for best in nearest]), torch.cat([best.indices for best in nearest])


@checked_settings
def knn_accuracy(
    features: Tensor,
    labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    *,
    k: Count = 20,
    temperature: Temperature = 0.07,
    chunk_size: Count = 512,
) -> Interval:
    """Accuracy of the vote of the k nearest neighbours by cosine, each with weight exp(cosine / temperature).

    The neighbours come from `features` (N, f) with `labels` (N,) int64. The points of `test_features` (M, f) with
    `test_labels` (M,) are classified `chunk_size` at a time, in memory O(chunk_size * N + M * (k + classes)). The
    temperature is dimensionless and independent of the loss's. Wu et al. use k = 200 for ImageNet.

    Raises: ValueError: on parts that do not fit (see `labelled_parts`), a k outside 1 to N, or a bad temperature.
    Source: Wu, Xiong, Yu and Lin 2018, Unsupervised feature learning via non-parametric instance discrimination, 3.4.

    >>> knn_accuracy(torch.eye(4), torch.tensor([0, 0, 1, 1]), torch.eye(4), torch.tensor([0, 0, 1, 0]), k=1).value
    0.75
    """
    features, labels, test_features, test_labels = labelled_parts(features, labels, test_features, test_labels)
    cosine, index = nearest_neighbours(features, test_features, k, chunk_size=chunk_size)
    # Relative to the largest of the row: exp of a raw score overflows at small temperatures.
    weights = ((cosine - cosine[:, :1]) / temperature).exp()
    votes = weights.new_zeros(len(weights), int(labels.max()) + 1).scatter_add_(1, labels[index], weights)
    return accuracy(votes, test_labels)


def nearest_neighbour_accuracy(features: Tensor, labels: Tensor, test_features: Tensor, test_labels: Tensor) -> float:
    """Share of test points whose nearest neighbour has their label, in [0, 1]: `knn_accuracy` at k = 1, as a number.

    >>> nearest_neighbour_accuracy(torch.eye(2), torch.tensor([0, 1]), torch.eye(2), torch.tensor([0, 0]))
    0.5
    """
    return _share_right(*labelled_parts(features, labels, test_features, test_labels))


def _share_right(features: Tensor, labels: Tensor, test_features: Tensor, test_labels: Tensor) -> float:
    nearest = nearest_neighbours(features, test_features, 1)[1][:, 0]
    return int((labels[nearest] == test_labels).sum()) / len(test_labels)


@checked_settings
def few_shot_accuracy(
    features: Tensor,
    labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    *,
    shots: Count = 1,
    draws: Count = 50,
    seed: Seed = 0,
) -> Tensor:
    """1-NN accuracy with `shots` labelled points a class, drawn anew `draws` times: (draws,) float64, each in [0, 1].

    The other arguments are those of `knn_accuracy`. With all labels even raw pixels of digits do well; with few labels
    the features decide.

    Raises: ValueError: if a class has fewer than `shots` points, or on parts that do not fit (see `labelled_parts`).

    >>> few_shot_accuracy(torch.eye(2), torch.tensor([0, 1]), torch.eye(2), torch.tensor([0, 1]), draws=3)
    tensor([1., 1., 1.], dtype=torch.float64)
    """
    parts = labelled_parts(features, labels, test_features, test_labels)
    check_shots(labels, shots, "shots is")
    features, labels, test_features, test_labels = parts
    generator = torch.Generator().manual_seed(seed)
    accuracies = []
    for _ in range(draws):
        chosen = torch.cat([members[:shots] for members in shuffled_members(labels, generator)])
        accuracies.append(_share_right(features[chosen], labels[chosen], test_features, test_labels))
    return torch.tensor(accuracies, dtype=torch.float64)
