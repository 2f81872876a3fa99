"""EMC2: negatives from one Markov chain per (sample, view slot), carried from batch to batch."""

import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from emc2_lite.losses.criterion import Criterion, Encode
from emc2_lite.losses.encoding import encode_distinct, scores_with_gradient
from emc2_lite.losses.two_view import TwoViewBlock
from emc2_lite.sampling import ChainRun, metropolis_hastings, multiproposal


class EMC2Stats(NamedTuple):
    """Readable numbers of the last call; tensors are 0-dimensional and without gradient.

    loss: mean over rows of -l(r, pos) + log sum of exp l(r, k) over the in-batch negatives, nats. It can be compared
        between steps of one batch size; the value that `forward` returns only carries the gradient.
    acceptance_rate: share of all steps of the chains that moved.
    carried_over_share: share of rows that count their carried-over state.
    views_encoded: views that the call encoded again, with and without gradient, counted in encodings.
    views_encoded_with_gradient: those of them that were encoded with gradient.
    """

    loss: Tensor
    acceptance_rate: Tensor
    carried_over_share: Tensor
    views_encoded: int
    views_encoded_with_gradient: int


class EMC2Loss(Criterion):
    """A surrogate whose gradient estimates that of the global contrastive loss at any batch size.

    Each of the 2b rows r owns a chain; its state is one view (dataset index, view number) and that view's score. A call
    runs it through the row's m = 2b - 2 in-batch negatives, in random order, moving to k iff
    l(r, k) - log U > l(current); drops the first B = floor(burn_in m) steps; and counts the R = m - B states kept:

        loss = mean over rows r of  -l(r, pos) + sum_k w(r, k) l(r, k) + w(r, 0) l(r, carried-over state),

    with l = <., .> / temperature and w the (detached) shares of the kept steps. Then it stores the last states.
    The carried-over state was drawn in an earlier batch, and its embedding is gone:

    * ``state="reencoded"``: views that rows still hold after burn-in are encoded again with gradient, each once.
      With ``refresh_scores=True`` every carried-over view is first encoded without gradient, so that the chain starts
      from its score under today's weights; with False it starts from the score stored at the last visit, which is
      cheaper, and lets chains defend views by scores of an untrained encoder.
      A view that is in the batch is already encoded, and is not encoded again.
    * ``state="stored"``: nothing is encoded; the chain starts from the stored score, and in-batch weights are divided
      by 1 - w(r, 0) (a row with no in-batch step kept has no repulsion). Cheap, and biased at low temperature.
      `refresh_scores` is not read.

    Stored scores belong to the temperature that they were taken at; with fresh scores a saved state serves any other.

    With fixed weights the mean of the "reencoded" gradient tends to the exact one if proposals are independent and
    uniform over neg(r). A batch's are nearly that. They are drawn without replacement, an error of order m / |neg(r)|;
    and both views of a sample come together, which score alike: a bias that a larger dataset does not remove.

    ``kernel="multiproposal"`` has neither error, no loop and no burn-in (`burn_in` is not read). It makes one step of
    `emc2_lite.sampling.multiproposal`, whose docstring has the proof: the next state is drawn from the softmax over a
    set S of in-batch negatives and the carried-over state z, and w are the softmax weights themselves. For S to be
    drawn symmetrically it may hold one random view of each other sample of the batch, and none of z's sample. The
    views left over make a second such set; each set alone has the right mean, so w is the average of both, and the
    first set moves the chain. The softmax weight of z is never 0: instead, z counts with weight 1 if the chain stays
    and 0 if it moves, which has the same mean and is encoded with gradient only where it counts. A new chain has no z,
    and takes the softmax over all m negatives: its first visit is DCL.

    Args:
        num_samples: N, the number of samples in the dataset; the state is (N, 2), 16 bytes a chain.
        temperature: > 0, dimensionless; the paper's beta is its inverse.
        burn_in: share of each visit's steps that is dropped, in [0, 1).
        state: "reencoded" (Algorithm 1 of the paper) or "stored".
        refresh_scores: see above.
        kernel: "metropolis" (the paper's) or "multiproposal" (beyond it; only with state="reencoded").

    Call as any `Criterion`; `encode` is needed if "reencoded". The generator draws, for "metropolis", first (2b, 2b)
    numbers for the order of the candidates, then (2b, m) uniforms.

    Raises:
        ValueError: on bad settings, shapes, dtypes, devices, embeddings or indices, an `encode` that is missing or
            without gradient, a damaged state or one of another number of samples. The chains are left as they were.

    Source: Yau et al. 2024, Algorithm 1 and section 3; Tjelmeland 2004 for many proposals.
    """

    state_name: ClassVar[str] = "chains"
    chain_index: Tensor
    chain_view: Tensor
    chain_score: Tensor

    def __init__(
        self,
        num_samples: int,
        temperature: float,
        burn_in: float = 0.5,
        state: str = "reencoded",
        refresh_scores: bool = True,
        kernel: str = "metropolis",
    ):
        super().__init__(temperature, num_samples)
        if not 0 <= burn_in < 1:
            raise ValueError(f"burn_in is {burn_in}: it is a share of steps and must be in [0, 1).")
        if state not in ("reencoded", "stored"):
            raise ValueError(f'state is {state!r}: use "reencoded" or "stored".')
        if kernel not in ("metropolis", "multiproposal"):
            raise ValueError(f'kernel is {kernel!r}: use "metropolis" or "multiproposal".')
        if kernel == "multiproposal" and state == "stored":
            raise ValueError(
                'kernel is "multiproposal" and state "stored": without its carried-over state that kernel is hardly '
                'more than DCL; use state="reencoded", or DCLLoss.'
            )
        self.burn_in = burn_in
        self.state = state
        self.refresh_scores = refresh_scores
        self.kernel = kernel
        self.register_buffer("chain_index", torch.full((num_samples, 2), -1, dtype=torch.int32))
        self.register_buffer("chain_view", torch.zeros((num_samples, 2), dtype=torch.int64))
        self.register_buffer("chain_score", torch.full((num_samples, 2), -torch.inf))

    def estimate(
        self, block: TwoViewBlock, encode: Encode | None, generator: torch.Generator | None
    ) -> tuple[Tensor, EMC2Stats]:
        reencoded = self.state == "reencoded"
        if reencoded and encode is None:
            raise ValueError(
                'EMC2Loss(state="reencoded") was called without encode: pass encode(index, view) -> (k, d) embeddings, '
                'or choose state="stored" and accept its bias.'
            )
        logits = block.logits.detach()

        # The view that each chain comes with, its score, and the batch column it stands in, if any.
        held_index = block.state_of(self.chain_index).long()
        held_view = block.state_of(self.chain_view)
        held_score = block.state_of(self.chain_score).to(logits)
        held_column = block.columns_of(held_index, held_view)
        outside = (held_index >= 0) & ~held_column.any(dim=1)
        scored = 0
        if reencoded and self.refresh_scores:
            with torch.no_grad():
                held, scored = encode_distinct(encode, held_index[outside], held_view[outside], block.embeddings)
                fresh = (logits * held_column).sum(dim=1)
                fresh[outside] = (block.embeddings[outside] * held).sum(dim=1) / self.temperature
                held_score = torch.where(held_index >= 0, fresh, -torch.inf)

        if self.kernel == "metropolis":
            visit = metropolis_visit(block, held_score, self.burn_in, generator)
        else:
            visit = multiproposal_visit(block, held_index, held_score, generator)

        weights, held_term, encoded = visit.weights, 0.0, 0
        if reencoded:
            weights = weights + visit.held_weight[:, None] * held_column
            holds = outside & (visit.held_weight > 0)
            held_scores, encoded = scores_with_gradient(
                block, holds, held_index[holds], held_view[holds], encode, self.temperature
            )
            held_term = (visit.held_weight[holds] * held_scores).sum()
        else:
            in_batch_weight = 1 - visit.held_weight
            weights = torch.where(in_batch_weight > 0, 1 / in_batch_weight, 0)[:, None] * weights
        loss = ((weights * block.logits).sum() - block.positive.sum() + held_term) / len(logits)

        stayed, column = visit.column < 0, visit.column.clamp_min(0)
        block.store(self.chain_index, torch.where(stayed, held_index, block.index[column]))
        block.store(self.chain_view, torch.where(stayed, held_view, block.view[column]))
        block.store(self.chain_score, visit.log_score)
        return loss, EMC2Stats(
            loss=(block.negatives_logsumexp() - block.positive).detach().mean(),
            acceptance_rate=visit.acceptance_rate,
            carried_over_share=(visit.held_weight > 0).to(logits).mean(),
            views_encoded=scored + encoded,
            views_encoded_with_gradient=encoded,
        )

    def check_saved(self, saved: dict[str, Tensor]) -> None:
        index = saved.get("chain_index")
        if index is not None and not (index.min() >= -1 and index.max() < self.num_samples):
            raise ValueError(
                f"The saved chains hold samples {int(index.min())} to {int(index.max())} of {self.num_samples}: "
                "the state is damaged; load an earlier one."
            )


