"""Exercises of chapter 05; in the mistakes: burn-in b."""

import math

import torch

from emc2_lite.course.exercise import Exercise


def _shares(kept, m, steps):
    """The share of `steps` at each of m candidates and, in the last place, at the carried-over state -1."""
    return torch.bincount(kept % (m + 1), minlength=m + 1) / steps


def _kept_weights(states, m, burn_in):
    burned = math.floor(burn_in * m)
    return _shares(states[burned:], m, m - burned)


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
        "Step B is dropped too: keep the steps from number B on, B included": (
            lambda states, m, b: _shares(states[math.floor(b * m) + 1 :], m, m - math.floor(b * m))
        ),
        "The shares do not sum to 1: divide by the R = m - B kept steps, not by all m": (
            lambda states, m, b: _shares(states[math.floor(b * m) :], m, m)
        ),
        "State -1 is the carried-over state, but as an index it selects the last entry: give the state its own place": (
            lambda states, m, b: _kept_weights(states % m, m, b)
        ),
        "The first B = floor(burn_in m) steps are counted: drop them": lambda states, m, b: _kept_weights(states, m, 0),
        "The share of the carried-over state is missing: put it in the last place": (
            lambda states, m, b: _kept_weights(states, m, b) * (torch.arange(m + 1) < m)
        ),
        "The carried-over share is first: it belongs last": lambda states, m, b: _kept_weights(states, m, b).roll(1),
    },
)

stored_state = Exercise(
    "stored_state",
    lambda last, candidates, held: held if last < 0 else candidates[last],
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
        "State -1 means that the chain has not moved, but candidates[-1] is the last candidate: return held": (
            lambda last, candidates, held: candidates[last]
        ),
        "A chain that has moved stores the candidate it moved to": lambda last, candidates, held: held,
    },
)

stored_variant = Exercise(
    "stored_variant",
    lambda weights, held_weight: weights / (1 - held_weight) if held_weight < 1 else torch.zeros_like(weights),
    cases=[
        (torch.tensor([0.5, 0.0, 0.25, 0.0]), 0.25),
        (torch.tensor([0.0, 0.0, 1.0]), 0.0),
        (torch.tensor([0.0, 0.0]), 1.0),
        (torch.tensor([0.0, 0.1, 0.2, 0.3]), 0.4),
    ],
    mistakes={
        "These weights do not sum to 1: divide by what is left, 1 - w(r, 0)": lambda weights, held_weight: weights,
        "This divides by the carried-over share w(r, 0): divide by what is left, 1 - w(r, 0)": (
            lambda weights, held_weight: weights / torch.tensor(held_weight)
        ),
        "A row that kept no in-batch step has no repulsion: 0 / 0 is not a number, so return zeros": (
            lambda weights, held_weight: weights / (1 - torch.tensor(held_weight))
        ),
    },
)
