"""EMC2: negatives from one Markov chain per (sample, view slot), carried from batch to batch."""

import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from emc2_lite.losses.checks import LONGEST
from emc2_lite.losses.criterion import Criterion, Encode, Estimate, Others
from emc2_lite.losses.encoding import distinct_views, encode_others, encode_views
from emc2_lite.losses.two_view import TwoViewBlock, random_proposals
from emc2_lite.sampling import Proposals, Visit, metropolis_visit
from emc2_lite.sampling.multiproposal import one_step
from emc2_lite.splitmix import compiled, compiles_for, random_uniforms


class EMC2Stats(NamedTuple):
    """Readable numbers of the last call; tensors are 0-dimensional and without gradient.

    loss: mean over rows of -l(r, pos) + log sum of exp l(r, k) over the in-batch negatives, nats. It can be compared
        between steps of one batch size; the value that `forward` returns only carries the gradient.
    acceptance_rate: share of all steps of the chains that moved; a chain whose start is forgotten, and so not encoded,
        starts as a new one.
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
      With ``refresh_scores=True`` carried-over views are first encoded without gradient, so that the chain starts from
      the score under today's weights; with False it starts from the score stored at the last visit, which is cheaper,
      and lets chains defend views by scores of an untrained encoder. Not encoded are a view that is in the batch, and
      with fresh scores one that its chain leaves in time whatever its score (`start_is_forgotten`): the visit is the
      same.
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

    Call as any `Criterion`; `encode` is needed if "reencoded". For "metropolis" the generator serves
    `random_proposals` alone.

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

    def estimate(self, block: TwoViewBlock, encode: Encode | None, generator: torch.Generator | None) -> Estimate:
        reencoded = self.state == "reencoded"
        if reencoded and encode is None:
            raise ValueError(
                'EMC2Loss(state="reencoded") was called without encode: pass encode(index, view) -> (k, d) embeddings, '
                'or choose state="stored" and accept its bias.'
            )
        chains = block.chains()
        states = [buffer.view(-1) for buffer in (self.chain_index, self.chain_view, self.chain_score)]
        held_index, held_view, held_score = (of_chains.index_select(0, chains) for of_chains in states)
        held_index, held_score, scored = held_index.long(), held_score.to(block.logits), 0
        proposals = draw_proposals(block, self.burn_in, generator) if self.kernel == "metropolis" else None
        if reencoded:
            column = block.column_of(held_index, held_view)
            outside = (held_index >= 0) & (column < 0)
            if self.refresh_scores and proposals is not None:
                outside &= ~start_is_forgotten(block, proposals)
            rows = outside.nonzero().squeeze(1)
            views, place = distinct_views(held_index[rows], held_view[rows])
            if self.refresh_scores:
                scored = views.shape[1]
                held_score = fresh_scores(block, column, rows, views, place, encode)

        if proposals is None:
            visit = many_proposals(block, held_index, held_score, generator)
        else:
            visit = metropolis_visit(block.logits, held_score, proposals, leave_out_held=not reencoded)

        others = Others()
        if reencoded:
            in_batch = visit.held_weight.where(column >= 0, 0)
            visit.weights.scatter_add_(1, column.clamp_min(0)[:, None], in_batch[:, None])
            others = encode_others(block, rows, views, place, visit.held_weight[rows], encode)

        store(states, chains, block, visit)
        stats = EMC2Stats(
            loss=(block.softmax()[1] - block.positive).mean(),
            acceptance_rate=visit.acceptance_rate,
            carried_over_share=visit.held_weight.count_nonzero() / len(chains),
            views_encoded=scored + others.encodings,
            views_encoded_with_gradient=others.encodings,
        )
        return Estimate(visit.weights, stats, others=others)

    def check_saved(self, saved: dict[str, Tensor]) -> None:
        index = saved.get("chain_index")
        if index is not None and not (index.min() >= -1 and index.max() < self.num_samples):
            raise ValueError(
                f"The saved chains hold samples {int(index.min())} to {int(index.max())} of {self.num_samples}: "
                "the state is damaged; load an earlier one."
            )


def store(states: list[Tensor], chains: Tensor, block: TwoViewBlock, visit: Visit) -> None:
    """Write the rows' last states, index, view and score, into the places `chains` (2b,) of the flat buffers."""
    index, view, score = states
    if compiles_for(index.device) and score.dtype in (torch.float32, torch.float64):
        _store(*(t.numpy() for t in (*states, chains, block.index, block.view, visit.column, visit.log_score)))
        return
    stayed, last = visit.column < 0, visit.column.clamp_min(0)
    index[chains] = torch.where(stayed, index[chains], block.index[last].int())
    view[chains] = torch.where(stayed, view[chains], block.view[last])
    score[chains] = visit.log_score.to(score)


