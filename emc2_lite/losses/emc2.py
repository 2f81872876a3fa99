"""EMC2: negatives from one Metropolis-Hastings chain per (sample, view slot), carried from batch to batch."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from emc2_lite.losses.checks import check_batch, check_embeddings, check_temperature, check_tensor
from emc2_lite.losses.two_view import two_view_block
from emc2_lite.sampling import ChainRun, metropolis_hastings

Encode = Callable[[Tensor, Tensor], Tensor]


class EMC2Stats(NamedTuple):
    """Readable numbers of the last call; tensors are 0-dimensional and without gradient.

    loss: mean over rows of -l(r, pos) + log sum of exp l(r, k) over the in-batch negatives, nats. It can be compared
        between steps of one batch size; the value that `forward` returns only carries the gradient.
    acceptance_rate: share of all Metropolis-Hastings steps that moved.
    carried_over_share: share of rows whose chain kept its carried-over state for a step or more after burn-in.
    views_encoded: views that the call encoded again, with and without gradient, counted in encodings.
    views_encoded_with_gradient: those of them that were encoded with gradient.
    """

    loss: Tensor
    acceptance_rate: Tensor
    carried_over_share: Tensor
    views_encoded: int
    views_encoded_with_gradient: int


class EMC2Loss(nn.Module):
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

    Args:
        num_samples: N, the number of samples in the dataset; the state is (N, 2), 16 bytes a chain.
        temperature: > 0, dimensionless; the paper's beta is its inverse.
        burn_in: share of each visit's steps that is dropped, in [0, 1).
        state: "reencoded" (Algorithm 1 of the paper) or "stored".
        refresh_scores: see above.

    Call with:
        z1, z2: (b, d) normalised embeddings of two views of b >= 2 samples.
        index: (b,) int64 dataset indices, each once, in [0, N).
        view: (2, b) int64 view numbers of z1 and z2, >= 0; 0 and 1 when not given.
        encode: (k,) indices, (k,) views -> (k, d) normalised embeddings under today's weights; needed if "reencoded".
        generator: draws first (2b, 2b) numbers for the order of the candidates, then (2b, m) uniforms.

    Raises:
        ValueError: on bad settings, shapes, dtypes, devices, embeddings or indices, an `encode` that is missing or
            without gradient, a damaged state or one of another number of samples. The chains are left as they were.

    Source: Yau et al. 2024, Algorithm 1 and section 3.
    """

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
    ):
        super().__init__()
        check_temperature(temperature)
        if num_samples < 2:
            raise ValueError(f"num_samples is {num_samples}: at least 2 samples are needed for a negative.")
        if not 0 <= burn_in < 1:
            raise ValueError(f"burn_in is {burn_in}: it is a share of steps and must be in [0, 1).")
        if state not in ("reencoded", "stored"):
            raise ValueError(f'state is {state!r}: use "reencoded" or "stored".')
        self.num_samples = num_samples
        self.temperature = temperature
        self.burn_in = burn_in
        self.state = state
        self.refresh_scores = refresh_scores
        self.stats: EMC2Stats | None = None
        self.register_buffer("chain_index", torch.full((num_samples, 2), -1, dtype=torch.int32))
        self.register_buffer("chain_view", torch.zeros((num_samples, 2), dtype=torch.int64))
        self.register_buffer("chain_score", torch.full((num_samples, 2), -torch.inf))
        self.register_load_state_dict_pre_hook(_check_saved_chains)

    def extra_repr(self) -> str:
        return (
            f"num_samples={self.num_samples}, temperature={self.temperature}, burn_in={self.burn_in}, "
            f"state={self.state!r}, refresh_scores={self.refresh_scores}"
        )

    def forward(
        self,
        z1: Tensor,
        z2: Tensor,
        index: Tensor,
        view: Tensor | None = None,
        encode: Encode | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        check_batch(z1, z2, index, view, self.num_samples)
        if self.chain_index.device != z1.device:
            raise ValueError(
                f"The chains are on {self.chain_index.device} and z1 on {z1.device}: move the loss, loss.to(z1.device)."
            )
        reencoded = self.state == "reencoded"
        if reencoded and encode is None:
            raise ValueError(
                'EMC2Loss(state="reencoded") was called without encode: pass encode(index, view) -> (k, d) embeddings, '
                'or choose state="stored" and accept its bias.'
            )
        if view is None:
            view = torch.stack((torch.zeros_like(index), torch.ones_like(index)))
        block = two_view_block(z1, z2, self.temperature)
        logits = block.logits.detach()
        row_index, row_view = index.repeat(2), view.flatten()

        # The view that each chain comes with, its score, and the batch column it stands in, if any.
        held_index, held_view, held_score = (
            state[index].T.flatten() for state in (self.chain_index.long(), self.chain_view, self.chain_score)
        )
        held_score = held_score.to(logits)
        held_column = (held_index[:, None] == row_index) & (held_view[:, None] == row_view)
        outside = (held_index >= 0) & ~held_column.any(dim=1)
        scored = 0
        if reencoded and self.refresh_scores:
            with torch.no_grad():
                held, scored = _encode_distinct(encode, held_index[outside], held_view[outside], block.embeddings)
                fresh = (logits * held_column).sum(dim=1)
                fresh[outside] = (block.embeddings[outside] * held).sum(dim=1) / self.temperature
                held_score = torch.where(held_index >= 0, fresh, -torch.inf)

        order = random_candidate_order(block.own, logits.dtype, generator)
        run = metropolis_hastings(logits.gather(1, order), held_score, generator=generator)
        weights, held_weight = kept_shares(run, order, self.burn_in)

        held_term, encoded = 0.0, 0
        if reencoded:
            weights = weights + held_weight[:, None] * held_column
            holds = outside & (held_weight > 0)
            held, encoded = _encode_distinct(encode, held_index[holds], held_view[holds], block.embeddings)
            if encoded and torch.is_grad_enabled() and z1.requires_grad and not held.requires_grad:
                raise ValueError(
                    "encode returned embeddings without gradient for views that count in the loss: "
                    "call the encoder in it without torch.no_grad() and without detach()."
                )
            held_scores = (block.embeddings[holds] * held).sum(dim=1) / self.temperature
            held_term = (held_weight[holds] * held_scores).sum()
        else:
            in_batch_weight = 1 - held_weight
            weights = torch.where(in_batch_weight > 0, 1 / in_batch_weight, 0)[:, None] * weights
        loss = ((weights * block.logits).sum() - block.positive.sum() + held_term) / len(logits)

        last = run.state[:, -1]
        column = order.gather(1, last.clamp_min(0)[:, None]).squeeze(1)
        self._store(self.chain_index, index, torch.where(last < 0, held_index, row_index[column]))
        self._store(self.chain_view, index, torch.where(last < 0, held_view, row_view[column]))
        self._store(self.chain_score, index, run.log_score)
        self.stats = EMC2Stats(
            loss=(block.negatives_logsumexp() - block.positive).detach().mean(),
            acceptance_rate=run.accepted.to(logits).mean(),
            carried_over_share=(held_weight > 0).to(logits).mean(),
            views_encoded=scored + encoded,
            views_encoded_with_gradient=encoded,
        )
        return loss

    @staticmethod
    def _store(buffer: Tensor, index: Tensor, of_rows: Tensor) -> None:
        buffer[index] = of_rows.view(2, -1).T.to(buffer.dtype)


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


def _encode_distinct(encode: Encode, index: Tensor, view: Tensor, like: Tensor) -> tuple[Tensor, int]:
    """Encode each distinct pair once: an embedding for every pair asked for, and the number of encodings."""
    pairs, place = torch.unique(torch.stack((index, view)), dim=1, return_inverse=True)
    count = pairs.shape[1]
    if count == 0:
        return like.new_zeros(0, like.shape[1]), 0
    embeddings = encode(pairs[0], pairs[1])
    check_tensor(embeddings, "What encode returned")
    if embeddings.shape != (count, like.shape[1]):
        raise ValueError(
            f"encode returned shape {tuple(embeddings.shape)} for {count} views: "
            f"it must return one embedding a view, {(count, like.shape[1])}."
        )
    check_embeddings(embeddings, "What encode returned")
    return embeddings.to(like)[place], count


def _check_saved_chains(module, state_dict, prefix, *_) -> None:
    saved = {name: state_dict[prefix + name] for name, _ in module.named_buffers() if prefix + name in state_dict}
    for buffer in saved.values():
        if buffer.shape != (module.num_samples, 2):
            raise ValueError(
                f"The saved chains have shape {tuple(buffer.shape)}, but this loss was made for {module.num_samples} "
                "samples, two chains each: make it with the num_samples of the dataset that the state was saved with."
            )
    index = saved.get("chain_index")
    if index is not None and not (index.min() >= -1 and index.max() < module.num_samples):
        raise ValueError(
            f"The saved chains hold samples {int(index.min())} to {int(index.max())} of {module.num_samples}: "
            "the state is damaged; load an earlier one."
        )
