"""EMC2: negatives from one Markov chain per (sample, view slot), carried from batch to batch."""

from functools import partial
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from torch import Generator, Tensor

from emc2_lite import kernels
from emc2_lite.checks import Bounds, Share, Temperature, Unread, Width, checked_settings
from emc2_lite.losses.checks import LONGEST, normalised
from emc2_lite.losses.criterion import Criterion, Estimate, Samples
from emc2_lite.losses.encoding import Encode, Encodings, Others, encode_others, on_device, read_checked
from emc2_lite.losses.parallel import Parallel
from emc2_lite.losses.two_view import TwoViewBlock
from emc2_lite.losses.visits import Held, draw_proposals, many_proposals, start_is_forgotten
from emc2_lite.sampling import Visit, metropolis_visit, random_uniforms

_ENCODES_NOTHING = Unread("held", "dropped")


class EMC2Stats(NamedTuple):
    """Readable numbers of the last call; tensors are 0-dimensional and without gradient.

    loss: mean over rows of -l(r, pos) + log sum of exp l(r, k) over the in-batch negatives, nats; it compares steps of
        one batch size. (The value that `forward` returns only carries the gradient.)
    acceptance_rate: share of the chains' steps that moved; a chain whose start is forgotten starts as a new one.
    carried_over_share: share of rows with w(r, 0) > 0, whose held view has weight.
    views_encoded: views that the call encoded again, in encodings; views_encoded_with_gradient: the part with gradient.
    """

    loss: Tensor
    acceptance_rate: Tensor
    carried_over_share: Tensor
    views_encoded: int
    views_encoded_with_gradient: int


class CarriedOver(NamedTuple):
    """What a visit makes of the views that the chains held before."""

    others: Others | None = None  # those encoded with gradient
    constant: Tensor | None = None  # (R, d), those remembered, times their weights
    memory: Tensor | None = None  # (R, d), the embeddings of the held views, as far as they are known
    scored: int = 0  # views encoded without gradient


