"""A visit of many chains to one batch: each runs through candidates of its own, and its kept steps are counted."""

from typing import NamedTuple

import torch
from torch import Tensor

from emc2_lite.sampling.metropolis import ChainRun, run_chains
from emc2_lite.splitmix import compiled


class Visit(NamedTuple):
    """What a kernel makes of one batch: weights of its columns, and where each row's chain ends.

    weights: (rows, columns), and held_weight: (rows,) of the state that the chain came with; a row's sum to 1.
    column: (rows,) int64, the column of the last state, -1 for that which the chain came with.
    log_score: (rows,), the score of the last state.
    acceptance_rate: share of the steps that moved, a 0-dimensional tensor.
    """

    weights: Tensor
    held_weight: Tensor
    column: Tensor
    log_score: Tensor
    acceptance_rate: Tensor


class Proposals(NamedTuple):
    """What the chains of a visit are offered.

    order: (rows, m) int64, the columns that a row's chain is offered, in this order.
    log_uniforms: (rows, m), log U_j: the chain moves to candidate j iff l_j - log U_j > l_current.
    dropped: B, the steps of burn-in; m - B are kept, repeats included.
    """

    order: Tensor
    log_uniforms: Tensor
    dropped: int


def metropolis_visit(scores: Tensor, initial: Tensor, proposals: Proposals) -> Visit:
    """Metropolis-Hastings over each row's candidates; the weights are the shares of the kept steps.

    scores: (rows, columns) float32 or float64, in nats; initial: (rows,) scores of the states that the chains come
    with, -inf for new chains. On the CPU one compiled pass reads each score once; elsewhere the chains' paths are made
    first. Nothing is checked.
    """
    return (_visit_compiled if scores.device.type == "cpu" else _visit_by_paths)(scores, initial, proposals)


def _visit_by_paths(scores: Tensor, initial: Tensor, proposals: Proposals) -> Visit:
    order, log_uniforms, dropped = proposals
    run = run_chains(scores.gather(1, order), log_uniforms, initial)
    last = run.state[:, -1]
    column = torch.where(last < 0, -1, order.gather(1, last.clamp_min(0)[:, None]).squeeze(1))
    weights, held_weight = kept_shares(run, order, scores.shape[1], dropped)
    return Visit(weights, held_weight, column, run.log_score, run.accepted.to(scores).mean())


def kept_shares(run: ChainRun, order: Tensor, columns: int, dropped: int) -> tuple[Tensor, Tensor]:
    """The shares w of the kept steps: (rows, columns), and (rows,) at the state that the chain came with.

    `run.state` (rows, m) are positions in `order` (rows, m), -1 the state that the chain came with.
    """
    kept = run.state[:, dropped:]
    counts = run.log_score.new_zeros(len(order), columns)
    counts.scatter_add_(1, order.gather(1, kept.clamp_min(0)), (kept >= 0).to(counts))
    return counts / kept.shape[1], (kept < 0).to(counts).mean(dim=1)


def _visit_compiled(scores: Tensor, initial: Tensor, proposals: Proposals) -> Visit:
    order, log_uniforms, dropped = proposals
    rows, columns = scores.shape
    shares = torch.zeros(rows, columns + 1, dtype=scores.dtype)
    column = torch.empty(rows, dtype=torch.int64)
    log_score = initial.clone()
    moves = _visit(*(t.numpy() for t in (scores, order, log_uniforms, shares, column, log_score)), dropped)
    rate = torch.tensor(moves / order.numel(), dtype=scores.dtype)
    return Visit(shares[:, :-1], shares[:, -1], column, log_score, rate)


@compiled
def _visit(scores, order, log_uniforms, shares, column, log_score, dropped):
    """Fill shares (rows, columns + 1), whose last column, -1, is the state a chain came with; count the moves."""
    rows, steps = order.shape
    moves = 0
    for row in range(rows):
        held, held_score, since = -1, log_score[row], dropped
        for step in range(steps):
            candidate = order[row, step]
            if scores[row, candidate] - log_uniforms[row, step] > held_score:
                if step > since:
                    shares[row, held] = (step - since) / (steps - dropped)
                    since = step
                held, held_score = candidate, scores[row, candidate]
                moves += 1
        shares[row, held] = (steps - since) / (steps - dropped)
        column[row], log_score[row] = held, held_score
    return moves
