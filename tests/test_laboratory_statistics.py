"""Intervals over seeds and by the jackknife; the criteria, parameters and refusals of the laboratory."""

import json
import math

import pytest
import torch

from emc2_lite.cli.options import columns
from emc2_lite.laboratory import (
    Interval,
    chain_mixing,
    disjoint,
    embedding_table,
    exact_gradient,
    gradient_bias,
    gradient_quality,
    leads,
    of_seeds,
)
from emc2_lite.laboratory.experiments import EXPERIMENTS, criterion
from emc2_lite.laboratory.experiments.at_rest import DIGITS, digit_views
from emc2_lite.laboratory.statistics import jackknife, over_seeds
from emc2_lite.losses import METHODS, EMC2Loss, NTXentLoss
from emc2_lite.records import json_line
from emc2_lite.vision import load_digits


def test_an_interval_over_seeds_is_students():
    """1, 2, 3, 4: mean 2.5, deviation sqrt(5 / 3); the 97.5 % point of Student's t with 3 degrees is 3.182446."""
    reach = 3.182446 * (5 / 3) ** 0.5 / 2
    assert of_seeds([1, 2, 3, 4]) == pytest.approx((2.5, 2.5 - reach, 2.5 + reach), rel=1e-6)


def test_two_seeds_have_a_wide_interval():
    """0 and 2: mean 1, standard error 1; the 97.5 % point with 1 degree of freedom is 12.7062."""
    assert of_seeds([0.0, 2.0]) == pytest.approx((1, -11.7062, 13.7062), rel=1e-5)


def test_the_jackknife_of_a_mean_is_students_interval():
    values = torch.tensor([0.3, -1.2, 2.5, 0.7, 0.1], dtype=torch.float64)
    assert jackknife(lambda chosen: values[chosen].mean().item(), 5) == pytest.approx(of_seeds(values.tolist()))


def test_the_jackknife_leaves_out_each_block_once():
    asked = []
    jackknife(lambda chosen: float(asked.append(chosen.tolist()) or 0), 3)
    assert sorted(asked) == [[0, 1], [0, 1, 2], [0, 2], [1, 2]]


def losses(**methods):
    return [{"method": name, "seed": seed, "loss": x} for name, xs in methods.items() for seed, x in enumerate(xs)]


def test_a_lead_is_paired_by_seed():
    """A lies 1, 2 and 3 below B, whatever the order of rows: mean -2, standard error 1 / sqrt(3), t 4.302653."""
    rows = losses(A=[10.0, 0.0, 5.0], B=[11.0, 2.0, 8.0], C=[0.0, 0.0, 0.0])
    reach = 4.302653 / 3**0.5
    for order in (rows, rows[::-1]):
        lead = leads(order, "A", "B")
        assert (lead.wins, lead.seeds) == (3, 3)
        assert lead.difference == pytest.approx((-2, -2 - reach, -2 + reach), rel=1e-6)
    behind = leads(rows, "B", "A")
    assert (behind.wins, behind.difference.value) == (0, 2)


def test_a_tie_in_a_seed_is_no_win_and_another_value_may_be_compared():
    rows = [row | {"steps": row["seed"]} for row in losses(A=[1.0, 1.0], B=[1.0, 2.0])]
    assert leads(rows, "A", "B").wins == 1
    assert leads(rows, "A", "B", value="steps")[:2] == (0, 2)


def test_intervals_that_touch_are_not_disjoint():
    low, high = Interval(1, 0, 2), Interval(4, 3, 5)
    assert disjoint(low, high) and disjoint(high, low)
    for other in (Interval(2.5, 2, 3), Interval(1, 0.5, 1.5), Interval(1, -1, 6), low):
        assert not disjoint(low, other) and not disjoint(other, low)


