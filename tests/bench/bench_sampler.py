"""Metropolis-Hastings over a batch: 2b chains, each through 2b - 2 proposals, random numbers included."""

import pytest
import torch

from bench.conftest import DEVICE
from emc2_lite.losses import random_candidate_order
from emc2_lite.sampling import Proposals, metropolis_hastings, metropolis_visit, random_uniforms

TARGETS = {32: 40, 128: None, 512: 15, 2048: None}


def scores(b, steps):
    """Scores of vectors in random directions, d = 128, at temperature 0.07: their standard deviation is 1.3 nats."""
    z = torch.nn.functional.normalize(torch.randn(2 * b, 128, generator=torch.Generator().manual_seed(b)), dim=1)
    return (z @ z.T / 0.07)[:, :steps].contiguous().to(DEVICE)


def plain_loop(log_scores, initial):
    """Proposal by proposal, with a random number and a ratio of exponentials for each, as the method is published."""
    current, states = initial.exp(), []
    state = torch.full_like(initial, -1, dtype=torch.int64)
    for step in range(log_scores.shape[1]):
        proposed = log_scores[:, step].exp()
        moves = torch.rand_like(initial) < (proposed / current).clamp(max=1)
        current = torch.where(moves, proposed, current)
        state = torch.where(moves, step, state)
        states.append(state)
    return torch.stack(states, dim=1)


@pytest.mark.parametrize("b", TARGETS)
def test_sampler(compare, b):
    log_scores, initial = scores(b, 2 * b - 2), torch.zeros(2 * b, device=DEVICE)
    compare(
        "sampler",
        f"b={b}",
        ("metropolis_hastings", lambda: metropolis_hastings(log_scores, initial)),
        ("loop over proposals", lambda: plain_loop(log_scores, initial)),
        rounds={32: 60, 128: 20, 512: 8, 2048: 2}[b],
        target=TARGETS[b],
        faster=True,
    )


@pytest.mark.parametrize("b", TARGETS)
def test_visit(compare, b):
    """What an EMC2 step does: candidates in random order, uniforms, and the shares of the kept steps."""
    logits, initial = scores(b, 2 * b), torch.zeros(2 * b, device=DEVICE)

    def visit():
        order = random_candidate_order(b, DEVICE, None)
        log_uniforms = random_uniforms(order.shape, logits.dtype, DEVICE, None).log_()
        return metropolis_visit(logits, initial, Proposals(order, log_uniforms, b - 1))

    compare(
        "visit",
        f"b={b}",
        ("order, uniforms, shares", visit),
        ("limit: one read of the scores", lambda: logits.amax(dim=1)),
        rounds={32: 60, 128: 40, 512: 20, 2048: 5}[b],
    )
