"""Metropolis-Hastings with uniform proposals, over rows of scores."""

import os
import shutil
from functools import lru_cache
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from emc2_lite import kernels
from emc2_lite.sampling.draws import checked_initial, checked_scores, given_or_drawn
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
    generator: Generator | None = None,
    backend: str = "auto",
) -> ChainRun:
    """Run one chain per row; step j proposes candidate j, whose score is ``log_scores[:, j]``.

    With proposals that are independent and uniform over the states, the acceptance probability is
    min(1, p(proposal) / p(current)), so the chain moves iff ``l_j - log(U_j) > l_current`` with U_j ~ Uniform(0, 1).
    Normalising constants cancel.

    Args:
        log_scores: (rows, steps) float32 or float64 scores in nats; -inf marks a state of probability 0.
        initial_log_score: (rows,) scores of the chains' first states; -inf for a new chain, which moves to the first
            proposal of positive probability.
        uniforms: (rows, steps) the U_j in [0, 1); drawn from `generator` when not given.
        generator: source of the uniforms; torch's default when not given.
        backend: "auto" (numba on the CPU, Triton on a CUDA device where it works, torch elsewhere), "numba", "triton"
            or "torch". All give the same path, bit for bit, from the same uniforms.

    Returns a `ChainRun`, without gradient.

    Raises: ValueError: on a wrong shape, dtype, device or backend, on scores that are NaN or +inf, and on uniforms
        outside [0, 1) or given together with a generator.
    Source: Metropolis et al. 1953; Hastings 1970; lines 6-12 of Algorithm 1 in Yau et al. 2024 (EMC2).

    Chapter 04 builds it.

    >>> scores, halves = torch.tensor([[-9.0, 5.0, -9.0]]), torch.full((1, 3), 0.5)
    >>> metropolis_hastings(scores, torch.zeros(1), uniforms=halves).state  # it moves to candidate 1, and stays
    tensor([[-1,  1,  1]])
    """
    log_scores = checked_scores(log_scores, dims=2)
    initial = checked_initial(initial_log_score, log_scores)
    log_uniforms = given_or_drawn(uniforms, log_scores, generator).log()
    return run_chains(log_scores, log_uniforms, initial, backend)


def run_chains(log_scores: Tensor, log_uniforms: Tensor, initial: Tensor, backend: str = "auto") -> ChainRun:
    """`metropolis_hastings` after its checks: log_scores and log U (rows, steps), the scores (rows,) of the start.

    Every backend compares the same two numbers, log_scores - log U and the current score: paths agree to the last bit.
    """
    device = log_scores.device
    if backend == "auto":
        gpu = "triton" if device.type == "cuda" and _triton_serves(device) else "torch"
        backend = "numba" if kernels.compiles_for(device) else gpu
    if backend == "torch":
        return _run_torch(log_scores, log_uniforms, initial)
    state, accepted = (torch.empty(log_scores.shape, dtype=kind, device=device) for kind in (torch.int64, torch.bool))
    run = ChainRun(state, accepted, initial.clone())
    tensors = log_scores.contiguous(), log_uniforms.contiguous(), *run
    if backend == "numba":
        if not kernels.compiles_for(device):
            raise ValueError(f'backend="numba" runs on the CPU, but the scores are on {device}: use "auto".')
        kernels.sweep(*(tensor.numpy() for tensor in tensors))
    elif backend == "triton":
        if find_spec("triton") is None:
            raise ValueError('backend="triton", but Triton is not installed: use "auto", or install triton.')
        if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
            raise ValueError(f'backend="triton" runs on CUDA, but the scores are on {device}: use "auto".')
        from emc2_lite.sampling.metropolis_triton import fill_run

        fill_run(*tensors)
    else:
        raise ValueError(f'backend is {backend!r}: use "auto", "numba", "triton" or "torch".')
    return run


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
