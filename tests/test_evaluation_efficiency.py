"""Draws from each class: the validation split, and how accuracy grows with labels."""

import pytest
import torch
from test_evaluation_probe import TEST, TRAIN, clouds

from emc2_lite.evaluation import label_efficiency, linear_probe, probe, validation_split
from emc2_lite.evaluation.probe import STRENGTHS


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_a_validation_split_is_stratified_disjoint_and_complete(share):
    labels = torch.tensor([0] * 50 + [3] * 20 + [7] * 10)[
        torch.randperm(80, generator=torch.Generator().manual_seed(0))
    ]
    fit, held_out = validation_split(labels, share, seed=4)
    assert torch.equal(torch.cat((fit, held_out)).sort().values, torch.arange(80))
    assert torch.equal(fit, fit.sort().values) and torch.equal(held_out, held_out.sort().values)
    for label, count in ((0, 50), (3, 20), (7, 10)):
        assert (labels[held_out] == label).sum() == share * count


def test_a_validation_split_is_random_and_fixed_by_its_seed():
    """Null: of 500 images of a class 100 at random. The sum of their places is normal to within 5 deviations: 6e-7."""
    labels = torch.arange(1000) % 2
    first, again, other = (validation_split(labels, seed=s)[1] for s in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    for label in (0, 1):
        places = first[first % 2 == label] // 2
        deviation = (100 * 400 * 501 / 12) ** 0.5
        assert abs(int(places.sum()) - 100 * 499 / 2) < 5 * deviation
        assert len(places.diff().unique()) > 5  # and not each fifth


@pytest.mark.parametrize(("share", "held"), [(0.01, 1), (0.99, 1)])
def test_a_validation_split_leaves_a_label_of_each_class_on_both_sides(share, held):
    fit, held_out = validation_split(torch.tensor([0, 0, 1, 1]), share)
    assert len(fit) == 2 and len(held_out) == 2 * held


@pytest.fixture
def drawn(monkeypatch):
    """What label_efficiency asks of the probe: (features, labels, strengths, seed)."""
    asked, tuned = [], probe.tuned_probe

    def record(features, labels, test_features, test_labels, strengths, seed):
        asked.append((features, labels, strengths, seed))
        return tuned(features, labels, test_features, test_labels, strengths, seed)

    monkeypatch.setattr(probe, "tuned_probe", record)
    return asked


def test_label_efficiency_draws_that_many_of_each_class(drawn):
    features, labels = clouds(60)
    rows = label_efficiency(features, labels, *TEST, counts=(1, 2, 5), draws=3)
    assert [(row["labels_per_class"], row["draw"]) for row in rows] == [(c, d) for d in range(3) for c in (1, 2, 5)]
    sets = []
    for row, (chosen, chosen_labels, strengths, _) in zip(rows, drawn, strict=True):
        count = row["labels_per_class"]
        assert torch.bincount(chosen_labels).tolist() == [count] * 4
        places = [int(torch.nonzero((features == point).all(dim=1))) for point in chosen]
        assert len(set(places)) == 4 * count and torch.equal(labels[places], chosen_labels)
        assert strengths == (STRENGTHS if count > 1 else (1.0,))
        sets.append(set(places))
    for one, two, five in zip(sets[::3], sets[1::3], sets[2::3], strict=True):
        assert one < two < five
    assert len({frozenset(places) for places in sets[::3]}) == 3


def test_label_efficiency_is_the_tuned_probe_and_grows_with_labels(drawn):
    rows = label_efficiency(*TRAIN, *TEST, counts=(2, 40), draws=2, seed=6)
    for row, (chosen, chosen_labels, _, _) in zip(rows, list(drawn), strict=True):
        assert row["accuracy"] == linear_probe(chosen, chosen_labels, *TEST, seed=6).accuracy.value
    few, many = ([row["accuracy"] for row in rows if row["labels_per_class"] == count] for count in (2, 40))
    assert sum(few) < sum(many)
    assert rows == label_efficiency(*TRAIN, *TEST, counts=(2, 40), draws=2, seed=6)
