"""Exercises of chapter 05."""

import math

import torch

from emc2_lite.course.exercise import Exercise


def _kept_weights(states, m, burn_in):
    burned = math.floor(burn_in * m)
    kept = states[burned:]
    weights = torch.zeros(m + 1)
    for state in kept.tolist():
        weights[m if state < 0 else state] += 1 / len(kept)
    return weights


def _one_too_few(states, m, burn_in):
    burned = math.floor(burn_in * m)
    weights = torch.zeros(m + 1)
    for state in states[burned + 1 :].tolist():
        weights[m if state < 0 else state] += 1 / (m - burned)
    return weights


def _divided_by_all(states, m, burn_in):
    return _kept_weights(states, m, burn_in) * (m - math.floor(burn_in * m)) / m


def _minus_one_is_last(states, m, burn_in):
    weights = _kept_weights(states, m, burn_in)
    weights[m - 1] += weights[m].item()
    weights[m] = 0
    return weights


def _no_burn_in(states, m, burn_in):
    return _kept_weights(states, m, 0.0)


def _without_the_held_state(states, m, burn_in):
    weights = _kept_weights(states, m, burn_in)
    weights[m] = 0
    return weights


kept_weights = Exercise(
    "kept_weights",
    _kept_weights,
    cases=[
        (torch.tensor([-1, -1, 2, 2]), 4, 0.5),
        (torch.tensor([-1, -1, -1, 3, 3, 5]), 6, 0.5),
        (torch.tensor([-1, -1, -1, -1, -1, -1]), 6, 0.5),
        (torch.tensor([-1, 1, 1, 1, 4, 4, 4, 4, 8, 8]), 10, 0.75),
        (torch.tensor([0, 0, 2, 2, 2, 5]), 6, 0.0),
        (torch.tensor([-1, 4, 4, 0, 0, 2]), 6, 0.5),
    ],
    mistakes={
        "One step fewer is counted than the divisor says: keep the steps from number B on, B included": _one_too_few,
        "The shares do not sum to 1: divide by the R = m - B kept steps, not by all m": _divided_by_all,
        "State -1 is the carried-over state, but as an index it selects the last entry: it needs its own place": (
            _minus_one_is_last
        ),
        "The first B = floor(burn_in m) steps are not dropped": _no_burn_in,
        "The share of the carried-over state is missing: its place is the last": _without_the_held_state,
        "The carried-over share stands first; it belongs last": (
            lambda states, m, burn_in: _kept_weights(states, m, burn_in).roll(1)
        ),
    },
)


def _stored_state(last, candidates, held):
    return held if last < 0 else candidates[last]


stored_state = Exercise(
    "stored_state",
    _stored_state,
    cases=[
        (2, [(4, 0), (9, 1), (7, 0), (4, 1)], (3, 1)),
        (-1, [(4, 0), (9, 1), (7, 0), (4, 1)], (3, 1)),
        (0, [(5, 6), (8, 6)], (5, 2)),
        (-1, [(5, 6), (8, 6)], (1, 2)),
        (4, [(9, 1), (3, 0), (8, 1), (3, 1), (6, 0)], (2, 0)),
        (1, [(9, 1), (3, 0), (8, 1), (3, 1), (6, 0)], (3, 0)),
        (3, [(9, 1), (3, 0), (8, 1), (3, 1), (6, 0)], (3, 1)),
    ],
    mistakes={
        "State -1 means that the chain has not moved, and Python's candidates[-1] is the last candidate": (
            lambda last, candidates, held: candidates[last]
        ),
        "The chain forgets that it moved": lambda last, candidates, held: held,
    },
)


def _stored_variant(weights, held_weight):
    return weights / (1 - held_weight) if held_weight < 1 else torch.zeros_like(weights)


stored_variant = Exercise(
    "stored_variant",
    _stored_variant,
    cases=[
        (torch.tensor([0.5, 0.0, 0.25, 0.0]), 0.25),
        (torch.tensor([0.0, 0.0, 1.0]), 0.0),
        (torch.tensor([0.0, 0.0]), 1.0),
        (torch.tensor([0.0, 0.1, 0.2, 0.3]), 0.4),
    ],
    mistakes={
        "The carried-over share is dropped, but what is left does not sum to 1": lambda weights, held_weight: weights,
        "Divide by what is left, 1 - w(r, 0), not by what is lost": (
            lambda weights, held_weight: weights / torch.tensor(held_weight)
        ),
        "A row that kept no in-batch step has no repulsion: 0 / 0 is not a number": (
            lambda weights, held_weight: weights / (1 - torch.tensor(held_weight))
        ),
    },
)
