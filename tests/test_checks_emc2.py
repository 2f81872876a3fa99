"""The checks of chapter 05 reject wrong answers that they have no sentence for."""

import math

import pytest
import torch

from emc2_lite.course.checks.emc2 import kept_weights, stored_state, stored_variant


def rounded_burn_in(states, m, burn_in):
    kept = states[math.ceil(burn_in * m) :]
    return torch.stack([(kept == k).float().mean() for k in [*range(m), -1]])


def counts(states, m, burn_in):
    kept = states[math.floor(burn_in * m) :]
    return torch.stack([(kept == k).float().sum() for k in [*range(m), -1]])


def no_repeats(states, m, burn_in):
    kept = states[math.floor(burn_in * m) :].unique()
    return torch.stack([(kept == k).float().mean() for k in [*range(m), -1]])


def without_the_held_state(states, m, burn_in):
    kept = states[math.floor(burn_in * m) :]
    return torch.stack([(kept == k).float().mean() for k in range(m)])


def burn_in_twice(states, m, burn_in):
    dropped = math.floor(burn_in * m)
    weights = torch.zeros(m + 1)
    for step, state in enumerate(states[dropped:].tolist()):
        if state >= 0 or step >= dropped:
            weights[state] += 1 / (m - dropped)
    return weights


def shares(kept, m):
    return torch.stack([(kept == k).float().mean() for k in [*range(m), -1]])


def sorted_first(states, m, burn_in):
    return shares(states.sort().values[math.floor(burn_in * m) :], m)


def last_steps_dropped(states, m, burn_in):
    return shares(states[: m - math.floor(burn_in * m)], m)


def half_dropped(states, m, burn_in):
    return shares(states[m // 2 :], m)


def held_state_shared_out(states, m, burn_in):
    weights = shares(states[math.floor(burn_in * m) :], m)
    weights[m] = 0
    return weights / weights.sum().clamp_min(1e-9)


@pytest.mark.parametrize(
    "wrong",
    [
        rounded_burn_in,
        counts,
        no_repeats,
        without_the_held_state,
        burn_in_twice,
        sorted_first,
        last_steps_dropped,
        half_dropped,
        held_state_shared_out,
    ],
)
def test_wrong_weights_are_rejected(wrong):
    assert kept_weights.verdict(wrong).startswith("not yet")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda last, candidates, held: candidates[max(last, 0)],
        lambda last, candidates, held: last,
        lambda last, candidates, held: (*candidates, held)[last][::-1],
        lambda last, candidates, held: held if last <= 0 else candidates[last],
        lambda last, candidates, held: candidates[last] if 0 <= last < len(candidates) - 1 else held,
        lambda last, candidates, held: held if last == -1 else candidates[min(last, 2)],
        lambda last, candidates, held: held if last == -1 else sorted(candidates)[last],
        lambda last, candidates, held: held if last == -1 else (candidates[last][0], held[1]),
    ],
)
def test_a_wrong_state_is_rejected(wrong):
    assert stored_state.verdict(wrong).startswith("not yet")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda weights, held: weights * (1 - held),
        lambda weights, held: weights / (1 - held) if held < 1 else torch.ones_like(weights) / len(weights),
        lambda weights, held: torch.softmax(weights, 0),
        lambda weights, held: weights + held / len(weights),
        lambda weights, held: weights * (1 + held),
        lambda weights, held: (weights > 0) / (weights > 0).sum().clamp_min(1),
        lambda weights, held: weights / (1 - held + 1e-3),
    ],
)
def test_wrong_renormalising_is_rejected(wrong):
    assert stored_variant.verdict(wrong).startswith("not yet")
