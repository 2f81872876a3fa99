"""The global contrastive loss of a finite set of views, exact in value and gradient: the oracle of the course."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from emc2_lite.losses.checks import check_embeddings, check_temperature, check_tensor


def global_contrastive_loss(
    embeddings: Tensor, temperature: float, *, chunk_size: int = 1024, include_positive: bool = False
) -> Tensor:
    """Contrast every view with every view of every other sample.

        L = mean over i, v, w != v of  [ -l(iv, iw) + log sum over j != i, u of exp l(iv, ju) ]

    with l(iv, ju) = <z_iv, z_ju> / temperature. Its gradient is, with p_r = softmax over neg(r) of l(r, .),

        -E[grad l(positive)] + E over rows r, E over k ~ p_r of [grad l(r, k)].

    Time O((NV)^2 d). Memory O(chunk_size NV), forward and backward: scores are made again, not kept.

    Args:
        embeddings: (N, V, d) normalised; N >= 2 samples with V >= 2 views each.
        temperature: > 0, dimensionless.
        chunk_size: rows of scores that are held at once; it changes memory and speed, not the value.
        include_positive: put exp l(iv, iw) into the sum as well: the limit of NT-Xent as the batch becomes the set.

    Returns:
        A scalar in nats, differentiable once.

    Raises:
        ValueError: on a wrong shape, temperature or chunk_size, and on embeddings that are not finite and normalised.

    Source: Yuan et al. 2022 (SogCLR), equation 2; Yau et al. 2024 (EMC2), equation 1.
    """
    check_temperature(temperature)
    if chunk_size < 1:
        raise ValueError(f"chunk_size is {chunk_size}: it must be at least 1 row.")
    check_tensor(embeddings, "embeddings")
    if embeddings.dim() != 3 or embeddings.shape[0] < 2 or embeddings.shape[1] < 2:
        raise ValueError(
            f"embeddings has shape {tuple(embeddings.shape)}: pass (N, V, d) with N >= 2 samples and V >= 2 views."
        )
    check_embeddings(embeddings, "embeddings")
    num_samples, num_views, _ = embeddings.shape
    if embeddings.dtype != torch.float64:
        embeddings = embeddings.float()
    with torch.autocast(embeddings.device.type, enabled=False):
        log_sum = _NegativesLogSumExp.apply(embeddings, temperature, chunk_size).view(num_samples, num_views, 1)
        positives = embeddings @ embeddings.mT / temperature
    terms = (torch.logaddexp(positives, log_sum) if include_positive else log_sum) - positives
    same_view = torch.eye(num_views, dtype=torch.bool, device=embeddings.device)
    return terms.masked_fill(same_view, 0).sum() / (num_samples * num_views * (num_views - 1))


class _NegativesLogSumExp(torch.autograd.Function):
    """s_r = log sum over k in neg(r) of exp l(r, k) for all NV rows, flat: (N, V, d) -> (NV,).

    l is symmetric, so the row z_r meets z_k twice, as an anchor and as a negative, and

        d (sum_r g_r s_r) / d z_r  =  sum over k in neg(r) of [ g_r exp(l(r,k) - s_r) + g_k exp(l(r,k) - s_k) ] z_k / T.

    One pass over the rows therefore finishes each chunk of the gradient, without a second accumulator.
    """

    @staticmethod
    def forward(ctx, embeddings, temperature, chunk_size):
        log_sum = torch.cat([chunk.logsumexp(1) for _, chunk in _score_chunks(embeddings, temperature, chunk_size)])
        ctx.save_for_backward(embeddings, log_sum)
        ctx.temperature, ctx.chunk_size = temperature, chunk_size
        return log_sum

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        embeddings, log_sum = ctx.saved_tensors
        flat = embeddings.flatten(0, 1)
        result = torch.empty_like(flat)
        for rows, scores in _score_chunks(embeddings, ctx.temperature, ctx.chunk_size):
            weights = (scores - log_sum).exp_().mul_(grad)
            weights.addcmul_(scores.sub_(log_sum[rows, None]).exp_(), grad[rows, None])
            torch.mm(weights, flat, out=result[rows])
        return result.div_(ctx.temperature).view_as(embeddings), None, None


def _score_chunks(embeddings: Tensor, temperature: float, chunk_size: int):
    """Yield (slice of rows, (rows, NV) scores), -inf at the views of the row's own sample."""
    num_samples, num_views, _ = embeddings.shape
    flat = embeddings.flatten(0, 1)
    scaled = flat / temperature
    sample = torch.arange(num_samples, device=flat.device).repeat_interleave(num_views)
    own_views = torch.arange(num_views, device=flat.device)
    for start in range(0, len(flat), chunk_size):
        rows = slice(start, start + chunk_size)
        scores = scaled[rows] @ flat.T
        scores.scatter_(1, sample[rows, None] * num_views + own_views, -torch.inf)
        yield rows, scores
