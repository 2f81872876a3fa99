"""A cache of embeddings of the whole dataset, from which negatives are drawn exactly, if a little late."""

import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from emc2_lite.losses.checks import check_embeddings
from emc2_lite.losses.criterion import Criterion, Encode, Estimate
from emc2_lite.losses.encoding import distinct_views, encode_others, encode_views
from emc2_lite.losses.two_view import TwoViewBlock, full_precision
from emc2_lite.sampling.gumbel import perturbed_argmax
from emc2_lite.splitmix import random_uniforms


class NegativeCacheStats(NamedTuple):
    """Readable numbers of the last call; tensors are 0-dimensional and without gradient.

    loss: mean over rows of -l(r, pos) + log sum of exp l(r, k) over the cached views of the other samples, nats: the
        global loss as the cache sees it, once the cache is full. The value that `forward` returns only carries the
        gradient.
    staleness: mean over the drawn negatives of |score from the cache - score under today's weights|, dimensionless.
    filled: share of the cache that has ever been encoded.
    views_encoded: views that the call encoded again, with and without gradient, counted in encodings.
    views_encoded_with_gradient: those of them that were encoded with gradient.
    """

    loss: Tensor
    staleness: Tensor
    filled: Tensor
    views_encoded: int
    views_encoded_with_gradient: int


