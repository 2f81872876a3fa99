"""Metropolis-Hastings with uniform proposals, over rows of scores."""

from typing import NamedTuple

import numba
import numpy as np
import torch
from torch import Tensor

from emc2_lite.sampling.draws import checked_scores, given_or_drawn, one_score_a_row


class ChainRun(NamedTuple):
    """What `metropolis_hastings` returns.

    state: (rows, steps) int64, the proposal held after each step; -1 is the state the chain came with.
    accepted: (rows, steps) bool, whether the step moved to its proposal.
    log_score: (rows,), the score of the last state.
    """

    state: Tensor
    accepted: Tensor
    log_score: Tensor


def metropolis_hastings(
    log_scores: Tensor,
    initial_log_score: Tensor,
    *,
    uniforms: Tensor | None = None,
    generator: torch.Generator | None = None,
    backend: str = "auto",
) -> ChainRun:
    """Run one chain per row; step j proposes candidate j, whose score is ``log_scores[:, j]``.

    With proposals that are independent and uniform over the states, the acceptance probability is
    min(1, p(proposal) / p(current)), so the chain moves iff ``l_j - log(U_j) > l_current`` with U_j ~ Uniform(0, 1).
    Normalising constants cancel: only the two scores are read.

    Args:
        log_scores: (rows, steps) float32 or float64 scores in nats; -inf marks a state of probability 0.
        initial_log_score: (rows,) scores of the states that the chains come with; -inf for a new chain, which
            then moves to the first proposal of positive probability.
        uniforms: (rows, steps) the U_j in [0, 1); drawn from `generator` when not given.
        generator: source of the uniforms; torch's default when not given.
        backend: "auto" (numba on the CPU, torch elsewhere), "numba" or "torch". All give the same path, bit for bit,
            from the same uniforms.

    Returns:
        ChainRun(state, accepted, log_score); nothing in it carries a gradient.

    Raises:
        ValueError: on a wrong shape, dtype, device or backend, on scores that are NaN or +inf, and on uniforms outside
            [0, 1) or given together with a generator.

    Source: Metropolis et al. 1953; Hastings 1970; lines 6-12 of Algorithm 1 in Yau et al. 2024 (EMC2).
    """
    log_scores = checked_scores(log_scores, dims=2)
    initial = one_score_a_row(initial_log_score, log_scores)
    uniforms = given_or_drawn(uniforms, log_scores, generator)
    # Every backend compares the same two numbers, so their paths agree to the last bit.
    challenge = log_scores - uniforms.log()

    if backend == "auto":
        backend = "numba" if log_scores.device.type == "cpu" else "torch"
    if backend == "numba":
        return _run_numba(log_scores, challenge, initial)
    if backend == "torch":
        return _run_torch(log_scores, challenge, initial)
    raise ValueError(f'backend is {backend!r}: use "auto", "numba" or "torch".')


def _run_torch(log_scores: Tensor, challenge: Tensor, initial: Tensor) -> ChainRun:
    accepted = torch.empty_like(log_scores, dtype=torch.bool)
    current = initial.clone()
    for step in range(log_scores.shape[1]):
        torch.gt(challenge[:, step], current, out=accepted[:, step])
        current = torch.where(accepted[:, step], log_scores[:, step], current)
    steps = torch.arange(log_scores.shape[1], device=log_scores.device)
    state = torch.where(accepted, steps, -1).cummax(dim=1).values
    return ChainRun(state, accepted, current)


def _run_numba(log_scores: Tensor, challenge: Tensor, initial: Tensor) -> ChainRun:
    if log_scores.device.type != "cpu":
        raise ValueError(f'backend="numba" runs on the CPU, but the scores are on {log_scores.device}: use "auto".')
    rows, steps = log_scores.shape
    state = np.empty((rows, steps), dtype=np.int64)
    accepted = np.empty((rows, steps), dtype=np.bool_)
    last = initial.numpy().copy()
    _sweep(log_scores.contiguous().numpy(), challenge.contiguous().numpy(), last, state, accepted)
    return ChainRun(torch.from_numpy(state), torch.from_numpy(accepted), torch.from_numpy(last))


def _compiled(function):
    try:
        return numba.njit(cache=True)(function)
    except RuntimeError:  # nowhere to write the cache: compile anew in each process
        return numba.njit(function)


@_compiled
def _sweep(log_scores, challenge, current, state, accepted):
    for row in range(log_scores.shape[0]):
        held, held_score = -1, current[row]
        for step in range(log_scores.shape[1]):
            moves = challenge[row, step] > held_score
            if moves:
                held, held_score = step, log_scores[row, step]
            accepted[row, step] = moves
            state[row, step] = held
        current[row] = held_score