@compiled
def _store(index, view, score, chains, batch_index, batch_view, column, log_score):
    for row, chain in enumerate(chains):
        if column[row] >= 0:
            index[chain], view[chain] = batch_index[column[row]], batch_view[column[row]]
        score[chain] = log_score[row]


def draw_proposals(block: TwoViewBlock, burn_in: float, generator: torch.Generator | None) -> Proposals:
    """Each row's negatives in random order, and a uniform for each."""
    order, uniforms = random_proposals(len(block.logits) // 2, block.logits, generator)
    return Proposals(order, uniforms.log_(), math.floor(burn_in * order.shape[1]))


def start_is_forgotten(block: TwoViewBlock, proposals: Proposals) -> Tensor:
    """Whether a row's visit is the same wherever its chain starts: (2b,) bool.

    No score exceeds |z_r| |z_k| / temperature. If a proposal of the burn-in, or the first one after it, beats that
    ceiling, l_j - log U_j > ceiling, then the chain moves to it from any state: kept steps and end are the same for
    all starts, and where it started need not be encoded.
    """
    offered = slice(proposals.dropped + 1)
    challenge = block.logits.gather(1, proposals.order[:, offered].long()) - proposals.log_uniforms[:, offered]
    longest = LONGEST * (1 + 1e-5)  # a score is rounded
    ceiling = torch.linalg.vector_norm(block.embeddings, dim=1) * longest / block.temperature
    return challenge.amax(dim=1) > ceiling


def fresh_scores(
    block: TwoViewBlock, column: Tensor, rows: Tensor, views: Tensor, place: Tensor, encode: Encode
) -> Tensor:
    """Each row's score with the view that its chain holds, under today's weights: (2b,), -inf where it does not matter.

    column: (2b,), where that view stands in the batch, -1 if it does not; rows: (n,), those whose view has to be
    encoded, and place: (n,), which of the pairs `views` (2, k) it is.
    """
    in_batch = block.logits.gather(1, column.clamp_min(0)[:, None]).squeeze(1)
    scores = in_batch.where(column >= 0, -torch.inf)
    with torch.no_grad():
        held = encode_views(encode, views, block.embeddings)[place]
    scores[rows] = (block.embeddings[rows] * held).sum(dim=1) / block.temperature
    return scores


def many_proposals(
    block: TwoViewBlock, held_index: Tensor, held_score: Tensor, generator: torch.Generator | None
) -> Visit:
    """One step over a symmetric set of each row's negatives; the weights average it and the set of the other views."""
    logits = block.negative_logits()
    b = len(logits) // 2
    first = random_uniforms((2 * b, b), logits.dtype, logits.device, generator) < 0.5
    first = torch.cat((first, ~first), dim=1)
    allowed = held_index[:, None] != block.index
    new = (held_index < 0)[:, None]
    move, other = (
        one_step(
            torch.cat((held_score[:, None], logits.masked_fill(~(allowed & (chosen | new)), -torch.inf)), dim=1),
            random_uniforms((2 * b, 1 + 2 * b), logits.dtype, logits.device, generator),
        )
        for chosen in (first, ~first)
    )
    stayed = (move.state < 0).to(logits)
    return Visit((move.weights + other.weights) / 2, stayed, move.state, move.log_score, 1 - stayed.mean())
