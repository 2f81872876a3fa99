"""Wilson's interval: known values, its defining equation, and how often it holds."""

import math

import pytest
import torch
from scipy import stats

from emc2_lite.evaluation import Interval, wilson
from emc2_lite.evaluation.intervals import accuracy
from emc2_lite.laboratory import statistics


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    [(0, 10, 0, 0.277533), (5, 10, 0.236593, 0.763407), (10, 10, 0.722467, 1), (81, 263, 0.255289, 0.366210)],
)
def test_wilson_has_its_known_values(successes, count, low, high):
    """At 0 the upper bound is z^2 / (n + z^2); the last case is in Newcombe 1998, table I: 0.2553 to 0.3662."""
    interval = wilson(successes, count)
    assert interval == pytest.approx((successes / count, low, high), abs=2e-6)
    assert 0 <= interval.low <= interval.value <= interval.high <= 1


def test_a_share_of_0_or_1_is_its_own_bound():
    for count in range(1, 500):
        assert wilson(0, count).low == 0 and wilson(count, count).high == 1


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_a_bound_is_the_share_that_lies_z_standard_errors_off(confidence):
    interval, z = wilson(30, 70, confidence), stats.norm.ppf((1 + confidence) / 2)
    for bound, sign in ((interval.low, 1), (interval.high, -1)):
        assert (30 / 70 - bound) / math.sqrt(bound * (1 - bound) / 70) == pytest.approx(sign * z)


@pytest.mark.parametrize("count", [20, 360])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_wilson_covers_the_truth_as_often_as_it_says(count, confidence):
    """By the exact binomial sum, on average over shares from 0.02 to 0.98."""
    successes = range(count + 1)
    intervals = [wilson(s, count, confidence) for s in successes]
    coverage = [
        sum(stats.binom.pmf(s, count, p) for s, i in zip(successes, intervals, strict=True) if i.low <= p <= i.high)
        for p in torch.linspace(0.02, 0.98, 97).tolist()
    ]
    assert sum(coverage) / len(coverage) == pytest.approx(confidence, abs=0.02)


def test_accuracy_is_the_share_of_labels_with_the_largest_score():
    scores, labels = torch.eye(3)[[0, 1, 2, 2, 1]] - 5, torch.tensor([0, 1, 2, 0, 0])
    assert accuracy(scores, labels) == wilson(3, 5)


def test_there_is_one_interval():
    assert statistics.Interval is Interval


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((0, 0), "count is 0: it must be a whole number from 1"),
        ((4, 3), "successes is 4: it must be at most count, 3"),
        ((-1, 3), "successes is -1: it must be a whole number of 0 or more"),
        ((1.5, 3), "successes is 1.5: it must be a whole number"),
        ((1, 3, 0), "confidence is 0: it must be a number above 0 and below 1"),
        ((1, 3, 1), "confidence is 1: it must"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        wilson(*arguments)
