"""Exercises of chapter 05; in the mistakes: burn-in b, carried-over weight w, reencode rho, coin u."""

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

dropped_variant = Exercise(
    "dropped_variant",
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


def _coin_weights(held_weight, reencode, coin):
    encoded = 1 / reencode if coin < reencode * held_weight else 0.0
    return encoded, held_weight - encoded


coin_weights = Exercise(
    "coin_weights",
    _coin_weights,
    cases=[
        (0.5, 0.5, 0.1),
        (0.5, 0.5, 0.3),
        (1.0, 1.0, 0.7),
        (1 / 3, 0.25, 0.05),
        (0.5, 1.0, 0.3),
        (0.5, 1.0, 0.6),
        (0.0, 0.5, 0.01),
        (0.5, 0.0, 0.2),
    ],
    mistakes={
        "The mean of c is reencode w(r, 0), too small: a view that is encoded counts 1 / reencode": (
            lambda w, rho, u: (1.0, w - 1.0) if u < rho * w else (0.0, w)
        ),
        "The mean of c is w(r, 0) squared: a view that is encoded counts 1 / reencode": (
            lambda w, rho, u: (w / rho, w - w / rho) if u < rho * w else (0.0, w)
        ),
        "The mean of c is 1: the chance of encoding is reencode w(r, 0)": (
            lambda w, rho, u: (1 / rho, w - 1 / rho) if u < rho else (0.0, w)
        ),
        "The two weights sum to w(r, 0): the remembered embedding gets w(r, 0) - c": (
            lambda w, rho, u: (_coin_weights(w, rho, u)[0], w)
        ),
        "Do not cut w(r, 0) - c at 0: where c is too much, it takes the excess back": (
            lambda w, rho, u: (_coin_weights(w, rho, u)[0], max(_coin_weights(w, rho, u)[1], 0.0))
        ),
        "The weight of the view encoded again comes first": lambda w, rho, u: _coin_weights(w, rho, u)[::-1],
    },
)
