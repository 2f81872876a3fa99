"""Nearest neighbours and their vote are what a loop over all pairs finds."""

import math

import pytest
import reference
import torch

from emc2_lite.evaluation import (
    few_shot_accuracy,
    knn_accuracy,
    nearest_neighbour_accuracy,
    nearest_neighbours,
    neighbours,
    wilson,
)


def points(count, seed, dim=4):
    """Lengths are scaled at random, so that the nearest in distance is often another."""
    scale = torch.rand(count, 1, generator=torch.Generator().manual_seed(seed)).double() + 0.1
    return reference.unit_vectors(count, dim, seed=seed) * scale


KNOWN, NEW = points(80, seed=0), points(50, seed=1)
LABELS, NEW_LABELS = torch.arange(80) % 5, torch.arange(50) % 5


def cosine(a, b):
    return (a @ b / a.norm() / b.norm()).item()


def in_order(point):
    return sorted(range(80), key=lambda j: -cosine(point, KNOWN[j]))


def voted(point, k, temperature):
    votes = [0.0] * 5
    for j in in_order(point)[:k]:
        votes[LABELS[j]] += math.exp(cosine(point, KNOWN[j]) / temperature)
    return max(range(5), key=lambda label: votes[label])


@pytest.mark.parametrize("chunk_size", [1, 7, 50, 512])
def test_nearest_neighbours_are_those_of_largest_cosine(chunk_size):
    found, index = nearest_neighbours(KNOWN, NEW, 6, chunk_size=chunk_size)
    for point, cosines, indices in zip(NEW, found.tolist(), index.tolist(), strict=True):
        assert indices == in_order(point)[:6]
        assert cosines == pytest.approx([cosine(point, KNOWN[j]) for j in indices])


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (5, 0.07), (20, 0.07), (20, 1), (80, 0.2)])
@pytest.mark.parametrize("chunk_size", [8, 512])
def test_the_vote_is_weighted_by_exp_of_cosine_over_temperature(k, temperature, chunk_size):
    right = sum(voted(point, k, temperature) == label for point, label in zip(NEW, NEW_LABELS.tolist(), strict=True))
    options = {"k": k, "temperature": temperature, "chunk_size": chunk_size}
    assert knn_accuracy(KNOWN, LABELS, NEW, NEW_LABELS, **options) == wilson(right, 50)


def test_k_and_temperature_matter_to_the_vote():
    votes = {(k, t): [voted(point, k, t) for point in NEW] for k, t in ((1, 0.07), (20, 0.07), (20, 1), (80, 0.2))}
    assert len(set(map(tuple, votes.values()))) == 4


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_at_a_low_temperature_only_the_nearest_counts(dtype):
    """exp(1 / 0.001) is beyond every floating-point type."""
    one = nearest_neighbour_accuracy(KNOWN.to(dtype), LABELS, NEW.to(dtype), NEW_LABELS)
    assert knn_accuracy(KNOWN.to(dtype), LABELS, NEW.to(dtype), NEW_LABELS, k=20, temperature=1e-3).value == one


def test_the_usual_vote_is_of_20_at_temperature_0_07():
    def accuracies(**options):
        """On 400 points, under five sets of labels, so that no two settings agree by chance."""
        labels = torch.arange(400) % 5
        return [knn_accuracy(KNOWN, LABELS, points(400, seed=2), (labels + s) % 5, **options) for s in range(5)]

    assert accuracies() == accuracies(k=20, temperature=0.07)
    for other in ({"k": 10}, {"temperature": 0.05}, {"temperature": 0.1}):
        assert accuracies() != accuracies(**other)


def test_nearest_neighbour_is_the_one_of_largest_cosine():
    hits = sum(LABELS[in_order(point)[0]] == label for point, label in zip(NEW, NEW_LABELS, strict=True))
    assert nearest_neighbour_accuracy(KNOWN, LABELS, NEW, NEW_LABELS) == pytest.approx(hits / 50)
    assert 0 < hits < 50


def test_a_point_is_its_own_nearest_neighbour():
    features, labels = reference.unit_vectors(30, 3), torch.arange(30) % 4
    assert nearest_neighbour_accuracy(features.requires_grad_(), labels, features, labels) == 1


def test_double_features_are_compared_in_double_precision():
    """Two neighbours whose cosines with the new point differ by 5e-11: single precision cannot tell them apart."""
    known = torch.tensor([[1, 1e-5], [1, 0], [1, 1e-5]], dtype=torch.float64)
    for truth, new in ((1, [[1, 0]]), (0, [[1, 1.1e-5]])):
        new = torch.tensor(new, dtype=torch.float64)
        assert nearest_neighbour_accuracy(known, torch.tensor([0, 1, 0]), new, torch.tensor([truth])) == 1


def test_classes_may_have_any_numbers():
    names = torch.tensor([2, 3, 50, 51, 1000])
    expected = knn_accuracy(KNOWN, LABELS, NEW, NEW_LABELS)
    assert knn_accuracy(KNOWN, names[LABELS], NEW, names[NEW_LABELS]) == expected


def test_pixels_in_whole_numbers_are_features_too():
    pixels = (40 * KNOWN).long()
    assert nearest_neighbour_accuracy(pixels, LABELS, pixels, LABELS) == nearest_neighbour_accuracy(
        pixels.double(), LABELS, pixels.double(), LABELS
    )


@pytest.mark.parametrize("shots", [1, 3])
def test_few_shot_draws_that_many_of_each_class(monkeypatch, shots):
    """Each accuracy is that of the nearest neighbour among the drawn points."""
    features, labels, drawn = KNOWN, LABELS, []
    nearest = neighbours.nearest_neighbours
    monkeypatch.setattr(neighbours, "nearest_neighbours", lambda *given: drawn.append(given[0]) or nearest(*given))
    accuracies = few_shot_accuracy(features, labels, NEW, NEW_LABELS, shots=shots, draws=20)
    monkeypatch.undo()
    assert accuracies.shape == (20,) and accuracies.dtype == torch.float64
    chosen = [[int(torch.nonzero((features == point).all(dim=1))) for point in points] for points in drawn]
    for places, accuracy in zip(chosen, accuracies.tolist(), strict=True):
        assert len(set(places)) == 5 * shots
        assert torch.bincount(labels[places]).tolist() == [shots] * 5
        assert accuracy == nearest_neighbour_accuracy(features[places], labels[places], NEW, NEW_LABELS)
    assert len(set(map(tuple, chosen))) == 20


def test_few_shot_accuracies_repeat_from_their_seed():
    features, labels = reference.unit_vectors(60, 3), torch.arange(60) % 3
    first, again, other = (few_shot_accuracy(features, labels, features, labels, seed=s) for s in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.std() > 0 and ((first >= 0) & (first <= 1)).all()