class NegativeCacheLoss(Criterion):
    """A surrogate whose negatives are drawn from a softmax over cached embeddings of all views.

    The cache has one embedding for each (sample, view slot). A call

    1. puts the batch's embeddings into it, and encodes ceil(refresh 2N) more entries again, in turn, without gradient;
    2. for each row r, draws K = num_negatives entries k_1 ... k_K, independently and with replacement, from
       q_r(k) = softmax over the entries of other samples of <z_r, cached z_k> / temperature, by the Gumbel-max trick;
    3. encodes the drawn views with gradient, each distinct one that is not in the batch once, and returns

        loss = mean over rows r of  -l(r, pos) + (1 / K) sum_j l(r, k_j),      l = <., .> / temperature.

    Its expectation is the exact gradient with q_r in the place of p_r: all of its bias is staleness. There is none if
    the views of the cache are the whole set and either the weights are fixed and the cache full, or refresh = 1.
    Entries that were never encoded are not drawn; the first 1 / refresh steps fill the cache, with view 0 or 1 (the
    slot's number) where no batch has brought another.

    Args:
        num_samples: N, the number of samples in the dataset.
        dim: d, the length of an embedding. The cache takes 8 N d bytes, and 16 N more for the numbers of its views.
        temperature: > 0, dimensionless.
        refresh: rho, the share of the cache that a call encodes again, in [0, 1].
        num_negatives: K >= 1. More of them lower the variance, and are encoded with gradient.

    Call as any `Criterion`; `encode` is needed. Time and memory of a call are O(b N d) and O(b N K).

    Raises:
        ValueError: on bad settings, shapes, dtypes, devices, embeddings or indices, an `encode` that is missing or
            without gradient, and a damaged state.

    Source: Lindgren et al. 2021, Efficient training of retrieval models using negative cache, section 3; one entry a
    view slot instead of one an item.
    """

    state_name: ClassVar[str] = "cache entries"
    cache: Tensor
    cache_view: Tensor
    cursor: Tensor

    def __init__(
        self, num_samples: int, dim: int, temperature: float, refresh: float = 0.01024, num_negatives: int = 1
    ):
        super().__init__(temperature, num_samples)
        if not (isinstance(dim, int) and dim >= 1):
            raise ValueError(f"dim is {dim!r}: it is the length of an embedding, a whole number of 1 or more.")
        if not 0 <= refresh <= 1:
            raise ValueError(f"refresh is {refresh}: it is a share of the cache and must be in [0, 1].")
        if not (isinstance(num_negatives, int) and num_negatives >= 1):
            raise ValueError(f"num_negatives is {num_negatives!r}: draw a whole number of 1 or more for each row.")
        self.dim = dim
        self.refresh = refresh
        self.num_negatives = num_negatives
        self.register_buffer("cache", torch.zeros(num_samples, 2, dim))
        self.register_buffer("cache_view", torch.full((num_samples, 2), -1, dtype=torch.int64))
        self.register_buffer("cursor", torch.zeros((), dtype=torch.int64))

    def estimate(self, block: TwoViewBlock, encode: Encode | None, generator: torch.Generator | None) -> Estimate:
        anchors = block.embeddings
        if anchors.shape[1] != self.dim:
            raise ValueError(f"z1 has d = {anchors.shape[1]}, but the cache was made for dim = {self.dim}.")
        if encode is None:
            raise ValueError(
                "NegativeCacheLoss was called without encode: pass encode(index, view) -> (k, d) embeddings; "
                "the cache is encoded again through it, and so are the negatives drawn from it."
            )
        entries, of_batch = 2 * self.num_samples, block.chains()
        count = math.ceil(round(self.refresh * entries, 6))  # 0.07 of 100 are 7, also in floating point
        renewed = (self.cursor + torch.arange(count, device=anchors.device)) % entries
        renewed = renewed[~torch.isin(renewed, of_batch)]
        views = self.cache_view.flatten().index_put((of_batch,), block.view)
        views[renewed] = torch.where(views[renewed] < 0, renewed % 2, views[renewed])
        with torch.no_grad():
            named, place = distinct_views(renewed // 2, views[renewed])
            fresh = encode_views(encode, named, anchors)[place]

        with full_precision(anchors):
            scores = anchors @ self.cache.flatten(0, 1).to(anchors).T / self.temperature
            scores[:, of_batch] = block.logits
            scores[:, renewed] = anchors @ fresh.T / self.temperature
        scores.masked_fill_(views < 0, -torch.inf)
        scores.scatter_(1, 2 * block.index[:, None] + torch.arange(2, device=anchors.device), -torch.inf)
        places = (len(anchors), self.num_negatives, entries)
        uniforms = random_uniforms(places, scores.dtype, scores.device, generator)
        drawn = perturbed_argmax(scores[:, None], uniforms).flatten()

        rows = torch.arange(len(anchors), device=anchors.device).repeat_interleave(self.num_negatives)
        share = torch.full_like(rows, 1 / self.num_negatives, dtype=scores.dtype)
        column = block.column_of(drawn // 2, views[drawn])
        weights = torch.zeros_like(block.logits).index_put_(
            (rows, column.clamp_min(0)), share.where(column >= 0, 0), accumulate=True
        )
        outside = (column < 0).nonzero().squeeze(1)
        rows, drawn = rows[outside], drawn[outside]
        away, place = distinct_views(drawn // 2, views[drawn])
        others = encode_others(block, rows, away, place, share[outside], encode)

        staleness = torch.zeros((), dtype=scores.dtype, device=scores.device)
        if others.encodings:
            true_scores = (anchors[rows] * others.embeddings.detach()[place]).sum(dim=1) / self.temperature
            staleness = (scores[rows, drawn] - true_scores).abs().sum() / (len(anchors) * self.num_negatives)
        self.cache.view(entries, -1)[of_batch] = anchors.to(self.cache)
        self.cache.view(entries, -1)[renewed] = fresh.to(self.cache)
        self.cache_view.copy_(views.view_as(self.cache_view))
        self.cursor.copy_((self.cursor + count) % entries)
        stats = NegativeCacheStats(
            loss=(scores.logsumexp(dim=1) - block.positive).mean(),
            staleness=staleness,
            filled=(views >= 0).to(scores).mean(),
            views_encoded=named.shape[1] + others.encodings,
            views_encoded_with_gradient=others.encodings,
        )
        return Estimate(weights, stats, others=others)

    def check_saved(self, saved: dict[str, Tensor]) -> None:
        if {"cache", "cache_view"} <= saved.keys() and (filled := saved["cache_view"] >= 0).any():
            check_embeddings(saved["cache"][filled], "The saved cache")
