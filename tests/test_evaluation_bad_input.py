"""What an evaluation refuses, each in one sentence; nothing is trained by then."""

import math

import pytest
import torch
from test_evaluation_encoders import Columns, Encoder, run
from test_evaluation_probe import TEST, TRAIN

from emc2_lite.evaluation import (
    features_of,
    few_shot_accuracy,
    knn_accuracy,
    label_efficiency,
    linear_probe,
    nearest_neighbour_accuracy,
    nearest_neighbours,
    validation_split,
)

FEATURES, LABELS = TRAIN
NEW, NEW_LABELS = TEST
BROKEN = FEATURES.clone()
BROKEN[7, 2] = math.nan

PARTS = {
    "features has shape (200,): pass (n, f)": (FEATURES[:, 0], LABELS, NEW, NEW_LABELS),
    "test_features has shape (100, 0): pass (n, f)": (FEATURES, LABELS, NEW[:, :0], NEW_LABELS),
    "There are 199 labels for 200 features": (FEATURES, LABELS[1:], NEW, NEW_LABELS),
    "There are 99 test_labels for 100 test_features": (FEATURES, LABELS, NEW, NEW_LABELS[1:]),
    "labels is torch.float32 of shape (200,): pass torch.int64": (FEATURES, LABELS.float(), NEW, NEW_LABELS),
    "test_labels is torch.int64 of shape (100, 1): pass": (FEATURES, LABELS, NEW, NEW_LABELS[:, None]),
    "labels is empty": (FEATURES[:0], LABELS[:0], NEW, NEW_LABELS),
    "test_labels is empty": (FEATURES, LABELS, NEW[:0], NEW_LABELS[:0]),
    "labels holds -1, which names no class": (FEATURES, LABELS - 1, NEW, NEW_LABELS),
    "test_labels holds -1, which names no class": (FEATURES, LABELS, NEW, NEW_LABELS - 1),
    "features holds NaN or infinite values": (BROKEN, LABELS, NEW, NEW_LABELS),
    "test_features holds NaN or infinite values": (FEATURES, LABELS, NEW / 0, NEW_LABELS),
    "features has 6 numbers a row and test_features 5": (FEATURES, LABELS, NEW[:, 1:], NEW_LABELS),
    "labels holds the single class 3": (FEATURES, torch.full_like(LABELS, 3), NEW, torch.full_like(NEW_LABELS, 3)),
    "test_labels holds class 3, which labels does not": (FEATURES[LABELS != 3], LABELS[LABELS != 3], NEW, NEW_LABELS),
}
MEASURES = (nearest_neighbour_accuracy, knn_accuracy, few_shot_accuracy, linear_probe, label_efficiency)


def check(sentence, call):
    with pytest.raises(ValueError) as refusal:
        call()
    assert str(refusal.value).startswith(sentence)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(("sentence", "parts"), PARTS.items(), ids=PARTS)
def test_parts_that_do_not_fit_are_refused(measure, sentence, parts):
    check(sentence, lambda: measure(*parts))


REFUSALS = {
    "k is 201: there are 200 points to look among, so pass 1 to 200": lambda: knn_accuracy(*TRAIN, *TEST, k=201),
    "k is 0: there are 200": lambda: nearest_neighbours(FEATURES, NEW, 0),
    "chunk_size is 0: it must be at least 1": lambda: knn_accuracy(*TRAIN, *TEST, chunk_size=0),
    "temperature is 0: it must be a positive": lambda: knn_accuracy(*TRAIN, *TEST, temperature=0),
    "shots is 51: the smallest class has 50": lambda: few_shot_accuracy(*TRAIN, *TEST, shots=51),
    'protocol is \'papers\': use "tuned" or "paper"': lambda: linear_probe(*TRAIN, *TEST, protocol="papers"),
    "Class 2 has a single label: pass at least 2 a class": lambda: linear_probe(
        torch.cat((FEATURES[LABELS != 2], FEATURES[:1])), torch.cat((LABELS[LABELS != 2], torch.tensor([2]))), *TEST
    ),
    "counts holds 60: the smallest class has 50 points, so pass 1 to 50": lambda: label_efficiency(
        *TRAIN, *TEST, counts=(1, 60)
    ),
    "counts holds 0: the smallest": lambda: label_efficiency(*TRAIN, *TEST, counts=(0, 1)),
    "counts is [] and draws is 5: pass at least": lambda: label_efficiency(*TRAIN, *TEST, counts=()),
    "counts is [1] and draws is 0: pass at least": lambda: label_efficiency(*TRAIN, *TEST, counts=(1,), draws=0),
    "share is 0: it must be between 0 and 1": lambda: validation_split(LABELS, 0),
    "share is 1: it must be between 0 and 1": lambda: validation_split(LABELS, 1),
    "labels holds -1, which": lambda: validation_split(LABELS - 1),
    "batch_size is 0: it must be at least 1 image": lambda: features_of(Encoder(), Columns(), batch_size=0),
    "There are no images to take features of": lambda: features_of(Encoder(), Columns(), torch.arange(0)),
    "There are 59 labels for 60 images": lambda: run(labels=torch.zeros(59).long()),
    "labels holds -1, which names no class: leave": lambda: run(labels=Columns().labels - 1),
    "labels is empty": lambda: run(indices=torch.arange(0)),
    "labels holds the single class 1": lambda: run(labels=torch.ones(60).long()),
    "test_labels holds class 2, which labels does not": lambda: run(labels=Columns().labels % 2),
    "epochs is 0 and batch_size 20: pass at least 1 epoch": lambda: run(epochs=0),
    "epochs is 4 and batch_size 61: pass at least 1 epoch, and a batch of 1 to 60": lambda: run(batch_size=61),
    "epochs is 4 and batch_size 11: pass at least 1 epoch, and a batch of 1 to 10": lambda: run(
        batch_size=11, indices=torch.arange(10)
    ),
    "epochs is 4 and batch_size 0": lambda: run(batch_size=0),
}


@pytest.mark.parametrize(("sentence", "call"), REFUSALS.items(), ids=REFUSALS)
def test_bad_settings_are_refused(sentence, call):
    check(sentence, call)


def test_features_that_are_not_finite_are_counted_and_the_first_is_named():
    views = Columns()
    views.images[[30, 40]] = math.inf
    check("The features of 2 of 60 images hold NaN or infinite values, those of image 30 first", lambda: features_of(
        Encoder(), views
    ))  # fmt: skip
    check("The features of 1 of 2 images hold NaN or infinite values, those of image 40 first", lambda: features_of(
        Encoder(), views, torch.tensor([5, 40])
    ))  # fmt: skip


def test_a_refused_baseline_has_trained_nothing():
    encoder, views = Encoder(), Columns()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    for bad in ({"labels": views.labels % 2}, {"batch_size": 61}):
        with pytest.raises(ValueError):
            run(encoder, views, **bad)
    assert not views.asked
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
