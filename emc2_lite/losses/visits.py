"""A visit of a batch to its rows' chains: what is proposed to them, and by which kernel they move."""

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from emc2_lite.losses.checks import LONGEST
from emc2_lite.losses.two_view import TwoViewBlock, random_proposals
from emc2_lite.sampling import Proposals, Visit, random_uniforms
from emc2_lite.sampling.multiproposal import heat_bath, metropolised


class Held(NamedTuple):
    """The views that the rows' chains hold, each (R,)."""

    sample: Tensor  # -1 for a new chain
    view: Tensor
    score: Tensor  # at the last visit
    column: Tensor  # in the batch; -1 if it lacks the view

    @property
    def outside(self) -> Tensor:
        """Whether the chain holds a view that the batch lacks: (R,) bool."""
        return (self.column < 0) & (self.sample >= 0)


def draw_proposals(block: TwoViewBlock, burn_in: float, generator: Generator | None) -> Proposals:
    """Each row's negatives in random order, and a uniform for each."""
    b = len(block.embeddings) // 2
    order, uniforms = random_proposals(b, block.logits, generator, block.samples, block.two_towers)
    return Proposals(order, uniforms.log_(), math.floor(burn_in * order.shape[1]))


def start_is_forgotten(block: TwoViewBlock, proposals: Proposals) -> Tensor:
    """Whether a row's visit is the same wherever its chain starts: (R,) bool.

    No score exceeds |z_r| |z_k| / temperature. If a proposal of the burn-in, or the first one after it, beats that
    ceiling, l_j - log U_j > ceiling, then the chain moves to it from any state, and the start has no effect.
    """
    offered = slice(proposals.dropped + 1)
    challenge = block.logits.gather(1, proposals.order[:, offered].long()) - proposals.log_uniforms[:, offered]
    longest = LONGEST * (1 + 1e-5)  # a score is rounded
    return challenge.amax(dim=1) > block.rows_of(block.lengths) * longest / block.temperature


def many_proposals(block: TwoViewBlock, held: Held, start: Tensor, generator: Generator | None) -> Visit:
    """Two steps of each row's chain, both reversible for the softmax over all of the row's negatives.

    1. A heat bath over the held view and the batch's views of the same sample.
    2. A `metropolised` step over a set with one random view of each other sample in the batch, none of the held view's.
       The left-over views make a second such set: the weights are the mean of both, and the first set moves the chain.

    The first step takes a view's twin into reach, which no set of the second step may hold. A new chain takes the
    softmax over all negatives of the row.

    `start`, (R,), has the held views' scores.
    """
    logits = block.negative_logits()
    columns = logits.shape[1]

    def uniforms(count: int) -> Tensor:
        return block.rows_of(random_uniforms((columns, count), logits.dtype, logits.device, generator))

    twin, new = held.sample[:, None] == block.index, (held.sample < 0)[:, None]
    outside = torch.where(held.column < 0, start, -torch.inf)[:, None]
    now = heat_bath(torch.cat((outside, logits.masked_fill(~twin, -torch.inf)), dim=1), uniforms(1 + columns))
    place = now.clamp_min(0)[:, None]
    score = torch.where(now < 0, start, logits.gather(1, place).squeeze(1))[:, None]

    half = uniforms(columns // 2) < 0.5
    half = torch.cat((half, ~half), dim=1)
    move, other = (
        metropolised(
            torch.cat((score, logits.masked_fill(twin | ~(chosen | new), -torch.inf)), dim=1), uniforms(1 + columns)
        )
        for chosen in (half, ~half)
    )
    weights, staying = (move.weights + other.weights) / 2, (move.held_weight + other.held_weight) / 2
    exchanged = (now >= 0) & (now != held.column)
    weights.scatter_add_(1, place, staying.where(exchanged, 0)[:, None])
    last = torch.where(move.state >= 0, move.state, now.where(exchanged, -1))
    return Visit(weights, staying.where(~exchanged, 0), last, move.log_score, (last >= 0).to(logits).mean())