class EMC2Loss(Criterion):
    """A surrogate whose gradient estimates that of the global contrastive loss at any batch size.

    Each (sample, view slot) owns a Markov chain over negatives, which holds one view: its index, number and score. A
    call visits the chains of the batch's 2b rows. Row r's chain is offered the m = 2b - 2 in-batch negatives in random
    order, and moves to k iff l(r, k) - log U > l(current), U ~ Uniform(0, 1). The first B = floor(burn_in m) steps are
    dropped; the shares of the other m - B states are the weights w, detached:

        loss = mean over rows r of  -l(r, pos) + sum_k w(r, k) l(r, k) + w(r, 0) l(r, held view),

    with l = <., .> / temperature. The last state is stored. The held view, with which a chain comes to its visit, is of
    an earlier batch, and its embedding is gone. `held` says what takes its place; a view that this batch brings again
    always counts with today's embedding.

    * "encoded" is Algorithm 1. Held views are encoded without gradient, so that chains start from today's scores; those
      with w(r, 0) > 0 are encoded again with gradient. A chain that leaves during burn-in whatever its score
      (`emc2_lite.losses.visits.start_is_forgotten`) needs no score.
    * "remembered" keeps e, the embedding of the held view when last seen, and starts from <z_r, e> / temperature. A
      share of the held views is encoded, with gradient: c(r) = 1 / reencode with probability reencode w(r, 0),
      otherwise 0, and

          w(r, 0) l(r, held view)  becomes
          c(r) l(r, held view) + (w(r, 0) - c(r)) <z_r, e> / temperature,

      where e gets no gradient. c(r) has the mean w(r, 0): given the weights w, the mean of the gradient is that of
      the view encoded again, for every reencode above 0 and every e; a smaller reencode encodes less and has more
      noise. So at fixed weights the mean gradient is that of "encoded". In training e is from when the view was last
      in its batch or encoded again, and the score that the chain starts from is stale in that one factor. With
      reencode = 0 nothing is encoded, and the held view gets no gradient: a bias.
    * "stale" starts from the score at the last visit, and encodes views with w(r, 0) > 0 as "encoded" does. Scores of
      an untrained encoder can hold a chain for ever.
    * "dropped" starts from that score too, encodes nothing, leaves the last term out and divides the other weights by
      1 - w(r, 0), or makes them 0. Biased at low temperature, where the held views are the hard negatives.

    With fixed weights, and slots that show the same view at each visit, the mean gradient of "encoded" tends to the
    exact one, but for two errors of the proposals: a batch draws them without replacement (an error of order
    m / |neg(r)|), and brings both views of a sample, which score alike (a bias that a larger dataset does not remove).
    Where a slot shows a new view at each visit, the chain's target is new each time too, and w is late by a visit.

    ``kernel="multiproposal"`` has no loop, no burn-in and neither error of the proposals: its two steps
    (`emc2_lite.losses.visits.many_proposals`, `emc2_lite.sampling.multiproposal`) are exactly reversible. w are the
    probabilities of the second step. w(r, 0) is rarely 0, so "encoded" and "stale" too encode a view with probability
    w(r, 0), which then counts 1. A new chain takes DCL's softmax over all m negatives.

    Args:
        num_samples: N, the number of samples in the dataset; the state is (N, 2), 16 bytes a chain, 32 a sample.
        temperature: > 0, dimensionless; the paper's beta is its inverse. A saved state serves another temperature
            unless `held` is "stale" or "dropped".
        burn_in: share of each visit's steps that is dropped, in [0, 1); "metropolis" only.
        held: how a held view is treated, see above; "dropped" with "metropolis" only.
        kernel: "metropolis" (the paper's) or "multiproposal" (beyond the paper).
        dim: d, the length of an embedding; "remembered" needs it, for a memory in half precision: 4 d bytes a sample
            more.
        reencode: rho in [0, 1], the share of the held views' weight that is encoded again; "remembered" only.
        check_encode: the first call in training encodes two of the batch's views again, not counted, and refuses an
            `encode` that does not reproduce them.
        two_towers: whether z1 and z2 are of two encoders, see `Criterion`.
        parallel: this process's place among several, which share the chains by samples.

    Call as any `Criterion`; `encode` is needed but where held is "dropped", or "remembered" with reencode = 0. For
    "metropolis" the generator serves `random_proposals`, and the choice of the remembered views to encode.
    Raises: ValueError: on bad settings, shapes, dtypes, devices, embeddings or indices, an `encode` that is missing,
        without gradient or does not reproduce the batch, a damaged state or one of another number of samples.
    Source: Yau et al. 2024, Algorithm 1 and section 3; "remembered" and "multiproposal" are this library's.

    Chapter 05 builds it.

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
    chain_embedding: Tensor

    @checked_settings
    def __init__(
        self,
        num_samples: Samples,
        temperature: Temperature,
        burn_in: Annotated[float, Bounds(least=0, below=1), Unread("kernel", "multiproposal")] = 0.5,
        held: Literal["encoded", "remembered", "stale", "dropped"] = "encoded",
        kernel: Literal["metropolis", "multiproposal"] = "metropolis",
        dim: Width | None = None,
        reencode: Annotated[Share, Unread("held", "encoded", "stale", "dropped")] = 1.0,
        check_encode: Annotated[bool, _ENCODES_NOTHING] = True,
        two_towers: bool = False,
        parallel: Parallel | None = None,
    ):
        super().__init__(temperature, num_samples, two_towers, parallel)
        if kernel == "multiproposal" and held == "dropped":
            raise ValueError(
                'kernel is "multiproposal" and held "dropped": without its carried-over state that kernel is hardly '
                'more than DCL; use held="remembered", or DCLLoss.'
            )
        if kernel == "multiproposal" and two_towers:
            raise ValueError(
                'kernel is "multiproposal" and two_towers true: its sets have views of both slots; use "metropolis".'
            )
        if held == "remembered" and dim is None:
            raise ValueError('held is "remembered" and dim None: pass dim, the length of an embedding.')
        encodes = held != "dropped" and not (held == "remembered" and reencode == 0)
        if parallel is not None and not parallel.share_rows and encodes:
            raise ValueError(
                f'held is "{held}" and all rows are estimated in every process: each would encode all carried-over '
                'views again; use share_rows=True, or held="dropped".'
            )
        self.burn_in, self.held, self.kernel = burn_in, held, kernel
        self.dim, self.reencode, self.check_encode = dim, reencode, check_encode
        self.register_buffer("chain_index", torch.full((self.kept_samples, 2), -1, dtype=torch.int32))
        self.register_buffer("chain_view", torch.zeros((self.kept_samples, 2), dtype=torch.int64))
        self.register_buffer("chain_score", torch.full((self.kept_samples, 2), -torch.inf))
        if held == "remembered":
            self.register_buffer("chain_embedding", torch.zeros((self.kept_samples, 2, dim or 0), dtype=torch.float16))

    def estimate(self, block: TwoViewBlock, encode: Encode | None, generator: Generator | None) -> Estimate:
        # The indices are not checked yet: one outside the buffers would end a CUDA process.
        chains = self.places(block).clamp_(0, 2 * self.kept_samples - 1)
        sample, view, score = (buffer.index_select(0, chains) for buffer in self.flat_buffers())
        score = score.to(block.logits)
        if self.held == "dropped":
            proposals = draw_proposals(block, self.burn_in, generator)
            self.admit(block)
            visit, carried = metropolis_visit(block.logits, score, proposals, leave_out_held=True), CarriedOver()
        else:
            visit, carried = self.carry_over(block, chains, sample, view, score, encode, generator)
        encoded = 0 if carried.others is None else len(carried.others.embeddings)
        stats = EMC2Stats(
            loss=(block.softmax()[1] - block.positive).mean(),
            acceptance_rate=visit.acceptance_rate,
            carried_over_share=(visit.held_weight > 0).to(block.logits).mean(),
            views_encoded=carried.scored + encoded,
            views_encoded_with_gradient=encoded,
        )
        keep = partial(self.store, chains, block, visit, carried.memory)
        return Estimate(visit.weights, stats, others=carried.others, constant=carried.constant, store=keep)

    def carry_over(
        self,
        block: TwoViewBlock,
        chains: Tensor,
        sample: Tensor,
        view: Tensor,
        score: Tensor,
        encode: Encode | None,
        generator: Generator | None,
    ) -> tuple[Visit, CarriedOver]:
        """The visit of chains that hold these views, with these scores, (R,), and what becomes of the views."""
        proposals = draw_proposals(block, self.burn_in, generator) if self.kernel == "metropolis" else None
        forgotten = torch.zeros_like(sample)
        if proposals and self.held == "encoded":
            forgotten = start_is_forgotten(block, proposals)
        indices, views, held_indices, held_views, forgets = self.admit(block, sample, view, forgotten)
        batch, names = list(zip(indices, views, strict=True)), list(zip(held_indices, held_views, strict=True))
        if self.reencode > 0:
            self.check_encode_once(block, batch, self.needed(encode))
        columns = {name: column for column, name in enumerate(batch)}
        found = [columns.get(name, -1) for name in names]
        held = Held(sample, view, score, *on_device(block.index.device, found))
        outside = held.outside

        here, place = held.column >= 0, held.column.clamp_min(0)
        start = block.logits.gather(1, place[:, None]).squeeze(1).where(here, -torch.inf)
        memory, again = None, None
        if self.held == "stale":
            start = held.score
        elif self.held == "remembered":
            memory = torch.where(here[:, None], block.embeddings[place], self.recall(block, chains))
            start = torch.where(outside, (block.anchors * memory).sum(dim=1) / block.temperature, start)
        elif rows := [r for r, column in enumerate(found) if column < 0 <= held_indices[r] and not forgets[r]]:
            with torch.no_grad():
                again = Encodings(self.needed(encode), [names[row] for row in rows], block.embeddings)
                (places,) = on_device(block.index.device, rows)
                products = block.anchors[places] * again.embeddings[again.place]
                start[places] = products.sum(dim=1) / block.temperature

        if proposals:
            visit = metropolis_visit(block.logits, start, proposals)
        else:
            visit = many_proposals(block, held, start, generator)
        visit.weights.scatter_add_(1, place[:, None], visit.held_weight.where(here, 0)[:, None])
        weight = visit.held_weight.where(outside, 0)
        counted, others = self.counted(block, weight, generator), None
        if self.reencode > 0:
            (counts,) = read_checked(again, counted > 0)
            rows = [row for row, counts_in in enumerate(counts) if counts_in]
            others = encode_others(block, self.needed(encode), [names[row] for row in rows], rows, counted)
        constant = None
        if memory is not None:
            constant = (weight - counted)[:, None] * memory
            if others is not None:
                (places,) = on_device(block.index.device, rows)
                memory[places] = others.embeddings.detach()[others.place]
        return visit, CarriedOver(others, constant, memory, len(again.embeddings) if again else 0)

    def counted(self, block: TwoViewBlock, weight: Tensor, generator: Generator | None) -> Tensor:
        """c(r), with which the view encoded again counts, of mean `weight` = w(r, 0): (R,)."""
        if self.held != "remembered" and self.kernel == "metropolis":
            return weight
        coins = block.rows_of(random_uniforms((len(block.embeddings),), weight.dtype, weight.device, generator))
        return (coins < self.reencode * weight).to(weight) / (self.reencode or 1)

    def needed(self, encode: Encode | None) -> Encode:
        if encode is None:
            raise ValueError(
                f"EMC2Loss(held={self.held!r}) was called without encode: pass encode(index, view) -> (k, d) "
                'embeddings, or encode nothing: held="remembered" with reencode=0, or "dropped", and accept the bias.'
            )
        return encode

    def recall(self, block: TwoViewBlock, chains: Tensor) -> Tensor:
        """The remembered embeddings of the rows' held views: (R, d)."""
        if block.embeddings.shape[1] != self.dim:
            raise ValueError(f"z1 has d = {block.embeddings.shape[1]}, but the memory was made for dim = {self.dim}.")
        return self.chain_embedding.flatten(0, 1).index_select(0, chains).to(block.embeddings)

    def flat_buffers(self) -> list[Tensor]:
        return [buffer.view(-1) for buffer in (self.chain_index, self.chain_view, self.chain_score)]

    def store(self, chains: Tensor, block: TwoViewBlock, visit: Visit, memory: Tensor | None) -> None:
        """Write the rows' last states into the places `chains` (R,) of the buffers."""
        index, view, score = self.flat_buffers()
        stayed, last = visit.column < 0, visit.column.clamp_min(0)
        if memory is not None:
            latest = torch.where(stayed[:, None], memory, block.embeddings[last])
            self.chain_embedding.flatten(0, 1)[chains] = latest.to(self.chain_embedding)
        if kernels.compiles_for(index.device) and score.dtype in (torch.float32, torch.float64):
            batch = block.index, block.view, visit.column, visit.log_score
            kernels.store(*(t.numpy() for t in (index, view, score, chains, *batch)))
            return
        index[chains] = torch.where(stayed, index[chains], block.index[last].int())
        view[chains] = torch.where(stayed, view[chains], block.view[last])
        score[chains] = visit.log_score.to(score)

    def check_saved(self, saved: dict[str, Tensor]) -> None:
        index, memory = saved.get("chain_index"), saved.get("chain_embedding")
        if index is None:
            return
        if not (index.min() >= -1 and index.max() < self.num_samples):
            raise ValueError(
                f"The saved chains hold samples {int(index.min())} to {int(index.max())} of {self.num_samples}: "
                "the state is damaged; load an earlier one."
            )
        if memory is not None and (index >= 0).any() and not normalised(memory[index >= 0], LONGEST - 1):
            raise ValueError(
                "The saved chains remember vectors that are not of length 1, or NaN: the state is damaged; "
                "load an earlier one."
            )