class Visit(NamedTuple):
    """What a kernel makes of one batch: repulsive weights, and where each row's chain ends.

    weights: (2b, 2b) over batch columns, and held_weight: (2b,) of the carried-over state; detached.
    column: (2b,) int64, the batch column of the last state, -1 for the carried-over one; log_score: (2b,), its score.
    acceptance_rate: share of the steps that moved, a 0-dimensional tensor.
    """

    weights: Tensor
    held_weight: Tensor
    column: Tensor
    log_score: Tensor
    acceptance_rate: Tensor


def metropolis_visit(
    block: TwoViewBlock, held_score: Tensor, burn_in: float, generator: torch.Generator | None
) -> Visit:
    """Metropolis-Hastings over each row's negatives in random order; the weights are shares of the kept steps."""
    logits = block.logits.detach()
    order = random_candidate_order(block.own, logits.dtype, generator)
    run = metropolis_hastings(logits.gather(1, order), held_score, generator=generator)
    last = run.state[:, -1]
    column = torch.where(last < 0, -1, order.gather(1, last.clamp_min(0)[:, None]).squeeze(1))
    return Visit(*kept_shares(run, order, burn_in), column, run.log_score, run.accepted.to(logits).mean())


def multiproposal_visit(
    block: TwoViewBlock, held_index: Tensor, held_score: Tensor, generator: torch.Generator | None
) -> Visit:
    """One step over a symmetric set of each row's negatives; the weights average it and the set of the other views."""
    logits = block.logits.detach()
    b = len(logits) // 2
    first = torch.rand(2 * b, b, generator=generator, dtype=logits.dtype, device=logits.device) < 0.5
    first = torch.cat((first, ~first), dim=1)
    allowed = ~block.own & (held_index[:, None] != block.index)
    new = (held_index < 0)[:, None]
    move, other = (
        multiproposal(logits.masked_fill(~(allowed & (chosen | new)), -torch.inf), held_score, generator=generator)
        for chosen in (first, ~first)
    )
    stayed = (move.state < 0).to(logits)
    return Visit((move.weights + other.weights) / 2, stayed, move.state, move.log_score, 1 - stayed.mean())


