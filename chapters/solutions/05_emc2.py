"""Solutions of chapter 05. Each passes its check in `emc2_lite.course.checks.emc2`."""

import math

import torch


def kept_weights(states, m, burn_in):
    """The steps from number B on are kept, B included: m - B of them, and that is the divisor.

    State -1 gets the last place of m + 1. Python's weights[-1] happens to be that place, so counting with
    weights[state] works here; with m places only it would have hit the last candidate, which is a classic bug.
    """
    kept = states[math.floor(burn_in * m) :]
    weights = torch.zeros(m + 1)
    for state in kept.tolist():
        weights[state] += 1 / len(kept)
    return weights


def stored_state(last, candidates, held):
    """A chain that did not move keeps what it held; candidates[-1] would be the last candidate."""
    return held if last == -1 else candidates[last]


def dropped_variant(weights, held_weight):
    """What is left sums to 1 - w(r, 0); a row that never left its carried-over state has nothing to repel."""
    if held_weight == 1:
        return torch.zeros_like(weights)
    return weights / (1 - held_weight)


def coin_weights(held_weight, reencode, coin):
    """c has the mean w(r, 0), whatever reencode is: its value, 1 / reencode, times its chance, reencode w(r, 0)."""
    encoded = 1 / reencode if coin < reencode * held_weight else 0.0
    return encoded, held_weight - encoded