def test_rows_become_means_over_seeds():
    rows = [
        {"method": method, "b": b, "seed": seed, "loss": loss, "other": None}
        for method, b, seed, loss in [("A", 4, 0, 0.0), ("B", 4, 0, 5.0), ("A", 4, 1, 2.0), ("A", 8, 0, 7.0)]
    ]
    first, *others = over_seeds(rows, ["method", "b"], ["loss"])
    assert first == {
        "method": "A",
        "b": 4,
        "seeds": 2,
        "loss": 1.0,
        "loss_low": pytest.approx(-11.7062),
        "loss_high": pytest.approx(13.7062),
    }
    assert others == [
        {"method": "B", "b": 4, "seeds": 1, "loss": 5.0, "loss_low": None, "loss_high": None},
        {"method": "A", "b": 8, "seeds": 1, "loss": 7.0, "loss_low": None, "loss_high": None},
    ]


def test_a_measurement_that_is_not_finite_has_no_mean():
    """Such a measurement is NaN in a run, and None in its record."""
    rows = [{"method": "A", "seed": seed, "loss": loss} for seed, loss in enumerate((1.0, None, 2.0))]
    expected = {"method": "A", "seeds": 3, "loss": None, "loss_low": None, "loss_high": None}
    assert over_seeds(rows, ["method"], ["loss"]) == [expected]
    assert over_seeds(rows[1:2], ["method"], ["loss"]) == [expected | {"seeds": 1}]
    assert columns([expected]).splitlines()[1].split() == ["A", "3", "None"]
    measured = over_seeds([row | {"loss": row["loss"] or math.nan} for row in rows], ["method"], ["loss"])
    assert json.loads(json_line(measured[0])) == expected


def test_the_training_split_has_the_number_of_digits_that_the_experiments_state():
    assert len(digit_views(DIGITS)) == len(load_digits("train").images) == DIGITS


def test_the_outcome_has_the_last_step_of_a_curve_and_every_window():
    curve = [{"method": "A", "seed": s, "step": t} | dict.fromkeys(EXPERIMENTS["gradient-error"].values[1:], s + t)
             for s in (0, 1) for t in (0, 50, 9)]  # fmt: skip
    (end,) = EXPERIMENTS["gradient-error"].final(curve)
    assert (end["step"], end["loss"], end["seeds"]) == (50, 50.5, 2)
    measured = dict.fromkeys(EXPERIMENTS["jump"].values, 1.0)
    windows = [
        {"method": "A", "seed": seed, "visits_from": start, "visits_to": start + 1, "ruler": "weights"} | measured
        for seed in (0, 1)
        for start in (0, 1)
    ]
    outcome = EXPERIMENTS["jump"].final(windows)
    assert [(row["visits_from"], row["visits_to"], row["seeds"]) for row in outcome] == [(0, 1, 2), (1, 2, 2)]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_its_criterion_with_the_setting_in_its_name(method):
    loss = criterion(method, 10, 0.3, 8)
    assert loss.temperature == 0.3
    assert loss.num_samples in (None, 10)
    if ", " in method:
        setting, value = method.split(", ")[1].split("=")
        assert getattr(loss, setting) == float(value)


