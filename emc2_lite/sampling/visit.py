"""A visit of many chains to one batch: each row runs through its own candidates, and its kept steps are counted."""

from typing import NamedTuple

import torch
from torch import Tensor

from emc2_lite import kernels
from emc2_lite.sampling.metropolis import ChainRun, run_chains
from emc2_lite.tracing import untraced


class Visit(NamedTuple):
    """The weights of a batch's columns, and where each row's chain ends."""

    weights: Tensor  # (rows, columns); with held_weight they sum to 1 per row, alone if the held state is left out
    held_weight: Tensor  # (rows,), the weight of the state that the chain came with
    column: Tensor  # (rows,) int64, the column of the last state, -1 for the state that the chain came with
    log_score: Tensor  # (rows,), the score of the last state
    acceptance_rate: Tensor  # share of the steps that moved, 0-dimensional


class Proposals(NamedTuple):
    """Each row's candidates, and the uniforms that decide on them."""

    order: Tensor  # (rows, m) int32, the columns that are proposed to a row's chain, in this order
    log_uniforms: Tensor  # (rows, m), log U_j: the chain moves to candidate j iff l_j - log U_j > l_current
    dropped: int  # B, the steps of burn-in; m - B are kept, repeats included


@untraced
def metropolis_visit(scores: Tensor, initial: Tensor, proposals: Proposals, *, leave_out_held: bool = False) -> Visit:
    """Metropolis-Hastings over each row's candidates; the weights are the shares of the kept steps.

    On the CPU one compiled pass does everything; elsewhere the chains' paths are made first. Nothing is checked.

    Args:
        scores: (rows, columns) float32 or float64, in nats.
        initial: (rows,) scores of the states that the chains come with, -inf for new chains.
        leave_out_held: count only kept steps at candidates: weights are divided by 1 - held_weight, or are all 0.

    Chapter 05 builds it.

    >>> scores, order = torch.tensor([[-9.0, 5.0, -9.0, -9.0]]), torch.tensor([[0, 1, 2, 3]], dtype=torch.int32)
    >>> visit = metropolis_visit(scores, torch.zeros(1), Proposals(order, torch.full((1, 4), 0.5).log(), dropped=1))
    >>> visit.weights, visit.held_weight  # the three kept steps end at column 1
    (tensor([[0., 1., 0., 0.]]), tensor([0.]))
    """
    if kernels.compiles_for(scores.device):
        column = torch.empty(len(scores), dtype=torch.int64, device=scores.device)
        rate = torch.empty((), dtype=scores.dtype, device=scores.device)
        visit = Visit(torch.zeros_like(scores), torch.zeros_like(initial), column, initial.clone(), rate)
        arrays = (t.numpy() for t in (scores, proposals.order, proposals.log_uniforms, *visit))
        kernels.visit(*arrays, proposals.dropped, leave_out_held)
        return visit
    order = proposals.order.long()
    run = run_chains(scores.gather(1, order), proposals.log_uniforms, initial)
    last = run.state[:, -1]
    column = torch.where(last < 0, -1, order.gather(1, last.clamp_min(0)[:, None]).squeeze(1))
    weights, held_weight = kept_shares(run, order, scores.shape[1], proposals.dropped)
    if leave_out_held:
        weights /= (1 - held_weight).where(held_weight < 1, 1)[:, None]
    return Visit(weights, held_weight, column, run.log_score, run.accepted.to(scores).mean())


def kept_shares(run: ChainRun, order: Tensor, columns: int, dropped: int) -> tuple[Tensor, Tensor]:
    """The shares w of the kept steps: (rows, columns), and (rows,) at the state that the chain came with.

    `run.state` (rows, m) are positions in `order` (rows, m), -1 for the state that the chain came with.
    """
    kept = run.state[:, dropped:]
    counts = run.log_score.new_zeros(len(order), columns)
    counts.scatter_add_(1, order.gather(1, kept.clamp_min(0)), (kept >= 0).to(counts))
    return counts / kept.shape[1], (kept < 0).to(counts).mean(dim=1)
