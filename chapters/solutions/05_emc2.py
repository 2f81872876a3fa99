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


def stored_variant(weights, held_weight):
    """What is left sums to 1 - w(r, 0); a row that never left its carried-over state has nothing to repel."""
    if held_weight == 1:
        return torch.zeros_like(weights)
    return weights / (1 - held_weight)
