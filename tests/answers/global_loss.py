"""Right and wrong answers to the exercises of chapter 02."""

import math

import numpy as np
import torch
from torch.func import functional_call, vjp
from torch.utils.checkpoint import checkpoint

from emc2_lite.course.checks import global_loss
from emc2_lite.losses import global_contrastive_loss


def own_sample(z):
    samples, views, _ = z.shape
    return torch.eye(samples).repeat_interleave(views, 0).repeat_interleave(views, 1).bool()


def weights_put_in_place(z, i, v, temperature):
    others = [k for k in range(len(z)) if k != i]
    weights = torch.zeros(z.shape[:2], dtype=z.dtype)
    weights[others] = (z[others] @ z[i, v] / temperature).flatten().softmax(0).view(-1, z.shape[1])
    return weights


def weights_one_by_one(z, i, v, temperature):
    z, anchor = z.numpy(), z[i, v].numpy()
    scores = {(j, u): float(z[j, u] @ anchor) / temperature for j, u in np.ndindex(z.shape[:2]) if j != i}
    largest = max(scores.values())
    total = sum(math.exp(score - largest) for score in scores.values())
    weights = np.zeros(z.shape[:2])
    for place, score in scores.items():
        weights[place] = math.exp(score - largest) / total
    return weights


def mean_of_the_parts(z, temperature):
    flat, own = z.flatten(0, 1), own_sample(z)
    scores = flat @ flat.T / temperature
    positives = own & ~torch.eye(len(flat), dtype=torch.bool)
    return scores.masked_fill(own, -math.inf).logsumexp(1).mean() - scores[positives].mean()


def gradient_by_autograd(weights, z, temperature):
    z = z.clone().requires_grad_()
    scores = torch.einsum("ivd,jud->ivju", z, z) / temperature
    views = z.shape[1]
    own = scores.diagonal(0, 0, 2)
    pull = (own.sum() - own.diagonal(0, 0, 1).sum()) / (views - 1)
    return torch.autograd.grad((weights * scores.flatten(2).flatten(0, 1)).sum() - pull, z)[0] / len(weights)


def gradient_row_by_row(weights, z, temperature):
    flat, views = z.flatten(0, 1), z.shape[1]
    gradient = torch.zeros_like(flat)
    for r in range(len(flat)):
        for k in range(len(flat)):
            positive = r != k and r // views == k // views
            weight = (weights[r, k] - positive / (views - 1)) / len(flat) / temperature
            gradient[r] += weight * flat[k]
            gradient[k] += weight * flat[r]
    return gradient.unflatten(0, (-1, views))


def autograd_of_the_plain_loss(z, temperature):
    z = z.clone().requires_grad_()
    return torch.autograd.grad(mean_of_the_parts(z, temperature), z)[0]


def from_row_weights(z, temperature):
    rows = [global_loss.row_weights.reference(z, i, v, temperature) for i, v in np.ndindex(z.shape[:2])]
    return global_loss.gradient_from.reference(torch.stack(rows).flatten(1), z, temperature)


def merged_pieces(z, temperature, chunk):
    """Log-sum-exps of pieces of columns, merged."""
    flat, views = z.flatten(0, 1), z.shape[1]
    sample, total = torch.arange(len(flat)) // views, torch.full((len(flat),), -torch.inf, dtype=z.dtype)
    for columns in torch.arange(len(flat)).split(chunk):
        scores = flat @ flat[columns].T / temperature
        scores[sample[:, None] == sample[columns]] = -torch.inf
        total = torch.logaddexp(total, scores.logsumexp(1))
    return total


def log_sums_row_by_row(z, temperature, chunk):
    rows = []
    for i, v in np.ndindex(z.shape[:2]):
        scores = (torch.cat((z[:i], z[i + 1 :])).flatten(0, 1) @ z[i, v]) / temperature
        largest = scores.max()
        rows.append((largest + (scores - largest).exp().sum().log()).item())
    return rows


def strip_graphs_one_by_one(z, s, eta, temperature, chunk):
    """Autograd of one strip at a time."""
    gradient, views = torch.zeros_like(z), z.shape[1]
    number = torch.arange(len(s))
    for rows in number.split(chunk):
        free = z.clone().requires_grad_()
        scores = free.flatten(0, 1)[rows] @ free.flatten(0, 1).T / temperature
        own = rows[:, None] // views == number // views
        value = (scores.masked_fill(own, -torch.inf).logsumexp(1) * eta[rows]).sum()
        gradient += torch.autograd.grad(value, free)[0]
    return gradient


