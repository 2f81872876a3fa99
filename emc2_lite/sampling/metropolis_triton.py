"""Metropolis-Hastings on a GPU, in Triton: one program a row, which goes from move to move instead of step by step."""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 512  # steps that a program holds at once


def fill_run(log_scores: Tensor, log_uniforms: Tensor, state: Tensor, accepted: Tensor, last: Tensor) -> None:
    """Fill state and accepted (rows, steps), and replace last (rows,), the scores of the start; all contiguous."""
    rows, steps = log_scores.shape
    if rows:
        options = {"BLOCK": min(BLOCK, triton.next_power_of_2(steps)), "num_warps": 1, "enable_fp_fusion": False}
        with torch.cuda.device_of(log_scores):
            _sweep[(rows,)](log_scores, log_uniforms, state, accepted, last, steps, **options)


@triton.jit
def _larger(a, b):
    return tl.maximum(a, b)


@triton.jit
def _sweep(log_scores, log_uniforms, state, accepted, last, steps, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    held, held_score = -1, tl.load(last + row)
    for start in range(0, steps, BLOCK):
        step = start + tl.arange(0, BLOCK)
        inside = step < steps
        at = row.to(tl.int64) * steps + step
        score = tl.load(log_scores + at, mask=inside, other=-float("inf"))
        challenge = score - tl.load(log_uniforms + at, mask=inside, other=0.0)
        moved = step < start
        move = tl.min(tl.where(challenge > held_score, step, steps))
        while move < steps:
            moved = moved | (step == move)
            held_score = tl.max(tl.where(step == move, score, -float("inf")))
            move = tl.min(tl.where((challenge > held_score) & (step > move), step, steps))
        path = tl.associative_scan(tl.where(moved, step, held), 0, _larger)
        tl.store(state + at, path.to(tl.int64), mask=inside)
        tl.store(accepted + at, moved, mask=inside)
        held = tl.max(path)
    tl.store(last + row, held_score)
