"""Nearest-neighbour accuracy is what a loop over all pairs finds."""

import pytest
import reference
import torch

from emc2_lite.evaluation import few_shot_accuracy, nearest_neighbour_accuracy


def test_nearest_neighbour_is_the_one_of_largest_cosine():
    """Lengths are scaled at random, so that the nearest in distance is often another."""
    scale = torch.rand(80, 1, generator=torch.Generator().manual_seed(0)).double() + 0.1
    features, test_features = reference.unit_vectors(80, 4) * scale, reference.unit_vectors(50, 4, seed=1) * 3
    labels, test_labels = torch.arange(80) % 5, torch.arange(50) % 5
    hits = 0
    for point, label in zip(test_features, test_labels, strict=True):
        nearest = max(range(80), key=lambda k: (point @ features[k] / features[k].norm()).item())
        hits += int(labels[nearest] == label)
    assert nearest_neighbour_accuracy(features, labels, test_features, test_labels) == pytest.approx(hits / 50)
    assert 0 < hits < 50


def test_a_point_is_its_own_nearest_neighbour():
    features, labels = reference.unit_vectors(30, 3), torch.arange(30) % 4
    assert nearest_neighbour_accuracy(features.requires_grad_(), labels, features, labels) == 1


@pytest.mark.parametrize("shots", [1, 3])
def test_few_shot_draws_that_many_of_each_class(monkeypatch, shots):
    features, labels = torch.arange(40.0)[:, None] + 1, torch.arange(40) % 4
    drawn = []

    def record(chosen, chosen_labels, *_):
        drawn.append((chosen.flatten().long() - 1, chosen_labels))
        return 0.5

    monkeypatch.setattr("emc2_lite.evaluation.neighbours.nearest_neighbour_accuracy", record)
    accuracies = few_shot_accuracy(features, labels, features, labels, shots=shots, draws=20)
    assert accuracies.shape == (20,) and accuracies.dtype == torch.float64
    for chosen, chosen_labels in drawn:
        assert len(chosen.unique()) == 4 * shots and torch.equal(labels[chosen], chosen_labels)
        assert torch.bincount(chosen_labels).tolist() == [shots] * 4
    assert len({tuple(chosen.tolist()) for chosen, _ in drawn}) == 20


def test_few_shot_accuracies_repeat_from_their_seed():
    features, labels = reference.unit_vectors(60, 3), torch.arange(60) % 3
    first, again, other = (few_shot_accuracy(features, labels, features, labels, seed=s) for s in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.std() > 0 and ((first >= 0) & (first <= 1)).all()