def random_candidate_order(own: Tensor, dtype: torch.dtype, generator: torch.Generator | None) -> Tensor:
    """The columns of each row's negatives, in an order drawn per row: (2b, 2b) `own` -> (2b, 2b - 2) int64.

    A fixed order would spend the whole burn-in on one of the two views.
    """
    keys = torch.rand(own.shape, generator=generator, dtype=dtype, device=own.device)
    return keys.masked_fill_(own, 2.0).argsort(dim=1)[:, :-2]


def kept_shares(run: ChainRun, order: Tensor, burn_in: float) -> tuple[Tensor, Tensor]:
    """The shares w of a visit's kept steps: (2b, 2b) over batch columns, and (2b,) at the carried-over state.

    `run.state` (2b, m) are positions in `order` (2b, m), -1 the carried-over state. The first B = floor(burn_in m)
    steps are dropped and exactly R = m - B kept, repeats included; the shares of a row sum to 1.
    """
    kept = run.state[:, math.floor(burn_in * order.shape[1]) :]
    columns = order.gather(1, kept.clamp_min(0))
    counts = run.log_score.new_zeros(len(order), len(order))
    counts.scatter_add_(1, columns, (kept >= 0).to(counts))
    return counts / kept.shape[1], (kept < 0).sum(dim=1).to(counts) / kept.shape[1]
