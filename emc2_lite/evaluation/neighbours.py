"""Nearest-neighbour classification."""

import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor


def nearest_neighbour_accuracy(features: Tensor, labels: Tensor, test_features: Tensor, test_labels: Tensor) -> float:
    """Share of test points whose nearest neighbour (largest cosine) among `features` has the same label, in [0, 1].

    Args:
        features, labels: (N, f) and (N,), the points to look among.
        test_features, test_labels: (M, f) and (M,), the points to classify.
    """
    classifier = KNeighborsClassifier(n_neighbors=1, metric="cosine")
    classifier.fit(features.detach().cpu().numpy(), labels.cpu().numpy())
    return float(classifier.score(test_features.detach().cpu().numpy(), test_labels.cpu().numpy()))


def few_shot_accuracy(
    features: Tensor,
    labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    *,
    shots: int = 1,
    draws: int = 50,
    seed: int = 0,
) -> Tensor:
    """1-NN accuracy with `shots` labelled points a class, drawn anew `draws` times: (draws,) float64, each in [0, 1].

    With the labels of a whole dataset even raw pixels of digits do well; with a handful the features must do the work.

    Raises:
        ValueError: if a class has fewer than `shots` points, or there is not one label a feature.
    """
    if len(features) != len(labels) or len(test_features) != len(test_labels):
        raise ValueError(
            f"There are {len(labels)} labels for {len(features)} features and {len(test_labels)} for "
            f"{len(test_features)} test features: pass one label a feature."
        )
    members = [torch.nonzero(labels == label).flatten() for label in labels.unique()]
    fewest = min(len(indices) for indices in members)
    if not 1 <= shots <= fewest:
        raise ValueError(f"shots is {shots}: the smallest class has {fewest} points, so pass 1 to {fewest}.")
    generator = torch.Generator().manual_seed(seed)
    accuracies = []
    for _ in range(draws):
        drawn = [indices[torch.randperm(len(indices), generator=generator)[:shots]] for indices in members]
        chosen = torch.cat(drawn)
        accuracies.append(nearest_neighbour_accuracy(features[chosen], labels[chosen], test_features, test_labels))
    return torch.tensor(accuracies, dtype=torch.float64)
