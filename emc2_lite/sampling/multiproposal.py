"""Many proposals at once: one step of a chain to any state of a random set, or none."""

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
    state: (rows,) int64, the position of the next state; -1 is the state the chain came with.
    log_score: (rows,), the score of the next state.
    """

    weights: Tensor
    held_weight: Tensor
    state: Tensor
    log_score: Tensor


@untraced
def multiproposal(
    log_scores: Tensor, initial_log_score: Tensor, *, uniforms: Tensor | None = None, generator: Generator | None = None
) -> ManyProposals:
    """One step of one chain per row, to one of the row's proposals or to none: a metropolised Gibbs step.

    Let S be the proposals, k the state, A = S + {k} and q the softmax of l over A. The chain proposes j in S with
    probability q(j) / (1 - q(k)) and accepts with probability min(1, (1 - q(k)) / (1 - q(j))). Together,

        P(k, j) = q(j) / (1 - min(q(k), q(j))),      P(k, k) = 1 - the sum over S.

    Let the sets be drawn symmetrically: from each j in A the rest of A is proposed as often as S is from k,
    P(S | k) = P(A - {j} | j). Then, with any number of proposals and p = softmax(l) over all states,

        p(k) P(S | k) P(k, j)  =  exp(l(k) + l(j)) P(S | k) / (Z Z(A) (1 - min(q(k), q(j))))

    is the same when k and j change places, Z and Z(A) being the sums of exp l over all states and over A: the chain is
    reversible for p. Hence p is stationary, and for k drawn from p the sum over j of weights(j) f(j), plus
    held_weight f(k), has the mean of f under p.

    The ancestor draws j from q itself, k included (`heat_bath`): iterated sampling importance resampling, i-SIR. It
    leaves k less often than this step, P(k, j) >= q(j), so its averages over a run have at least this step's
    variance (Peskun 1973). With n states and m independent uniform proposals the second eigenvalue of either is at most
    1 - m / (2 n p_max + m - 1).

    Uniform sets of distinct states without k are symmetric. So are sets with one random view for each of some random
    samples, k's sample left out. Sets with both views of each sample are not symmetric: from j, the set with one view
    of k's sample is never proposed.

    Args:
        log_scores: (rows, m) float32 or float64 scores in nats; -inf marks a place without a proposal.
        initial_log_score: (rows,) scores of the current states; -inf for a new chain, which takes a proposal.
        uniforms: (rows, 1 + m) numbers in [0, 1) for the draw, the current state's first; drawn when not given.
        generator: source of the uniforms; torch's default when not given.

    Raises: ValueError: on a wrong shape or dtype, on scores that are NaN or +inf, on a row with neither a proposal nor
        a state, and on uniforms outside [0, 1) or given together with a generator.
    Source: Liu 1996, Peskun's theorem and a modified discrete-state Gibbs sampler; Tjelmeland 2004, Using all
    Metropolis-Hastings proposals to estimate mean values, for the heat bath. With m = 1 it is the rule of Metropolis.

    Chapter 06 builds it.

    >>> step = multiproposal(torch.zeros(1, 3), torch.zeros(1))  # four states of one score
    >>> step.weights, step.held_weight
    (tensor([[0.3333, 0.3333, 0.3333]]), tensor([0.]))
    """
    log_scores = checked_scores(log_scores, dims=2)
    initial = checked_initial(initial_log_score, log_scores)
    together = torch.cat((initial[:, None], log_scores), dim=1)
    if together.amax(dim=1).isneginf().any():
        raise ValueError("A row of log_scores and its initial_log_score are -inf throughout: give one a finite score.")
    return metropolised(together, given_or_drawn(uniforms, together, generator))


def metropolised(together: Tensor, uniforms: Tensor) -> ManyProposals:
    """`multiproposal` after its checks: the scores of the state and of its proposals, (rows, 1 + m), and uniforms."""
    q = together.softmax(dim=1)
    held, others = q[:, :1], q[:, 1:]
    weights = others / (1 - torch.minimum(held, others))
    held_weight = 1 - weights.sum(dim=1)
    held_weight[held_weight < together.shape[1] * torch.finfo(q.dtype).eps] = 0  # rounding alone
    drawn = perturbed_argmax(torch.cat((held_weight[:, None], weights), dim=1).log_(), uniforms)
    return ManyProposals(weights, held_weight, drawn - 1, together.gather(1, drawn[:, None]).squeeze(1))


def heat_bath(together: Tensor, uniforms: Tensor) -> Tensor:
    """A draw from the softmax over the state and its proposals, (rows, 1 + m): the position of each, -1 the state's."""
    return perturbed_argmax(together, uniforms) - 1
