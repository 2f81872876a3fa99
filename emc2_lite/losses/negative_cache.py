"""A cache of embeddings of the whole dataset, from which negatives are drawn exactly, if a little late."""

import math
from functools import partial
from typing import Annotated, ClassVar, NamedTuple

import torch
from torch import Generator, Tensor

from emc2_lite.checks import Bounds, Share, Temperature, Width, checked_settings
from emc2_lite.losses.checks import LONGEST, normalised
from emc2_lite.losses.criterion import Criterion, Estimate, Samples
from emc2_lite.losses.encoding import Encode, Encodings, encode_others, on_device, read_checked
from emc2_lite.losses.parallel import Parallel
from emc2_lite.losses.two_view import TwoViewBlock, full_precision
from emc2_lite.sampling import random_uniforms
from emc2_lite.sampling.gumbel import perturbed


class NegativeCacheStats(NamedTuple):
    """Readable numbers of the last call; tensors are 0-dimensional and without gradient.

    loss: mean over rows of -l(r, pos) + log sum of exp l(r, k) over the cached views of the other samples, nats: with a
        full cache, the global loss as the cache sees it. (The value that `forward` returns only carries the gradient.)
    staleness: mean over the drawn negatives of |score from the cache - score under today's weights|, nats.
    filled: share of the cache that has ever been encoded.
    views_encoded: views that the call encoded again, in encodings; views_encoded_with_gradient: the part with gradient.
    """

    loss: Tensor
    staleness: Tensor
    filled: Tensor
    views_encoded: int
    views_encoded_with_gradient: int


