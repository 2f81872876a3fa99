"""The global contrastive loss of a finite set of views, exact in value and gradient: the oracle of the course."""

import math
from collections import defaultdict
from itertools import combinations_with_replacement
from typing import Annotated

import torch
from torch import Tensor

from emc2_lite.checks import Bounds, Temperature, check_tensor, checked_settings
from emc2_lite.losses.checks import normalised, not_normalised, refuse_second_derivatives, tolerance
from emc2_lite.losses.two_view import full_precision
from emc2_lite.tracing import untraced


@untraced
@checked_settings
def global_contrastive_loss(
    embeddings: Tensor,
    temperature: Temperature,
    *,
    chunk_size: Annotated[int, Bounds(least=1)] | None = None,
    include_positive: bool = False,
    two_towers: bool = False,
) -> Tensor:
    """Contrast every view with every view of every other sample.

        L = mean over i, v, w != v of  [ -l(iv, iw) + log sum over j != i, u of exp l(iv, ju) ]

    with l(iv, ju) = <z_iv, z_ju> / temperature. Its gradient is, with p_r = softmax over neg(r) of l(r, .),

        -E[grad l(positive)] + E over rows r, E over k ~ p_r of [grad l(r, k)].

    Time O((NV)^2 d). Memory O(chunk_size^2 + NV (d + NV / chunk_size)): backward makes the scores again.

    Args:
        embeddings: (N, V, d) normalised; N >= 2 samples with V >= 2 views each.
        temperature: > 0, dimensionless.
        chunk_size: the most rows and columns of scores held at once, or V if larger; it changes memory and speed, not
            the value. None: 768 on a CPU, so that the scores stay in its cache, and 4096 elsewhere.
        include_positive: add exp l(iv, iw) to the sum: the limit of NT-Xent as the batch becomes the set.
        two_towers: views 0 are of one encoder and views 1 of another, such as images and captions, V = 2: the sum is
            over the views u != v, those of the other encoder.

    Returns a scalar in nats, differentiable once.

    Raises: ValueError: on a wrong shape, temperature, chunk_size or include_positive, and on embeddings that are not
        finite and normalised; RuntimeError: on a backward pass with create_graph=True.
    Source: Yuan et al. 2022 (SogCLR), equation 2; Yau et al. 2024 (EMC2), equation 1.

    Chapter 02 builds it.

    >>> embeddings = torch.eye(2)[:, None].repeat(1, 2, 1)  # two samples at a right angle, both views of each alike
    >>> global_contrastive_loss(embeddings, temperature=0.5)  # -2 + log(1 + 1)
    tensor(-1.3069)
    """
    check_tensor(embeddings, "embeddings")
    if embeddings.dim() != 3 or embeddings.shape[0] < 2 or embeddings.shape[1] < 2:
        raise ValueError(
            f"embeddings has shape {tuple(embeddings.shape)}: pass (N, V, d) with N >= 2 samples and V >= 2 views."
        )
    if two_towers and embeddings.shape[1] != 2:
        raise ValueError(f"embeddings has {embeddings.shape[1]} views: two towers have one each, (N, 2, d).")
    if not embeddings.is_floating_point():
        raise ValueError(f"embeddings is {embeddings.dtype}: pass floating-point embeddings.")
    if not normalised(embeddings, tolerance(embeddings.dtype)):
        raise not_normalised(embeddings, "embeddings")
    num_samples, num_views, _ = embeddings.shape
    if embeddings.dtype != torch.float64:
        embeddings = embeddings.float()
    if chunk_size is None:
        chunk_size = 768 if embeddings.device.type == "cpu" else 4096
    with full_precision(embeddings):
        log_sum = _NegativesLogSumExp.apply(embeddings, temperature, chunk_size, two_towers)
        log_sum = log_sum.view(num_samples, num_views, 1)
        positives = embeddings @ embeddings.mT / temperature
    terms = (torch.logaddexp(positives, log_sum) if include_positive else log_sum) - positives
    same_view = torch.eye(num_views, dtype=torch.bool, device=embeddings.device)
    return terms.masked_fill(same_view, 0).sum() / (num_samples * num_views * (num_views - 1))