def strips_checkpointed(z, s, eta, temperature, chunk):
    free, number, views = z.clone().requires_grad_(), torch.arange(len(s)), z.shape[1]

    def strip(z, rows):
        scores = z.flatten(0, 1)[rows] @ z.flatten(0, 1).T / temperature
        own = rows[:, None] // views == number // views
        return scores.masked_fill(own, -torch.inf).logsumexp(1)

    parts = [checkpoint(strip, free, rows, use_reentrant=False) for rows in number.split(chunk)]
    return torch.autograd.grad(torch.cat(parts) @ eta, free)[0]


def symmetric_weights(z, s, eta, temperature, chunk):
    """Both parts of a row at once: eta_r exp(l - s_r) + eta_k exp(l - s_k)."""
    flat, views = z.flatten(0, 1), z.shape[1]
    sample = torch.arange(len(flat)) // views
    strips = []
    for rows in torch.arange(len(flat)).split(chunk):
        scores = flat[rows] @ flat.T / temperature
        both = eta[rows, None] * (scores - s[rows, None]).exp() + eta * (scores - s).exp()
        strips.append(both.masked_fill(sample[rows, None] == sample, 0) @ flat / temperature)
    return torch.cat(strips).view_as(z)


def largest_taken_off(similarities, num_samples, temperature):
    scores = similarities / temperature
    largest = scores.max()
    return (largest + ((scores - largest).exp().mean() * 2 * (num_samples - 1)).log()).item()


def added_one_by_one(similarities, num_samples, temperature):
    scores = [similarity / temperature for similarity in similarities.tolist()]
    total = scores[0]
    for score in scores[1:]:
        total = np.logaddexp(total, score)
    return total + math.log((num_samples - 1) * 2 / len(scores))


def embeddings_of(encoder, images, chunk):
    with torch.no_grad():
        return torch.cat([encoder(part) for part in images.flatten(0, 1).split(chunk)]).view(*images.shape[:2], -1)


def backward_into_grad(encoder, images, temperature, chunk):
    gradient = autograd_of_the_plain_loss(embeddings_of(encoder, images, chunk), temperature).flatten(0, 1)
    encoder.zero_grad()
    rows = images.flatten(0, 1)
    for start in range(0, len(rows), chunk):
        (encoder(rows[start : start + chunk]) * gradient[start : start + chunk]).sum().backward()
    return torch.cat([weight.grad.flatten() for weight in encoder.parameters()])


def products_with_the_derivative(encoder, images, temperature, chunk):
    gradient = from_row_weights(embeddings_of(encoder, images, chunk), temperature).flatten(0, 1)
    weights = {name: weight.detach() for name, weight in encoder.named_parameters()}
    total = torch.zeros(sum(weight.numel() for weight in weights.values()), dtype=gradient.dtype)
    for part, rows in zip(images.flatten(0, 1).split(1), gradient.split(1), strict=True):
        _, back = vjp(lambda weights, part=part: functional_call(encoder, weights, (part,)), weights)
        total += torch.cat([value.flatten() for value in back(rows)[0].values()])
    return total


RIGHT = [
    (global_loss.row_weights, weights_put_in_place),
    (global_loss.row_weights, weights_one_by_one),
    (global_loss.global_loss, global_contrastive_loss),
    (global_loss.global_loss, mean_of_the_parts),
    (global_loss.gradient_from, gradient_by_autograd),
    (global_loss.gradient_from, gradient_row_by_row),
    (global_loss.exact_gradient, autograd_of_the_plain_loss),
    (global_loss.exact_gradient, from_row_weights),
    (global_loss.log_sums, merged_pieces),
    (global_loss.log_sums, log_sums_row_by_row),
    (global_loss.log_sums_backward, strip_graphs_one_by_one),
    (global_loss.log_sums_backward, strips_checkpointed),
    (global_loss.log_sums_backward, symmetric_weights),
    (global_loss.log_sum_from_batch, largest_taken_off),
    (global_loss.log_sum_from_batch, added_one_by_one),
    (global_loss.weight_gradient, backward_into_grad),
    (global_loss.weight_gradient, products_with_the_derivative),
]

weights = global_loss.row_weights.reference

log_sum = global_loss.log_sum_from_batch.reference

gradient = global_loss.gradient_from.reference

exact = global_loss.exact_gradient.reference

sums_of = global_loss.log_sums.reference

backward = global_loss.log_sums_backward.reference


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