class NegativeCacheLoss(Criterion):
    """A surrogate whose negatives are drawn from a softmax over cached embeddings of all views.

    The cache has one embedding for each (sample, view slot). A call

    * puts the batch's embeddings into it, and encodes ceil(refresh 2N) more entries again, in turn, without gradient;
    * for each row r, draws n = num_negatives entries k_1 ... k_n, independently and with replacement, by the Gumbel-max
      trick from p_hat_r(k) = softmax over the entries of other samples of <z_r, cached z_k> / temperature;
    * encodes the drawn views with gradient, each distinct one that is not in the batch once, and returns

          loss = mean over rows r of  -l(r, pos) + (1 / n) sum_j l(r, k_j),      l = <., .> / temperature.

    In expectation it has the exact gradient with p_hat_r in the place of p_r: staleness is its only bias. There is none
    if the cache's views are the whole set and either the weights are fixed and the cache full, or refresh = 1. Entries
    that were never encoded are not drawn. The first 1 / refresh steps fill the cache; an entry that no batch has
    brought yet gets view 0 or 1, the number of its slot.

    Args:
        num_samples: N, the number of samples in the dataset.
        dim: d, the length of an embedding. The cache takes 8 N d bytes, and 16 N more for the numbers of its views.
        temperature: > 0, dimensionless.
        refresh: the share of the cache that a call encodes again, in [0, 1].
        num_negatives: n >= 1; a larger n lowers the variance, and encodes more views with gradient.
        check_encode: the first call in training encodes two of the batch's views again, not counted, and refuses an
            `encode` that does not reproduce them.
        two_towers: whether z1 and z2 are of two encoders, see `Criterion`.
        parallel: this process's place among several, which share the cache by samples.

    Call as any `Criterion`; `encode` is needed. Time and memory of a call are O(b N d) and O(b N n).
    Raises: ValueError: on bad settings, shapes, dtypes, devices, embeddings or indices, an `encode` that is missing,
        without gradient or does not reproduce the batch, and a damaged state.
    Source: Lindgren et al. 2021, Efficient training of retrieval models using negative cache, section 3; one entry a
    view slot instead of one an item. The authors' code multiplies pull and push by one minus the positive's share: the
    loss with the positive in its sum.

    Chapter 03 builds it.

    >>> table = torch.nn.functional.normalize(torch.randn(100, 2, 8), dim=-1).requires_grad_()  # an encoder's outputs
    >>> criterion, index = NegativeCacheLoss(num_samples=100, dim=8, temperature=0.2, refresh=0.5), torch.arange(50, 54)
    >>> criterion(*table[index].unbind(1), index, encode=lambda i, v: table[i, v]).backward()
    >>> criterion.stats.filled  # half of the cache, and the 8 entries of the batch
    tensor(0.5400)
    """

    state_name: ClassVar[str] = "cache entries"
    num_samples: int
    cache: Tensor
    cache_view: Tensor
    cursor: Tensor

    @checked_settings
    def __init__(
        self,
        num_samples: Samples,
        dim: Width,
        temperature: Temperature,
        refresh: Share = 0.01024,
        num_negatives: Annotated[int, Bounds(least=1)] = 1,
        check_encode: bool = True,
        two_towers: bool = False,
        parallel: Parallel | None = None,
    ):
        super().__init__(temperature, num_samples, two_towers, parallel)
        if parallel is not None and not parallel.share_rows:
            raise ValueError(
                "All rows are estimated in every process: each would keep the whole cache and encode all of its views "
                "again; use share_rows=True."
            )
        self.dim, self.refresh = dim, refresh
        self.num_negatives, self.check_encode = num_negatives, check_encode
        self.register_buffer("cache", torch.zeros(self.kept_samples, 2, dim))
        self.register_buffer("cache_view", torch.full((self.kept_samples, 2), -1, dtype=torch.int64))
        self.register_buffer("cursor", torch.zeros((), dtype=torch.int64))

    def estimate(self, block: TwoViewBlock, encode: Encode | None, generator: Generator | None) -> Estimate:
        anchors = block.anchors
        if anchors.shape[1] != self.dim:
            raise ValueError(f"z1 has d = {anchors.shape[1]}, but the cache was made for dim = {self.dim}.")
        if encode is None:
            raise ValueError(
                "NegativeCacheLoss was called without encode: pass encode(index, view) -> (k, d) embeddings; "
                "the cache is encoded again through it, and so are the negatives drawn from it."
            )
        device, entries, chains = anchors.device, 2 * self.num_samples, self.places(block)
        count = math.ceil(round(self.refresh * entries, 6))  # 0.07 of 100 are 7, also in floating point
        turn = self.here((self.cursor + torch.arange(count, device=device)) % entries)
        indices, batch_views, *in_turn = self.admit(block, turn, self.cache_view.view(-1)[turn])
        batch = list(zip(indices, batch_views, strict=True))
        self.check_encode_once(block, batch, encode)
        brought = {2 * index + slot for index in indices for slot in range(2)}
        waiting = zip(*in_turn, strict=True)
        due = {e: v if v >= 0 else e % 2 for e, v in waiting if self.everywhere(e) not in brought}
        renewed, renewed_views = on_device(device, [*due], [*due.values()])
        own_views = block.rows_of(block.view)
        views = self.cache_view.flatten().index_put((chains,), own_views).index_put((renewed,), renewed_views)
        fresh, again = anchors.new_zeros(0, self.dim), None
        if due:
            with torch.no_grad():
                again = Encodings(encode, [(self.everywhere(e) // 2, v) for e, v in due.items()], anchors)
                fresh = again.embeddings[again.place]

        # All rows of the batch meet the entries that are here; each process then takes its own rows' draws.
        everyone = block.embeddings
        with full_precision(anchors):
            scores = everyone @ self.cache.flatten(0, 1).to(anchors).T / self.temperature
            scores[:, chains] = block.logits.T
            scores[:, renewed] = everyone @ fresh.T / self.temperature
        scores.masked_fill_(views < 0, -torch.inf)
        own_rows = block.rows_of(torch.arange(len(everyone), device=device))
        own_entries = chains[:, None] // 2 * 2 + torch.arange(2, device=device)
        scores[own_rows[:, None], own_entries] = -torch.inf
        if self.two_towers:
            for slot, rows in enumerate(scores.chunk(2)):
                rows[:, slot::2] = -torch.inf
        places = (len(everyone), self.num_negatives, entries)
        here = None if len(views) == entries else self.everywhere(torch.arange(len(views), device=device))
        uniforms = random_uniforms(places, scores.dtype, device, generator, here)
        best, drawn = perturbed(scores[:, None], uniforms).max(dim=-1)  # (2b, K)
        log_sum = scores.logsumexp(dim=1)
        draws: list[Tensor] = [self.everywhere(drawn), views[drawn], scores.gather(1, drawn)]
        filled = (views >= 0).to(scores).sum() / entries
        if self.parallel is not None:
            best, *parts, log_sum = self.parallel.gather(*(part[None] for part in (best, *draws, log_sum)))
            winner = best.argmax(dim=0, keepdim=True)
            draws = [part.gather(0, winner)[0] for part in parts]
            log_sum = log_sum.logsumexp(dim=0)
            filled = self.parallel.gather(filled[None])[0].sum()
        drawn, drawn_views, cached_scores = (block.rows_of(part).flatten() for part in draws)

        drawn_entries, view_numbers = read_checked(again, drawn, drawn_views)
        names = [(entry // 2, v) for entry, v in zip(drawn_entries, view_numbers, strict=True)]
        columns = {name: column for column, name in enumerate(batch)}
        found = [columns.get(name, -1) for name in names]
        outside = [n for n, column in enumerate(found) if column < 0]
        column, elsewhere = on_device(device, found, outside)
        rows = torch.arange(len(anchors), device=device).repeat_interleave(self.num_negatives)
        share = scores.new_full((len(anchors),), 1 / self.num_negatives)
        weights = torch.zeros_like(block.logits).index_put_(
            (rows, column.clamp_min(0)), share[rows].where(column >= 0, 0), accumulate=True
        )
        meeting = [n // self.num_negatives for n in outside]
        others = encode_others(block, encode, [names[n] for n in outside], meeting, share)

        staleness, encoded = torch.zeros((), dtype=scores.dtype, device=device), 0
        if others is not None:
            rows, encoded = rows[elsewhere], len(others.embeddings)
            true_scores = (anchors[rows] * others.embeddings.detach()[others.place]).sum(dim=1) / self.temperature
            staleness = (cached_scores[elsewhere] - true_scores).abs().sum() / (len(anchors) * self.num_negatives)
        stats = NegativeCacheStats(
            loss=(block.rows_of(log_sum) - block.positive).mean(),
            staleness=staleness,
            filled=filled,
            views_encoded=encoded + (len(again.embeddings) if again else 0),
            views_encoded_with_gradient=encoded,
        )
        put = (torch.cat((chains, renewed)), torch.cat((anchors, fresh)), views, count)
        return Estimate(weights, stats, others=others, store=partial(self.store, *put))

    def here(self, entries: Tensor) -> Tensor:
        """The places in this process's part of the cache, of those of the entries that are there."""
        if self.parallel is None:
            return entries
        sample, parts = entries // 2, self.parallel.parts
        kept = sample % parts == self.parallel.part
        return (sample // parts * 2 + entries % 2)[kept]

    def everywhere(self, places):
        """The entries at these places, numbers or a tensor."""
        if self.parallel is None:
            return places
        return (places // 2 * self.parallel.parts + self.parallel.part) * 2 + places % 2

    def store(self, places: Tensor, embeddings: Tensor, views: Tensor, count: int) -> None:
        """Put embeddings into their places, take note of all views (2N,), and go on in turn by `count` entries."""
        self.cache.flatten(0, 1)[places] = embeddings.to(self.cache)
        self.cache_view.copy_(views.view_as(self.cache_view))
        self.cursor.copy_((self.cursor + count) % (2 * self.num_samples))

    def check_saved(self, saved: dict[str, Tensor]) -> None:
        if not {"cache", "cache_view"} <= saved.keys():
            return
        filled = saved["cache_view"] >= 0
        if filled.any() and not normalised(saved["cache"][filled], LONGEST - 1):
            raise ValueError(
                "The saved cache holds vectors that are not of length 1, or NaN: the state is damaged; "
                "load an earlier one."
            )
