"""Right and wrong answers to the exercises of chapter 02."""

import math

import torch

from emc2_lite.course.checks import global_loss
from emc2_lite.losses import global_contrastive_loss


def mean_of_the_parts(z, temperature):
    samples, views, _ = z.shape
    flat = z.flatten(0, 1)
    own = torch.eye(samples).repeat_interleave(views, 0).repeat_interleave(views, 1).bool()
    scores = flat @ flat.T / temperature
    positives = own & ~torch.eye(len(flat), dtype=torch.bool)
    return scores.masked_fill(own, -math.inf).logsumexp(1).mean() - scores[positives].mean()


def weights_put_in_place(z, i, v, temperature):
    others = [k for k in range(len(z)) if k != i]
    weights = torch.zeros(z.shape[:2], dtype=z.dtype)
    weights[others] = (z[others] @ z[i, v] / temperature).flatten().softmax(0).view(-1, z.shape[1])
    return weights


def largest_taken_off(similarities, num_samples, temperature):
    scores = similarities / temperature
    largest = scores.max()
    return (largest + ((scores - largest).exp().mean() * 2 * (num_samples - 1)).log()).item()


RIGHT = [
    (global_loss.global_loss, global_contrastive_loss),
    (global_loss.global_loss, mean_of_the_parts),
    (global_loss.row_weights, weights_put_in_place),
    (global_loss.log_sum_from_batch, largest_taken_off),
]

weights = global_loss.row_weights.reference

log_sum = global_loss.log_sum_from_batch.reference


def pairs_chosen(chosen):
    """The global loss whose positive pairs (v, w) are those that ``chosen(v, w, views)`` accepts."""

    def wrong(z, t):
        views, terms = range(z.shape[1]), []
        for i in range(len(z)):
            others = torch.cat((z[:i], z[i + 1 :])).flatten(0, 1)
            for v, w in [(v, w) for v in views for w in views if chosen(v, w, len(views))]:
                terms.append((others @ z[i, v] / t).logsumexp(0) - z[i, v] @ z[i, w] / t)
        return torch.stack(terms).mean()

    return wrong


def same_view_number_only(z, t):
    """Each row's sum runs over the views with the row's own view number."""
    views = z.shape[1]
    positive = ((z @ z.mT).sum((1, 2)) - views).mean() / (views * (views - 1)) / t
    sums = [(z[:, v] @ z[:, v].T / t).fill_diagonal_(-torch.inf).logsumexp(dim=1) for v in range(views)]
    return torch.stack(sums).mean() - positive


def softmax_with(place, value=-torch.inf):
    """Row weights whose scores are set to ``value`` at ``place(i, v)``."""

    def wrong(z, i, v, t):
        scores = z @ z[i, v] / t
        scores[place(i, v)] = value
        return scores.flatten().softmax(dim=0).view_as(scores)

    return wrong


def a_softmax_per_view(z, i, v, t):
    scores = z @ z[i, v] / t
    scores[i] = -torch.inf
    return scores.softmax(dim=0) / z.shape[1]


def sums(c, y, t):
    return y.bincount(((c - c.max()) / t).exp())


WRONG = [
    (global_loss.global_loss, lambda z, t: global_contrastive_loss(z, t) * (z.shape[1] - 1) / z.shape[1]),
    (global_loss.global_loss, lambda z, t: global_contrastive_loss(z[:, :2], t)),
    (global_loss.global_loss, same_view_number_only),
    (global_loss.global_loss, pairs_chosen(lambda v, w, views: v < w)),
    (global_loss.global_loss, pairs_chosen(lambda v, w, views: w == (v + 1) % views)),
    (global_loss.global_loss, pairs_chosen(lambda v, w, views: v == 0 and w > 0)),
    (global_loss.global_loss, lambda z, t: global_contrastive_loss(z, t) * z.shape[0] * z.shape[1]),
    (global_loss.global_loss, lambda z, t: -global_contrastive_loss(z, t)),
    (global_loss.row_weights, softmax_with(lambda i, v: i, value=-10)),
    (global_loss.row_weights, softmax_with(lambda i, v: (i, slice(2)))),
    (global_loss.row_weights, softmax_with(lambda i, v: (slice(None), v))),
    (global_loss.row_weights, lambda z, i, v, t: weights(z, i, 0, t)),
    (global_loss.row_weights, lambda z, i, v, t: weights(z, i, v, t)[torch.arange(len(z)) != i]),
    (global_loss.row_weights, a_softmax_per_view),
    (global_loss.row_weights, lambda z, i, v, t: weights(z, i, v, t).log()),
    (global_loss.log_sum_from_batch, lambda s, n, t: (s / t).logsumexp(dim=0) * (2 * n - 2) / len(s)),
    (global_loss.log_sum_from_batch, lambda s, n, t: ((2 * n - 2) * (s / t).clamp(max=80).exp().mean()).log()),
    (global_loss.log_sum_from_batch, lambda s, n, t: log_sum(s, n, t) + math.log((2 * n - 3) / (2 * n - 2))),
    (global_loss.log_sum_from_batch, lambda s, n, t: log_sum(s, n, t).exp()),
    (global_loss.log_sum_from_batch, lambda s, n, t: math.log(2 * n - 2) + (s / t).max()),
]
