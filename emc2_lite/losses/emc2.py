"""EMC2: negatives from one Markov chain per (sample, view slot), carried from batch to batch."""

import math
from collections.abc import Callable
from functools import partial
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from torch import Generator, Tensor

from emc2_lite import kernels
from emc2_lite.checks import Bounds, Temperature, Unread, checked_settings
from emc2_lite.losses.checks import LONGEST
from emc2_lite.losses.criterion import Criterion, Estimate, Samples
from emc2_lite.losses.encoding import Encode, Encodings, Others, encode_others, on_device, read_checked
from emc2_lite.losses.two_view import TwoViewBlock, random_proposals
from emc2_lite.sampling import Proposals, Visit, metropolis_visit, random_uniforms
from emc2_lite.sampling.multiproposal import one_step


class EMC2Stats(NamedTuple):
    """Readable numbers of the last call; tensors are 0-dimensional and without gradient.

    loss: mean over rows of -l(r, pos) + log sum of exp l(r, k) over the in-batch negatives, nats; it compares steps of
        one batch size. (The value that `forward` returns only carries the gradient.)
    acceptance_rate: share of the chains' steps that moved; a chain whose start is forgotten starts as a new one.
    carried_over_share: share of rows that count their carried-over view.
    views_encoded: views that the call encoded again, in encodings; views_encoded_with_gradient: the part with gradient.
    """

    loss: Tensor
    acceptance_rate: Tensor
    carried_over_share: Tensor
    views_encoded: int
    views_encoded_with_gradient: int


class Held(NamedTuple):
    """The views that the rows' chains hold, each (2b,): sample (-1 for a new chain), view number and stored score."""

    sample: Tensor
    view: Tensor
    score: Tensor


Visited = tuple[Visit, Others | None, int]  # and views outside the batch that count, and how many were scored first


