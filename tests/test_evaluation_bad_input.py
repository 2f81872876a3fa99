"""What an evaluation refuses, each in one sentence; nothing is trained by then."""

import math

import numpy
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
    "k is 0: it must be a whole number from 1": lambda: nearest_neighbours(FEATURES, NEW, 0),
    "chunk_size is 0: it must be a whole number from 1": lambda: knn_accuracy(*TRAIN, *TEST, chunk_size=0),
    "temperature is 0: it must be a number above 0": lambda: knn_accuracy(*TRAIN, *TEST, temperature=0),
    "chunk_size is 18446744073709551616: it must be a whole number from 1 to": lambda: knn_accuracy(
        *TRAIN, *TEST, chunk_size=2**64
    ),
    "features has 6 numbers a row and queries 5": lambda: nearest_neighbours(FEATURES, NEW[:, 1:], 1),
    "shots is 46: the smallest class has 1 point (class 77), so pass at most 1": lambda: few_shot_accuracy(
        FEATURES[:4], torch.tensor([7, 7, 77, 7]), NEW[:1], torch.tensor([7]), shots=46
    ),
    "shots is 0: it must be a whole number from 1": lambda: few_shot_accuracy(*TRAIN, *TEST, shots=0),
    "draws is 0: it must be a whole number from 1": lambda: few_shot_accuracy(*TRAIN, *TEST, draws=0),
    "seed is -1: it must be a whole number from 0": lambda: few_shot_accuracy(*TRAIN, *TEST, seed=-1),
    "protocol is 'papers': use one of tuned, paper": lambda: linear_probe(*TRAIN, *TEST, protocol="papers"),
    "Each class has a single image (classes 5, 7, 900): pass at least 2 images of a class": lambda: linear_probe(
        FEATURES[:3], torch.tensor([7, 900, 5]), NEW[:3], torch.tensor([5, 7, 900])
    ),
    "Each class has a single image (classes 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ...): pass": lambda: validation_split(
        torch.arange(11)
    ),
    "counts holds 60: the smallest class has 50 points (class 0), so pass at most 50": lambda: label_efficiency(
        *TRAIN, *TEST, counts=(1, 60)
    ),
    "counts holds 0: it must be a whole number from 1": lambda: label_efficiency(*TRAIN, *TEST, counts=(0, 1)),
    "counts holds 2 more than once": lambda: label_efficiency(*TRAIN, *TEST, counts=(2, 1, 2)),
    "counts is (): it must be a list of at least 1 value": lambda: label_efficiency(*TRAIN, *TEST, counts=()),
    "draws is 0.5: it must be a whole number": lambda: label_efficiency(*TRAIN, *TEST, counts=(1,), draws=0.5),
    "share is 0: it must be a number above 0 and below 1": lambda: validation_split(LABELS, 0),
    "share is 1: it must be a number above 0": lambda: validation_split(LABELS, 1),
    "labels holds -1, which": lambda: validation_split(LABELS - 1),
    "labels is torch.int64 of shape (): pass": lambda: validation_split(torch.tensor(3)),
    "batch_size is 0: it must be a whole number from 1": lambda: features_of(Encoder(), Columns(), batch_size=0),
    "indices is empty: pass at least one image": lambda: features_of(Encoder(), Columns(), torch.arange(0)),
    "indices is torch.float32 of shape (2,): pass torch.int64": lambda: features_of(
        Encoder(), Columns(), torch.ones(2)
    ),
    "indices holds 60: there are 60 images, numbered from 0": lambda: features_of(
        Encoder(), Columns(), torch.tensor([3, 60])
    ),
    "indices holds -1: there are 60 images": lambda: run(indices=torch.tensor([-1, 3])),
    "labels has shape (59,): pass one label for each of 60 images": lambda: run(labels=torch.zeros(59).long()),
    "labels has shape (): pass one label": lambda: run(labels=torch.tensor(1)),
    "labels holds -1, which names no class: leave": lambda: run(labels=Columns().labels - 1),
    "indices is empty": lambda: run(indices=torch.arange(0)),
    "labels holds the single class 1": lambda: run(labels=torch.ones(60).long()),
    "test_labels holds class 2, which labels does not": lambda: run(labels=Columns().labels % 2),
    "epochs is 0: it must be a whole number from 1": lambda: run(epochs=0),
    "epochs is '4': it must be a whole number from 1": lambda: run(epochs="4"),
    "learning_rate is nan: it must be a number above 0": lambda: run(learning_rate=math.nan),
    "batch_size is 61: it must be at most the number of labelled images, 60": lambda: run(batch_size=61),
    "batch_size is 11: it must be at most the number of labelled images, 10": lambda: run(
        batch_size=11, indices=torch.arange(10)
    ),
    "batch_size is 0: it must be": lambda: run(batch_size=0),
}


@pytest.mark.parametrize(("sentence", "call"), REFUSALS.items(), ids=REFUSALS)
def test_bad_settings_are_refused(sentence, call):
    check(sentence, call)


OTHER_KINDS = {"ndarray": numpy.ones((4, 2)), "list": [[1.0, 0.0], [0.0, 1.0]], "NoneType": None}
TENSORS = {
    **{
        f"{name} of {measure.__name__}": (name, lambda value, measure=measure, at=at: measure(
            *(value if i == at else part for i, part in enumerate((*TRAIN, *TEST)))
        ))
        for measure in MEASURES
        for at, name in enumerate(("features", "labels", "test_features", "test_labels"))
    },
    "features of nearest_neighbours": ("features", lambda value: nearest_neighbours(value, NEW, 1)),
    "queries of nearest_neighbours": ("queries", lambda value: nearest_neighbours(FEATURES, value, 1)),
    "labels of validation_split": ("labels", lambda value: validation_split(value)),
    "labels of supervised_accuracy": ("labels", lambda value: run(labels=value)),
    "test_labels of supervised_accuracy": ("test_labels", lambda value: run(test=_with_labels(value))),
}  # fmt: skip


def _with_labels(labels):
    views = Columns()
    views.labels = labels
    return views


@pytest.mark.parametrize("kind", OTHER_KINDS)
@pytest.mark.parametrize("place", TENSORS)
def test_arguments_that_are_no_tensors_are_refused(place, kind):
    name, call = TENSORS[place]
    check(f"{name} is a {kind}: pass a torch.Tensor.", lambda: call(OTHER_KINDS[kind]))


@pytest.mark.parametrize("kind", ["ndarray", "list"])
def test_indices_that_are_no_tensors_are_refused(kind):
    for call in (lambda value: features_of(Encoder(), Columns(), value), lambda value: run(indices=value)):
        check(f"indices is a {kind}: pass a torch.Tensor.", lambda call=call: call(OTHER_KINDS[kind]))


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
