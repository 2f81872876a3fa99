"""Metropolis-Hastings with uniform proposals, over rows of scores."""

import os
import shutil
from functools import lru_cache
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor

from emc2_lite.sampling.draws import checked_scores, given_or_drawn, one_score_a_row
from emc2_lite.splitmix import compiled, compiles_for
from emc2_lite.tracing import untraced


class ChainRun(NamedTuple):
    """What `metropolis_hastings` returns.

    state: (rows, steps) int64, the proposal held after each step; -1 is the state the chain came with.
    accepted: (rows, steps) bool, whether the step moved to its proposal.
    log_score: (rows,), the score of the last state.
    """

    state: Tensor
    accepted: Tensor
    log_score: Tensor


@untraced
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
        backend: "auto" (numba on the CPU, Triton on a CUDA device where it works, torch elsewhere), "numba", "triton"
            or "torch". All give the same path, bit for bit, from the same uniforms.

    Returns:
        ChainRun(state, accepted, log_score); nothing in it carries a gradient.

    Raises:
        ValueError: on a wrong shape, dtype, device or backend, on scores that are NaN or +inf, and on uniforms outside
            [0, 1) or given together with a generator.

    Source: Metropolis et al. 1953; Hastings 1970; lines 6-12 of Algorithm 1 in Yau et al. 2024 (EMC2).

    >>> scores, halves = torch.tensor([[-9.0, 5.0, -9.0]]), torch.full((1, 3), 0.5)
    >>> metropolis_hastings(scores, torch.zeros(1), uniforms=halves).state  # it moves to candidate 1, and stays
    tensor([[-1,  1,  1]])
    """
    log_scores = checked_scores(log_scores, dims=2)
    initial = one_score_a_row(initial_log_score, log_scores)
    log_uniforms = given_or_drawn(uniforms, log_scores, generator).log()
    return run_chains(log_scores, log_uniforms, initial, backend)


def run_chains(log_scores: Tensor, log_uniforms: Tensor, initial: Tensor, backend: str = "auto") -> ChainRun:
    """`metropolis_hastings` after its checks: log_scores and log U (rows, steps), the scores (rows,) of the start.

    Every backend compares the same two numbers, log_scores - log U and the current score, so their paths agree to the
    last bit.
    """
    device = log_scores.device
    if backend == "auto" and compiles_for(device):
        backend = "numba"
    elif backend == "auto":
        backend = "triton" if device.type == "cuda" and _triton_serves(device) else "torch"
    if backend == "numba":
        return _run_numba(log_scores, log_uniforms, initial)
    if backend == "triton":
        return _run_triton(log_scores, log_uniforms, initial)
    if backend == "torch":
        return _run_torch(log_scores, log_uniforms, initial)
    raise ValueError(f'backend is {backend!r}: use "auto", "numba", "triton" or "torch".')


def _run_torch(log_scores: Tensor, log_uniforms: Tensor, initial: Tensor) -> ChainRun:
    challenge = log_scores - log_uniforms
    accepted = torch.empty_like(log_scores, dtype=torch.bool)
    current = initial.clone()
    for step in range(log_scores.shape[1]):
        torch.gt(challenge[:, step], current, out=accepted[:, step])
        current = torch.where(accepted[:, step], log_scores[:, step], current)
    steps = torch.arange(log_scores.shape[1], device=log_scores.device)
    state = torch.where(accepted, steps, -1).cummax(dim=1).values
    return ChainRun(state, accepted, current)


@lru_cache
def _triton_serves(device: torch.device) -> bool:
    """Triton is for cards of compute capability 7.0 on, and builds its launcher with the machine's C compiler."""
    has_compiler = bool(os.environ.get("CC")) or any(map(shutil.which, ("gcc", "clang", "cc")))
    return find_spec("triton") is not None and has_compiler and torch.cuda.get_device_capability(device) >= (7, 0)


def _run_triton(log_scores: Tensor, log_uniforms: Tensor, initial: Tensor) -> ChainRun:
    if find_spec("triton") is None:
        raise ValueError('backend="triton", but Triton is not installed: use "auto", or install triton.')
    if log_scores.device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        raise ValueError(f'backend="triton" runs on CUDA, but the scores are on {log_scores.device}: use "auto".')
    from emc2_lite.sampling.metropolis_triton import run_triton

    return ChainRun(*run_triton(log_scores, log_uniforms, initial))


def _run_numba(log_scores: Tensor, log_uniforms: Tensor, initial: Tensor) -> ChainRun:
    if not compiles_for(log_scores.device):
        raise ValueError(f'backend="numba" runs on the CPU, but the scores are on {log_scores.device}: use "auto".')
    state = torch.empty(log_scores.shape, dtype=torch.int64, device=log_scores.device)
    accepted = torch.empty(log_scores.shape, dtype=torch.bool, device=log_scores.device)
    last = initial.clone()
    _sweep(*(t.contiguous().numpy() for t in (log_scores, log_uniforms, last, state, accepted)))
    return ChainRun(state, accepted, last)


@compiled
def _sweep(log_scores, log_uniforms, current, state, accepted):
    for row in range(log_scores.shape[0]):
        held, held_score, since = -1, current[row], 0
        accepted[row] = False
        for step in range(log_scores.shape[1]):
            if log_scores[row, step] - log_uniforms[row, step] > held_score:
                state[row, since:step] = held
                held, held_score, since = step, log_scores[row, step], step
                accepted[row, step] = True
        state[row, since:] = held
        current[row] = held_score