TABLE = embedding_table(num_samples=6, dim=4)
REFUSALS = {
    "edges is [0]: it must be a list of at least 2 values.": lambda: quality(edges=[0]),
    "edges is [3, 3]: its numbers must grow": lambda: quality(edges=[3, 3]),
    "edges is [5, 2, 8]: its numbers must grow": lambda: quality(edges=[5, 2, 8]),
    "edges holds -1: it must be a whole number from 0 to 1,000,000,000.": lambda: quality(edges=[-1, 2]),
    "runs is 2: it must be a whole number of 3 or more.": lambda: quality(runs=2),
    "batch_size is 7: it must be from 2 to the number of samples, 6.": lambda: quality(batch_size=7),
    "batch_size is 1: it must be a whole number of 2 or more.": lambda: quality(batch_size=1),
    "seed is -1: it must be a whole number from 0": lambda: quality(seed=-1),
    "table has shape (6, 4): pass (N, 2, d)": lambda: quality(TABLE[:, 0]),
    "table is a ndarray: pass a torch.Tensor.": lambda: quality(TABLE.numpy()),
    "table is a list: pass a torch.Tensor.": lambda: mixing(TABLE.tolist()),
    "table is a NoneType: pass a torch.Tensor.": lambda: exact_gradient(None, 0.2),
    "checkpoints is [20, 50]: pass increasing multiples of 20.": lambda: gradient_bias(
        NTXentLoss(0.2), TABLE, batch_size=2, checkpoints=[20, 50]
    ),
    "checkpoints is (40, 20): its numbers must grow": lambda: gradient_bias(
        NTXentLoss(0.2), TABLE, batch_size=2, checkpoints=(40, 20)
    ),
    "view_noise is -1: it must be a number of 0 or more.": lambda: embedding_table(view_noise=-1),
    "visits is 3: it must be a whole number of 4 or more.": lambda: mixing(visits=3),
    "batch_size is 7: it must be": lambda: mixing(batch_size=7),
    "table has shape (6, 1, 4): pass (N, 2, d), two views a sample.": lambda: mixing(TABLE[:, :1]),
    "An interval needs at least 2 seeds, and there are 1 values.": lambda: of_seeds([1.0]),
    "A has 4 rows for 2 seeds: pass one row a seed.": lambda: leads(2 * losses(A=[1.0, 2.0]), "A", "B"),
    "A has the seeds [0, 1] and B [0]: pass pairs.": lambda: leads(losses(A=[1.0, 2.0], B=[1.0]), "A", "B"),
    "method is 'SimCLR': use one of NT-Xent, DCL, SogCLR, cache, EMC2,": lambda: criterion("SimCLR", 6, 0.2),
    "method is 'SogCLR, gamma=0.7': use one of": lambda: criterion("SogCLR, gamma=0.7", 6, 0.2),
    "samples is 1438: it must be a whole number from 2 to 1,437.": lambda: digit_views(1438),
    "data is 'mnist': use one of digits, cifar10,": lambda: EXPERIMENTS["gradient-error"].config({"data": "mnist"}),
    "seeds is 0: it must be a whole number": lambda: EXPERIMENTS["stationarity"].run(seeds=0),
    "There is no setting sedes: use methods, ": lambda: EXPERIMENTS["jump"].config({"sedes": 1}),
    "seeds is 1.5: it must be a whole number": lambda: EXPERIMENTS["jump"].config({"seeds": 1.5}),
    "seeds is True: it must be a whole number": lambda: EXPERIMENTS["jump"].config({"seeds": True}),
    "temperature is '0.2': it must be a number": lambda: EXPERIMENTS["jump"].config({"temperature": "0.2"}),
    "methods is 'EMC2': it must be a list": lambda: EXPERIMENTS["jump"].config({"methods": "EMC2"}),
    "methods is []: it must be a list of at least 1 value.": lambda: EXPERIMENTS["jump"].config({"methods": []}),
    "methods holds 'exact gradient': use one of NT-Xent,": lambda: EXPERIMENTS["jump"].config(
        {"methods": ["exact gradient"]}
    ),
    "visits_after holds 1.5: it must be a whole number": lambda: EXPERIMENTS["jump"].config({"visits_after": [0, 1.5]}),
}


def quality(table=TABLE, **settings):
    return gradient_quality(lambda: NTXentLoss(0.2), table, **({"batch_size": 2, "edges": [0, 1]} | settings))


def mixing(table=TABLE, **settings):
    return chain_mixing(EMC2Loss(6, 0.2), table, **({"batch_size": 2, "visits": 4} | settings))


@pytest.mark.parametrize(("sentence", "call"), REFUSALS.items(), ids=REFUSALS)
def test_bad_input_is_refused_in_one_sentence(sentence, call):
    with pytest.raises(ValueError) as refusal:
        call()
    assert str(refusal.value).startswith(sentence)
    assert "\n" not in str(refusal.value)


def test_given_parameters_replace_defaults():
    config = EXPERIMENTS["jump"].config({"temperature": 1, "methods": ["DCL"]})
    assert (config["temperature"], config["methods"], config["seeds"]) == (1, ["DCL"], 5)
    assert "progress" not in config