class EMC2Loss(Criterion):
    """A surrogate whose gradient estimates that of the global contrastive loss at any batch size.

    Each (sample, view slot) owns a Markov chain over negatives, which holds one view: its index, number and score. A
    call visits the chains of the batch's 2b rows. Row r's chain is offered the m = 2b - 2 in-batch negatives in random
    order, and moves to k iff l(r, k) - log U > l(current), U ~ Uniform(0, 1). The first B = floor(burn_in m) steps are
    dropped; the shares of the other m - B states are the weights w, detached:

        loss = mean over rows r of  -l(r, pos) + sum_k w(r, k) l(r, k) + w(r, 0) l(r, carried-over view),

    with l = <., .> / temperature. The last state is stored. The carried-over view, which the chain held before, is of
    an earlier batch, and its embedding is gone:

    * ``state="reencoded"`` encodes the carried-over views with w(r, 0) > 0 again, with gradient, each once.
      ``refresh_scores=True`` first encodes carried-over views without gradient, so that chains start from today's
      scores. Views in the batch, and views that the chain leaves during burn-in whatever their score
      (`start_is_forgotten`), need no encoding. ``refresh_scores=False`` starts from stored scores: cheaper, but scores
      of an untrained encoder can hold a chain for ever.
    * ``state="stored"`` encodes nothing: chains start from stored scores, the last term is left out, and the other
      weights are divided by 1 - w(r, 0), or are all 0. Cheap, and biased at low temperature.

    With fixed weights the mean gradient of "reencoded" tends to the exact one, but for two errors of the proposals: a
    batch draws them without replacement (an error of order m / |neg(r)|), and brings both views of a sample, which
    score alike (a bias that a larger dataset does not remove).

    ``kernel="multiproposal"`` has neither error, no loop and no burn-in: it makes one step of
    `emc2_lite.sampling.multiproposal`, whose docstring has the proof. Its set has one random view of each other sample
    in the batch, but none of the held view's sample. The left-over views make a second set; w is the mean of both
    softmaxes, and the first set moves the chain. w(r, 0) is 1 if the chain stays and 0 if it moves: the softmax weight
    in the mean, and only the views of chains that stay are encoded. A new chain takes DCL's softmax, over all m
    negatives.

    Args:
        num_samples: N, the number of samples in the dataset; the state is (N, 2), 16 bytes a chain.
        temperature: > 0, dimensionless; the paper's beta is its inverse. A saved state serves another temperature with
            fresh scores only.
        burn_in: share of each visit's steps that is dropped, in [0, 1); "metropolis" only.
        state, refresh_scores: see above; "reencoded" with fresh scores is Algorithm 1 of the paper.
        kernel: "metropolis" (the paper's) or "multiproposal" (beyond the paper; "reencoded" only).
        check_encode: the first call in training encodes two of the batch's views again, not counted, and refuses an
            `encode` that does not reproduce them; "reencoded" only.

    Call as any `Criterion`; "reencoded" needs `encode`. For "metropolis" the generator serves `random_proposals` alone.
    Raises: ValueError: on bad settings, shapes, dtypes, devices, embeddings or indices, an `encode` that is missing,
        without gradient or does not reproduce the batch, a damaged state or one of another number of samples.
    Source: Yau et al. 2024, Algorithm 1 and section 3; Tjelmeland 2004 for many proposals.

    >>> table = torch.nn.functional.normalize(torch.randn(100, 2, 8), dim=-1).requires_grad_()  # an encoder's outputs
    >>> criterion, index = EMC2Loss(num_samples=100, temperature=0.2), torch.arange(4)
    >>> criterion(*table[index].unbind(1), index, encode=lambda i, v: table[i, v]).backward()
    >>> criterion.chain_index[index].ge(0).all()  # after a first visit every chain holds a view
    tensor(True)
    """

    state_name: ClassVar[str] = "chains"
    num_samples: int
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
        self.burn_in, self.kernel, self.state = burn_in, kernel, state
        self.refresh_scores, self.check_encode = refresh_scores, check_encode
        self.register_buffer("chain_index", torch.full((num_samples, 2), -1, dtype=torch.int32))
        self.register_buffer("chain_view", torch.zeros((num_samples, 2), dtype=torch.int64))
        self.register_buffer("chain_score", torch.full((num_samples, 2), -torch.inf))

    def estimate(self, block: TwoViewBlock, encode: Encode | None, generator: Generator | None) -> Estimate:
        # The indices are not checked yet: one outside the buffers would end a CUDA process.
        chains = block.chains().clamp_(0, 2 * self.num_samples - 1)
        states = [buffer.view(-1) for buffer in (self.chain_index, self.chain_view, self.chain_score)]
        index, view, score = (buffer.index_select(0, chains) for buffer in states)
        held = Held(index, view, score.to(block.logits))
        kernel = self.multiproposal if self.kernel == "multiproposal" else self.metropolis
        visit, others, scored = kernel(block, held, encode, generator)
        encoded = 0 if others is None else len(others.embeddings)
        stats = EMC2Stats(
            loss=(block.softmax()[1] - block.positive).mean(),
            acceptance_rate=visit.acceptance_rate,
            carried_over_share=visit.held_weight.count_nonzero() / len(chains),
            views_encoded=scored + encoded,
            views_encoded_with_gradient=encoded,
        )
        return Estimate(visit.weights, stats, others=others, store=partial(store, states, chains, block, visit))

    def metropolis(
        self, block: TwoViewBlock, held: Held, encode: Encode | None, generator: Generator | None
    ) -> Visited:
        """Metropolis-Hastings over all negatives of a row."""
        proposals = draw_proposals(block, self.burn_in, generator)
        if self.state == "stored":
            self.admit(block)
            return metropolis_visit(block.logits, held.score, proposals, leave_out_held=True), None, 0
        skipped = start_is_forgotten(block, proposals) if self.refresh_scores else torch.zeros_like(held.sample)
        visit_from = partial(metropolis_visit, block.logits, proposals=proposals)
        return self.reencoded(block, held, skipped, encode, visit_from)

    def multiproposal(
        self, block: TwoViewBlock, held: Held, encode: Encode | None, generator: Generator | None
    ) -> Visited:
        """One step with many proposals."""
        visit_from = partial(many_proposals, block, held.sample, generator=generator)
        return self.reencoded(block, held, torch.zeros_like(held.sample), encode, visit_from)

    def reencoded(
        self, block: TwoViewBlock, held: Held, skipped: Tensor, encode: Encode | None, visit_from: Callable
    ) -> Visited:
        """The visit that `visit_from` makes from the held views' scores (2b,), and the encodings of views that count.

        The held views of rows in `skipped`, (2b,), have no effect and are not encoded.
        """
        if encode is None:
            raise ValueError(
                'EMC2Loss(state="reencoded") was called without encode: pass encode(index, view) -> (k, d) embeddings, '
                'or choose state="stored" and accept its bias.'
            )
        indices, views, held_indices, held_views, skip = self.admit(block, held.sample, held.view, skipped)
        batch = list(zip(indices, views, strict=True))
        names = list(zip(held_indices, held_views, strict=True))
        self.check_encode_once(block, batch, encode)
        columns = {name: column for column, name in enumerate(batch)}
        found = [columns.get(name, -1) for name in names]
        outside = [r for r, column in enumerate(found) if column < 0 <= held_indices[r] and not skip[r]]
        column, rows = on_device(block.index.device, found, outside)
        start, again = held.score, None
        if self.refresh_scores:
            start = block.logits.gather(1, column.clamp_min(0)[:, None]).squeeze(1).where(column >= 0, -torch.inf)
        if self.refresh_scores and outside:
            with torch.no_grad():
                again = Encodings(encode, [names[r] for r in outside], block.embeddings)
                products = block.embeddings[rows] * again.embeddings[again.place]
                start[rows] = products.sum(dim=1) / block.temperature

        visit = visit_from(start)
        in_batch = visit.held_weight.where(column >= 0, 0)
        visit.weights.scatter_add_(1, column.clamp_min(0)[:, None], in_batch[:, None])
        if not outside:
            return visit, None, 0
        (counts,) = read_checked(again, visit.held_weight[rows] > 0)
        counting = [r for r, counted in zip(outside, counts, strict=True) if counted]
        others = encode_others(block, encode, [names[r] for r in counting], counting, visit.held_weight)
        return visit, others, len(again.embeddings) if again else 0

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
    if kernels.compiles_for(index.device) and score.dtype in (torch.float32, torch.float64):
        kernels.store(*(t.numpy() for t in (*states, chains, block.index, block.view, visit.column, visit.log_score)))
        return
    stayed, last = visit.column < 0, visit.column.clamp_min(0)
    index[chains] = torch.where(stayed, index[chains], block.index[last].int())
    view[chains] = torch.where(stayed, view[chains], block.view[last])
    score[chains] = visit.log_score.to(score)


def draw_proposals(block: TwoViewBlock, burn_in: float, generator: Generator | None) -> Proposals:
    """Each row's negatives in random order, and a uniform for each."""
    order, uniforms = random_proposals(len(block.logits) // 2, block.logits, generator)
    return Proposals(order, uniforms.log_(), math.floor(burn_in * order.shape[1]))


def start_is_forgotten(block: TwoViewBlock, proposals: Proposals) -> Tensor:
    """Whether a row's visit is the same wherever its chain starts: (2b,) bool.

    No score exceeds |z_r| |z_k| / temperature. If a proposal of the burn-in, or the first one after it, beats that
    ceiling, l_j - log U_j > ceiling, then the chain moves to it from any state, and the start has no effect.
    """
    offered = slice(proposals.dropped + 1)
    challenge = block.logits.gather(1, proposals.order[:, offered].long()) - proposals.log_uniforms[:, offered]
    longest = LONGEST * (1 + 1e-5)  # a score is rounded
    return challenge.amax(dim=1) > block.lengths * longest / block.temperature


def many_proposals(block: TwoViewBlock, held_index: Tensor, held_score: Tensor, generator: Generator | None) -> Visit:
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