class _NegativesLogSumExp(torch.autograd.Function):
    """s_r = log sum over k in neg(r) of exp l(r, k) for all NV rows, flat: (N, V, d) -> (NV,).

    l is symmetric, so the row z_r meets z_k twice, as an anchor and as a negative, and

        d (sum_r g_r s_r) / d z_r  =  sum over k in neg(r) of  w(r, k) z_k / T,
        w(r, k)  =  g_r exp(l(r, k) - s_r) + g_k exp(l(r, k) - s_k)  =  exp l(r, k) [g_r exp(-s_r) + g_k exp(-s_k)].

    w is symmetric too: a tile of scores above the diagonal serves its rows and its columns, and none below is made.

    The last form takes one exp, where 1 / T is at most a third of the dtype's range of exponents (T >= 0.0344 in
    float32, 0.00424 in float64): as |l| <= 1 / T, exp l is in range, and so is g_r exp(-s_r) for |g_r| / NV above
    1e-25 (float32). At a lower T no exponent can be above 0.
    """

    @staticmethod
    def forward(ctx, embeddings, temperature, chunk_size, two_towers):
        ctx.temperature, ctx.how = temperature, (temperature, chunk_size, two_towers)
        ctx.in_range = 3 / temperature <= -math.log(torch.finfo(embeddings.dtype).tiny)
        log_sums = defaultdict(list)
        for rows, columns, scores in _tiles(embeddings, *ctx.how):
            if ctx.in_range:
                scores.exp_()
            for part, dim in ((rows, 1), (columns, 0)) if rows != columns else ((rows, 1),):
                log_sums[part.start].append(scores.sum(dim).log_() if ctx.in_range else scores.logsumexp(dim))
        log_sum = torch.cat([torch.stack(parts).logsumexp(0) for parts in log_sums.values()])
        ctx.save_for_backward(embeddings, log_sum)
        return log_sum

    @staticmethod
    def backward(ctx, grad):
        refuse_second_derivatives()
        embeddings, log_sum = ctx.saved_tensors
        flat, share = embeddings.flatten(0, 1), grad * torch.exp(-log_sum)
        result = torch.zeros_like(flat)
        for rows, columns, scores in _tiles(embeddings, *ctx.how):
            if ctx.in_range:
                weights = scores.exp_().mul_(share[rows, None] + share[columns])
            else:
                weights = (scores - log_sum[columns]).exp_().mul_(grad[columns])
                weights.addcmul_(scores.sub_(log_sum[rows, None]).exp_(), grad[rows, None])
            result[rows].addmm_(weights, flat[columns])
            if rows != columns:
                result[columns].addmm_(weights.T, flat[rows])
        return result.div_(ctx.temperature).view_as(embeddings), None, None, None


def _tiles(embeddings: Tensor, temperature: float, chunk_size: int, two_towers: bool):
    """Yield (rows, columns, scores) of the tiles on and above the diagonal, -inf where a row has no negative.

    Rows and columns are slices of whole samples. The scores are in one buffer, overwritten by the next tile.
    """
    num_views = embeddings.shape[1]
    flat = embeddings.flatten(0, 1)
    scaled = flat / temperature
    size = max(chunk_size // num_views, 1) * num_views
    parts = [slice(start, min(start + size, len(flat))) for start in range(0, len(flat), size)]
    buffer = flat.new_empty(min(size, len(flat)) ** 2)
    for rows, columns in combinations_with_replacement(parts, 2):
        shape = rows.stop - rows.start, columns.stop - columns.start
        scores = buffer[: math.prod(shape)].view(shape)
        torch.mm(scaled[rows], flat[columns].T, out=scores)
        of_views = scores.unflatten(1, (-1, num_views)).unflatten(0, (-1, num_views))
        if rows == columns:
            of_views.diagonal(0, 0, 2).fill_(-torch.inf)
        if two_towers:
            of_views.diagonal(0, 1, 3).fill_(-torch.inf)
        yield rows, columns, scores
