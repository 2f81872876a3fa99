"""Many proposals at once: the next state is drawn from the softmax over a random set and the current state."""

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from emc2_lite.sampling.draws import checked_initial, checked_scores, given_or_drawn
from emc2_lite.sampling.gumbel import perturbed_argmax
from emc2_lite.tracing import untraced


class ManyProposals(NamedTuple):
    """What `multiproposal` returns.

    weights: (rows, m), the probability of moving to each proposal.
    held_weight: (rows,), the probability of staying; with `weights` it sums to 1 in each row.
    state: (rows,) int64, the position of the drawn state; -1 is the state the chain came with.
    log_score: (rows,), the score of the drawn state.
    """

    weights: Tensor
    held_weight: Tensor
    state: Tensor
    log_score: Tensor


@untraced
def multiproposal(
    log_scores: Tensor, initial_log_score: Tensor, *, uniforms: Tensor | None = None, generator: Generator | None = None
) -> ManyProposals:
    """One step of one chain per row: draw the next state from softmax over the row's proposals and its current state.

    Let S be the proposals, z the state and T = S + {z}: the chain moves to z' in T with probability exp l(z') / Z(T),
    Z(T) = sum over T of exp l. Let the sets be drawn symmetrically: from each z' in T the rest of T is proposed as
    often as S is from z, P(S | z) = P(T - {z'} | z'). Then, with any number of proposals,

        p(z) P(S | z) exp l(z') / Z(T)  =  exp(l(z) + l(z')) P(S | z) / (Z Z(T))

    is the same when z and z' change places: the chain is reversible for p = softmax(l) over all states. Hence p is
    stationary, and for z drawn from p the sum over k of weights(k) f(k), plus held_weight f(z), has the mean of f under
    p, with less variance than f(next state).

    Uniform sets of distinct states without z are symmetric. So are sets with one random view for each of some random
    samples, z's sample left out. Sets with both views of each sample are not symmetric: from z', the set with one view
    of z's sample is never proposed.

    Args:
        log_scores: (rows, m) float32 or float64 scores in nats; -inf marks a place without a proposal.
        initial_log_score: (rows,) scores of the current states; -inf for a new chain, which takes a proposal.
        uniforms: (rows, 1 + m) numbers in [0, 1) for the draw, the current state's first; drawn when not given.
        generator: source of the uniforms; torch's default when not given.

    Raises: ValueError: on a wrong shape or dtype, on scores that are NaN or +inf, on a row with neither a proposal nor
        a state, and on uniforms outside [0, 1) or given together with a generator.
    Source: Tjelmeland 2004, Using all Metropolis-Hastings proposals to estimate mean values; with m = 1 it is Barker's
    rule (Barker 1965).

    >>> step = multiproposal(torch.zeros(1, 3), torch.zeros(1))  # four states of one score
    >>> step.weights, step.held_weight
    (tensor([[0.2500, 0.2500, 0.2500]]), tensor([0.2500]))
    """
    log_scores = checked_scores(log_scores, dims=2)
    initial = checked_initial(initial_log_score, log_scores)
    together = torch.cat((initial[:, None], log_scores), dim=1)
    if together.amax(dim=1).isneginf().any():
        raise ValueError("A row of log_scores and its initial_log_score are -inf throughout: give one a finite score.")
    return one_step(together, given_or_drawn(uniforms, together, generator))


def one_step(together: Tensor, uniforms: Tensor) -> ManyProposals:
    """`multiproposal` after its checks: the scores of the state and of its proposals, (rows, 1 + m), and uniforms."""
    drawn = perturbed_argmax(together, uniforms)
    weights = together.softmax(dim=1)
    return ManyProposals(weights[:, 1:], weights[:, 0], drawn - 1, together.gather(1, drawn[:, None]).squeeze(1))
