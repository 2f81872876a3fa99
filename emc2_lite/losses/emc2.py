"""EMC2: negatives from one Markov chain per (sample, view slot), carried from batch to batch."""

import math
from functools import partial
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from emc2_lite.checks import Bounds, Temperature, Unread, checked_settings
from emc2_lite.losses.checks import LONGEST
from emc2_lite.losses.criterion import Criterion, Encode, Estimate, Others, Samples
from emc2_lite.losses.encoding import Encodings, check_encode_once, encode_others
from emc2_lite.losses.transfer import columns_of, distinct, on_device, read
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


class Held(NamedTuple):
    """The states that the rows' chains come with: index (-1 for a new chain), view and score, each (2b,)."""

    index: Tensor
    view: Tensor
    score: Tensor


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
      and lets chains defend views by scores of an untrained encoder. Two kinds of view are not encoded, and the visit
      is the same: those in the batch and, with fresh scores, those the chain leaves during burn-in
      (`start_is_forgotten`).
    * ``state="stored"``: nothing is encoded; the chain starts from the stored score, and in-batch weights are divided
      by 1 - w(r, 0) (a row with no in-batch step kept has no repulsion). Cheap, and biased at low temperature.

    Stored scores belong to the temperature that they were taken at; with fresh scores a saved state serves any other.

    With fixed weights the mean of the "reencoded" gradient tends to the exact one if proposals are independent and
    uniform over neg(r). A batch's are nearly that. They are drawn without replacement, an error of order m / |neg(r)|;
    and both views of a sample come together, which score alike: a bias that a larger dataset does not remove.

    ``kernel="multiproposal"`` has neither error, no loop and no burn-in (no `burn_in` is taken). It makes one step of
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
        refresh_scores: see above; not with state="stored".
        kernel: "metropolis" (the paper's) or "multiproposal" (beyond it; only with state="reencoded").
        check_encode: in the first call in training, encode two of the batch's views again and refuse an `encode` that
            does not reproduce them; the two are not counted. Not with state="stored".

    Call as any `Criterion`; `encode` is needed if "reencoded". For "metropolis" the generator serves
    `random_proposals` alone. In evaluation mode the weights are those of a visit that starts from the held states, and
    its end is not stored.

    Raises:
        ValueError: on bad settings, shapes, dtypes, devices, embeddings or indices, an `encode` that is missing,
            without gradient or does not reproduce the batch, a damaged state or one of another number of samples. The
            chains are left as they were.

    Source: Yau et al. 2024, Algorithm 1 and section 3; Tjelmeland 2004 for many proposals.

    >>> table = torch.nn.functional.normalize(torch.randn(100, 2, 8), dim=-1).requires_grad_()  # an encoder's outputs
    >>> criterion, index = EMC2Loss(num_samples=100, temperature=0.2), torch.arange(4)
    >>> criterion(*table[index].unbind(1), index, encode=lambda i, v: table[i, v]).backward()
    >>> criterion.chain_index[index].ge(0).all()  # after a first visit every chain holds a view
    tensor(True)
    >>> criterion.stats.views_encoded  # and no view was held before
    0
    """

    state_name: ClassVar[str] = "chains"
    chain_index: Tensor
    chain_view: Tensor
    chain_score: Tensor

    @checked_settings
    def __init__(
        self,
        num_samples: Samples,
        temperature: Temperature,
        burn_in: Annotated[float, Bounds(least=0, below=1), Unread("kernel", "multiproposal")] = 0.5,
        state: Literal["reencoded", "stored"] = "reencoded",
        refresh_scores: Annotated[bool, Unread("state", "stored")] = True,
        kernel: Literal["metropolis", "multiproposal"] = "metropolis",
        check_encode: Annotated[bool, Unread("state", "stored")] = True,
    ):
        super().__init__(temperature, num_samples)
        if kernel == "multiproposal" and state == "stored":
            raise ValueError(
                'kernel is "multiproposal" and state "stored": without its carried-over state that kernel is hardly '
                'more than DCL; use state="reencoded", or DCLLoss.'
            )
        self.burn_in = burn_in
        self.state = state
        self.refresh_scores = refresh_scores
        self.kernel = kernel
        self.check_encode = check_encode
        self.register_buffer("chain_index", torch.full((num_samples, 2), -1, dtype=torch.int32))
        self.register_buffer("chain_view", torch.zeros((num_samples, 2), dtype=torch.int64))
        self.register_buffer("chain_score", torch.full((num_samples, 2), -torch.inf))

    def estimate(self, block: TwoViewBlock, encode: Encode | None, generator: torch.Generator | None) -> Estimate:
        if self.state == "reencoded" and encode is None:
            raise ValueError(
                'EMC2Loss(state="reencoded") was called without encode: pass encode(index, view) -> (k, d) embeddings, '
                'or choose state="stored" and accept its bias.'
            )
        # The indices are not checked yet: one outside the buffers would end a CUDA process.
        chains = block.chains().clamp_(0, 2 * self.num_samples - 1)
        states = [buffer.view(-1) for buffer in (self.chain_index, self.chain_view, self.chain_score)]
        index, view, score = (of_chains.index_select(0, chains) for of_chains in states)
        held = Held(index, view, score.to(block.logits))
        proposals = draw_proposals(block, self.burn_in, generator) if self.kernel == "metropolis" else None
        visit, others, scored = self.visit(block, held, proposals, encode, generator)
        stats = EMC2Stats(
            loss=(block.softmax()[1] - block.positive).mean(),
            acceptance_rate=visit.acceptance_rate,
            carried_over_share=visit.held_weight.count_nonzero() / len(chains),
            views_encoded=scored + others.encodings,
            views_encoded_with_gradient=others.encodings,
        )
        return Estimate(visit.weights, stats, others=others, store=partial(store, states, chains, block, visit))

    def visit(
        self,
        block: TwoViewBlock,
        held: "Held",
        proposals: Proposals | None,
        encode: Encode | None,
        generator: torch.Generator | None,
    ) -> tuple[Visit, Others, int]:
        """The chains' visit to the batch, the views outside it that count, and how many views were scored first."""
        if self.state == "stored":
            self.admit(block)
            return metropolis_visit(block.logits, held.score, proposals, leave_out_held=True), Others(), 0
        skipped = torch.zeros_like(held.index, dtype=torch.bool)
        if self.refresh_scores and proposals is not None:
            skipped = start_is_forgotten(block, proposals)
        indices, views, held_index, held_view, skip = self.admit(block, held.index, held.view, skipped)
        check_encode_once(self, block, encode)
        pairs = list(zip(held_index, held_view, strict=True))
        columns = columns_of(pairs, indices, views)
        outside = [r for r, column in enumerate(columns) if column < 0 <= held_index[r] and not skip[r]]
        index, view, place = distinct([pairs[r] for r in outside])
        column, rows, index, view, place = on_device(block.index.device, columns, outside, index, view, place)

        fits, scored, start = [], 0, held.score
        if self.refresh_scores:
            start = block.logits.gather(1, column.clamp_min(0)[:, None]).squeeze(1).where(column >= 0, -torch.inf)
            if outside:
                with torch.no_grad():
                    again, scored = Encodings(encode, index, view, block.embeddings), len(index)
                    scores = block.embeddings[rows] * again.embeddings.to(block.embeddings)[place]
                    start[rows] = scores.sum(dim=1) / block.temperature
                fits = [again.fit]
        if proposals is None:
            visit = many_proposals(block, held.index, start, generator)
        else:
            visit = metropolis_visit(block.logits, start, proposals)
        visit.weights.scatter_add_(1, column.clamp_min(0)[:, None], visit.held_weight.where(column >= 0, 0)[:, None])
        if not outside:
            return visit, Others(), 0
        counts, *fits = read(visit.held_weight[rows] > 0, *fits)
        for (fit,) in fits:
            again.check(fit)
        counting = [r for r, counted in zip(outside, counts, strict=True) if counted]
        index, view, place = distinct([pairs[r] for r in counting])
        index, view, rows, place = on_device(block.index.device, index, view, counting, place)
        others = encode_others(block, index, view, rows, place, visit.held_weight, encode)
        return visit, others, scored

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
    ceiling = block.lengths * longest / block.temperature
    return challenge.amax(dim=1) > ceiling


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
