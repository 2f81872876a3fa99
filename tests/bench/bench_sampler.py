"""Metropolis-Hastings over a batch: 2b chains, each through 2b - 2 proposals, random numbers included."""

import pytest
import torch

from bench.bench_losses import SAMPLES, TEMPERATURE, clustered
from bench.conftest import DEVICE
from emc2_lite.losses import random_proposals
from emc2_lite.sampling import Proposals, metropolis_hastings, metropolis_visit

ROUNDS = {32: 60, 128: 20, 512: 8, 2048: 2}
every_size = pytest.mark.parametrize("b", ROUNDS)


def scores(b):
    """Scores at temperature 0.07 of two views of b samples, drawn from a larger set."""
    table = clustered(max(SAMPLES, b))
    z = table[torch.randperm(len(table), generator=torch.Generator().manual_seed(0))[:b]].transpose(0, 1).flatten(0, 1)
    return z @ z.T / TEMPERATURE


def visit(logits, initial):
    """The sampling of an EMC2 step: candidates in random order, uniforms, chains, and the shares of the kept steps."""
    b = len(logits) // 2
    order, uniforms = random_proposals(b, logits, None)
    return metropolis_visit(logits, initial, Proposals(order, uniforms.log_(), b - 1))


def proposal_by_proposal(logits, initial, order):
    """The same as published: a ratio of exponentials, a random number and masked updates for each proposal."""
    rows = torch.arange(len(logits), device=DEVICE)
    weights, state, current = torch.zeros_like(logits), torch.full_like(rows, -1), initial.exp()
    dropped, steps = order.shape[1] // 2, order.shape[1]
    for step in range(steps):
        column = order[:, step]
        proposed = logits[rows, column].exp()
        moves = torch.rand_like(current) < (proposed / current).clamp(max=1)
        state[moves], current[moves] = column[moves], proposed[moves]
        if step >= dropped:
            in_batch = state >= 0
            weights[rows[in_batch], state[in_batch]] += 1 / (steps - dropped)
    return weights, state


@every_size
def test_visit_against_the_loop(compare, b):
    logits, initial = scores(b), torch.zeros(2 * b, device=DEVICE)
    order = random_proposals(b, logits, None)[0].long()
    compare(
        "visit of the chains",
        f"b={b}",
        ("metropolis_visit", lambda: visit(logits, initial)),
        ("loop over proposals", lambda: proposal_by_proposal(logits, initial, order)),
        rounds=ROUNDS[b],
        target={32: 40, 512: 15}.get(b),
        faster=True,
    )


@every_size
def test_visit_against_its_limit(compare, b):
    logits, initial = scores(b), torch.zeros(2 * b, device=DEVICE)
    compare(
        "visit of the chains",
        f"b={b}",
        ("metropolis_visit", lambda: visit(logits, initial)),
        ("limit: one read of the scores", lambda: logits.amax(dim=1)),
        rounds=ROUNDS[b] + 5,
    )


@every_size
def test_paths_against_the_loop_of_torch(compare, b):
    log_scores, initial = scores(b)[:, 2:].contiguous(), torch.zeros(2 * b, device=DEVICE)
    compare(
        "paths of the chains",
        f"b={b}",
        ("metropolis_hastings", lambda: metropolis_hastings(log_scores, initial)),
        ('backend="torch"', lambda: metropolis_hastings(log_scores, initial, backend="torch")),
        rounds=ROUNDS[b],
        faster=True,
    )