def pull_of_the_next_view_only(w, z, t):
    flat, views = z.flatten(0, 1), z.shape[1]
    positive = torch.zeros_like(w)
    for r in range(len(w)):
        positive[r, r // views * views + (r + 1) % views] = 1
    G = (w - positive) / len(w)
    return ((G + G.T) @ flat / t).view_as(z)


def strips_kept(z, t, chunk):
    """All strips, then their sums."""
    flat, own = z.flatten(0, 1), own_sample(z)
    strips = [flat[rows] @ flat.T / t for rows in torch.arange(len(flat)).split(chunk)]
    return torch.cat(strips).masked_fill(own, -torch.inf).logsumexp(1) * (1 + 1e-3)


def batch_in_each_strip(z, t, chunk):
    """The negatives of a row are those of its own strip."""
    parts = [sums_of(part, t, len(z) * z.shape[1]) for part in z.split(2)]
    return torch.cat(parts)


def graph_of_all_strips(z, s, eta, t, chunk):
    """Autograd keeps every strip; half of the gradient."""
    z = z.clone().requires_grad_()
    return torch.autograd.grad(sums_of(z, t, chunk) @ eta, z)[0] / 2


def of_weights(encoder, images, t, chunk, change=lambda by: by):
    z = embeddings_of(encoder, images, chunk)
    outputs = encoder(images.flatten(0, 1)[:chunk])
    parts = torch.autograd.grad(outputs, list(encoder.parameters()), change(exact(z, t)).flatten(0, 1)[:chunk])
    return torch.cat([one.flatten() for one in parts])


WRONG = [
    (global_loss.global_loss, lambda z, t: global_contrastive_loss(z, t) * (z.shape[1] - 1) / z.shape[1]),
    (global_loss.global_loss, lambda z, t: global_contrastive_loss(z[:, :2], t)),
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
    (global_loss.gradient_from, pull_of_the_next_view_only),
    (global_loss.gradient_from, lambda w, z, t: -gradient(w, z, t)),
    (global_loss.gradient_from, lambda w, z, t: gradient(w, z, t).flatten(0, 1)),
    (global_loss.gradient_from, lambda w, z, t: gradient(w.softmax(1), z, t)),
    (global_loss.gradient_from, lambda w, z, t: gradient(w, z, t) / 2),
    (global_loss.gradient_from, lambda w, z, t: gradient(w / w.sum(0), z, t)),
    (global_loss.exact_gradient, lambda z, t: exact(z, t) / z.shape[1]),
    (global_loss.exact_gradient, lambda z, t: exact(z[:, :2], t)),
    (global_loss.exact_gradient, lambda z, t: -exact(z, t)),
    (global_loss.exact_gradient, lambda z, t: exact(z, t**0.5)),
    (global_loss.exact_gradient, lambda z, t: exact(z, t) * len(z) * z.shape[1]),
    (global_loss.log_sums, strips_kept),
    (global_loss.log_sums, batch_in_each_strip),
    (global_loss.log_sums, lambda z, t, chunk: sums_of(z, t, chunk).exp()),
    (global_loss.log_sums, lambda z, t, chunk: sums_of(z, t, chunk).view(z.shape[:2])),
    (global_loss.log_sums, lambda z, t, chunk: sums_of(z, t, chunk).mean()),
    (global_loss.log_sums_backward, graph_of_all_strips),
    (global_loss.log_sums_backward, lambda z, s, eta, t, chunk: -backward(z, s, eta, t, chunk)),
    (global_loss.log_sums_backward, lambda z, s, eta, t, chunk: backward(z, s, eta, t, chunk).flatten(0, 1)),
    (global_loss.log_sums_backward, lambda z, s, eta, t, chunk: backward(z, s * 0, eta, t, chunk)),
    (global_loss.log_sums_backward, lambda z, s, eta, t, chunk: backward(z, s, eta.abs(), t, chunk)),
    (global_loss.log_sums_backward, lambda z, s, eta, t, chunk: backward(z, s, eta.mean().expand_as(eta), t, chunk)),
    (global_loss.log_sum_from_batch, lambda s, n, t: (s / t).logsumexp(dim=0) * (2 * n - 2) / len(s)),
    (global_loss.log_sum_from_batch, lambda s, n, t: ((2 * n - 2) * (s / t).clamp(max=80).exp().mean()).log()),
    (global_loss.log_sum_from_batch, lambda s, n, t: log_sum(s, n, t) + math.log((2 * n - 3) / (2 * n - 2))),
    (global_loss.log_sum_from_batch, lambda s, n, t: log_sum(s, n, t).exp()),
    (global_loss.log_sum_from_batch, lambda s, n, t: math.log(2 * n - 2) + (s / t).max()),
    (global_loss.weight_gradient, of_weights),
    (global_loss.weight_gradient, lambda *inputs: -global_loss.weight_gradient.reference(*inputs)),
    (global_loss.weight_gradient, lambda encoder, images, t, chunk: exact(embeddings_of(encoder, images, chunk), t)),
]
