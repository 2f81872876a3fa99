"""Solutions to the exercises of chapter 02."""

import math

import torch

from emc2_lite.losses import global_contrastive_loss


def row_weights(z, i, v, temperature):
    """Scores of all views, minus infinity for those of the own sample, then one softmax over everything.

    exp(-inf) is 0, so the own views get no weight and the others sum to 1.
    """
    scores = z @ z[i, v] / temperature
    scores[i] = -torch.inf
    return scores.flatten().softmax(dim=0).view_as(scores)


def global_loss(z, temperature):
    """One pass over all ordered pairs of different views, as the definition reads.

    `others` holds every view of every other sample; torch.logsumexp is the logarithm of the sum of exponentials.
    """
    samples, views, _ = z.shape
    terms = []
    for i in range(samples):
        others = torch.cat((z[:i], z[i + 1 :])).flatten(0, 1)
        for v in range(views):
            log_sum = (others @ z[i, v] / temperature).logsumexp(dim=0)
            terms += [log_sum - z[i, v] @ z[i, w] / temperature for w in range(views) if w != v]
    return torch.stack(terms).mean()


def gradient_from(weights, z, temperature):
    """G is the derivative of the loss by each score; l(r, k) moves z_r and z_k alike, hence G and its transpose.

    The V - 1 positives of a row share a pull of 1.
    """
    samples, views, _ = z.shape
    flat = z.flatten(0, 1)
    sample = torch.arange(samples).repeat_interleave(views)
    positive = (sample[:, None] == sample) & ~torch.eye(len(flat), dtype=torch.bool)
    G = (weights - positive.to(weights) / (views - 1)) / len(flat)
    return ((G + G.T) @ flat / temperature).view_as(z)


def exact_gradient(z, temperature):
    """The scores are products of embeddings of length 1, divided by the temperature once.

    In the code as given both factors of the product were divided, so the scores were too large by 1 / temperature.
    """
    flat = z.double().flatten(0, 1)
    sample = torch.arange(len(z)).repeat_interleave(z.shape[1])
    own = sample[:, None] == sample
    p = (flat @ flat.T / temperature).masked_fill(own, -torch.inf).softmax(dim=1)
    positive = (own & ~torch.eye(len(flat), dtype=torch.bool)).double() / (z.shape[1] - 1)
    G = (p - positive) / len(flat)
    return ((G + G.T) @ flat / temperature).view_as(z)


def log_sums(z, temperature, chunk):
    """A row needs its own scores only, so a strip of rows can be made, reduced to one number per row, and dropped.

    torch.logsumexp subtracts the largest score of a row first, so that no exp overflows and not all of them are 0.
    """
    flat, views = z.flatten(0, 1), z.shape[1]
    sample = torch.arange(len(flat)) // views
    parts = []
    for rows in torch.arange(len(flat)).split(chunk):
        own = sample[rows, None] == sample
        scores = (flat[rows] @ flat.T / temperature).masked_fill(own, -torch.inf)
        parts.append(scores.logsumexp(dim=1))
    return torch.cat(parts)


def log_sums_backward(z, s, eta, temperature, chunk):
    """The same strips once more: p_r(k) = exp(l(r, k) - s_r) needs no number but s_r from the first pass.

    Row r times eta_r moves the anchors of the strip (p @ flat) and all of their negatives (p.T @ the strip).
    """
    flat, views = z.flatten(0, 1), z.shape[1]
    sample = torch.arange(len(flat)) // views
    gradient = torch.zeros_like(flat)
    for rows in torch.arange(len(flat)).split(chunk):
        own = sample[rows, None] == sample
        scores = (flat[rows] @ flat.T / temperature).masked_fill(own, -torch.inf)
        p = (scores - s[rows, None]).exp() * eta[rows, None]
        gradient[rows] += p @ flat
        gradient += p.T @ flat[rows]
    return (gradient / temperature).view_as(z)


def log_sum_from_batch(similarities, num_samples, temperature):
    """|neg(r)| times the batch's mean of exp l, in logarithms; |neg(r)| = 2 (N - 1).

    The estimate is right on average before the logarithm, and too low on average after it.
    """
    log_mean = (similarities / temperature).logsumexp(dim=0) - math.log(len(similarities))
    return math.log(2 * (num_samples - 1)) + log_mean


def weight_gradient(encoder, images, temperature, chunk):
    """The loss needs all embeddings at once, but no graph: so the first pass is without gradient.

    The gradient in the weights is a sum over rows of (derivative of the row's embedding) times (gradient in that
    embedding). A sum can be made chunk by chunk: encode again, send the chunk's part of the gradient back, add.
    """
    weights = list(encoder.parameters())
    chunks = images.flatten(0, 1).split(chunk)
    with torch.no_grad():
        z = torch.cat([encoder(part) for part in chunks]).unflatten(0, images.shape[:2])
    z.requires_grad_()
    (by_embedding,) = torch.autograd.grad(global_contrastive_loss(z, temperature), z)
    total = [torch.zeros_like(weight) for weight in weights]
    for part, rows in zip(chunks, by_embedding.flatten(0, 1).split(chunk), strict=True):
        gradients = torch.autograd.grad(encoder(part), weights, rows)
        total = [old + new for old, new in zip(total, gradients, strict=True)]
    return torch.cat([gradient.flatten() for gradient in total])
