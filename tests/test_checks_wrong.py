"""The exercise checks reject wrong answers for which they have no sentence; one table for each chapter."""

import math

import pytest
import torch
from torch.nn import functional as F

from emc2_lite.course.checks import (
    contrastive,
    emc2,
    evaluation,
    global_loss,
    laboratory,
    memory,
    metropolis,
    runs,
    scaling,
)
from emc2_lite.evaluation import wilson
from emc2_lite.losses import global_contrastive_loss

# Chapter 01. h1 and h2 are raw embeddings, z rows of length 1, s similarities, t is the temperature.

logits = contrastive.batch_logits.reference
nt_xent = contrastive.paired_nt_xent.reference
effective = contrastive.effective_negatives.reference


def products_normalised(norm):
    """Logits of embeddings divided by ``norm(h)``."""

    def wrong(h1, h2, t):
        h = torch.cat((h1, h2))
        return (h / norm(h)) @ (h / norm(h)).T / t

    return wrong


def lower_left_block_not_transposed(h1, h2, t):
    result = logits(h1, h2, t)
    result[len(h1) :, : len(h1)] = result[: len(h1), len(h1) :]
    return result


def own_scores_out(z, t):
    return (z @ z.T / t).fill_diagonal_(-math.inf)


def one_sum_for_all_rows(z, t):
    return own_scores_out(z, t).logsumexp((0, 1)) - (z[::2] * z[1::2]).sum(1).mean() / t


def one_direction(z, t):
    return F.cross_entropy(z[::2] @ z[1::2].T / t, torch.arange(len(z) // 2))


def a_small_number_added(s, t):
    p = (s / t).softmax(0)
    return (-(p * (p + 0.001).log()).sum()).exp()


CONTRASTIVE = [
    (contrastive.batch_logits, products_normalised(lambda h: h.norm())),
    (contrastive.batch_logits, products_normalised(lambda h: h.sum(dim=1, keepdim=True))),
    (contrastive.batch_logits, lambda h1, h2, t: logits(h2, h1, t)),
    (contrastive.batch_logits, lambda h1, h2, t: logits(h1, h1, t)),
    (contrastive.batch_logits, lambda h1, h2, t: logits(h1, h2, t).softmax(dim=1)),
    (contrastive.batch_logits, lambda h1, h2, t: logits(h1, h2, t).fill_diagonal_(-math.inf)),
    (contrastive.batch_logits, lambda h1, h2, t: 2 * logits(h1, h2, t) - 2 / t),  # minus the squared distance
    (contrastive.batch_logits, lower_left_block_not_transposed),
    (contrastive.batch_logits, lambda h1, h2, t: logits(h1, h2, t).clamp_min(0)),
    (contrastive.batch_logits, lambda h1, h2, t: logits(h1, h2, t).abs()),
    (contrastive.paired_nt_xent, lambda z, t: nt_xent(z, t, own_score=-10)),
    (contrastive.paired_nt_xent, one_sum_for_all_rows),
    (contrastive.paired_nt_xent, lambda z, t: nt_xent(z, t, rows=slice(len(z) // 2))),
    (contrastive.paired_nt_xent, one_direction),
    (contrastive.paired_nt_xent, lambda z, t: F.cross_entropy(own_scores_out(z, t), torch.arange(len(z)).roll(-1))),
    (contrastive.paired_nt_xent, lambda z, t: nt_xent(z, t) * 2),
    (contrastive.paired_nt_xent, lambda z, t: nt_xent(z, t) * t),
    (contrastive.paired_nt_xent, lambda z, t: nt_xent(z, t).expand(len(z))),
    (contrastive.paired_nt_xent, lambda z, t: nt_xent(z, t) / math.log(2)),
    (contrastive.effective_negatives, lambda s, t: 2 ** effective(s, t).log()),
    (contrastive.effective_negatives, a_small_number_added),
    (contrastive.effective_negatives, lambda s, t: torch.tensor(float(len(s)))),
]

# Chapter 02.

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


GLOBAL_LOSS = [
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

# Chapter 03. u is the average and g is gamma.


def average(log_u, log_mean, g):
    return torch.logaddexp(log_u + math.log1p(-g), log_mean + math.log(g))


def average_in_float64(log_u, log_mean, g):
    u = (1 - g) * log_u.double().exp() + g * log_mean.double().exp()
    return torch.where(log_u.isneginf(), log_mean.double(), u.log())


def shares(winner):
    """The share of each view among ``winner(s, i, u)``, with -inf for the two scores of the row's own sample i."""
    return lambda s, i, u: torch.bincount(winner(left_out(s, 2 * i, 2 * i + 1), i, u), minlength=len(s)) / len(u)


def left_out(s, *places, score=-math.inf):
    return s.index_fill(0, torch.tensor(places), score)


def drawn(s, u):
    return (s - (-u.log()).log()).argmax(dim=1)


def shares_of_drawn(s, u):
    return torch.bincount(drawn(s, u), minlength=len(s)) / len(u)


MEMORY = [
    (memory.updated_average, lambda log_u, log_mean, g: log_mean),
    (memory.updated_average, lambda log_u, log_mean, g: log_u),
    (memory.updated_average, lambda log_u, log_mean, g: torch.logaddexp(log_u, log_mean)),
    (memory.updated_average, lambda log_u, log_mean, g: average(log_u.clamp_min(0), log_mean, g)),
    (memory.updated_average, lambda log_u, log_mean, g: log_mean.where(log_u == 0, average(log_u, log_mean, g))),
    (memory.updated_average, lambda log_u, log_mean, g: torch.maximum(average(log_u, log_mean, g), log_mean)),
    (
        memory.updated_average,
        lambda log_u, log_mean, g: memory.updated_average.reference(log_u, log_mean, 0.9),
    ),
    (memory.updated_average, average_in_float64),
    (
        memory.updated_average,
        lambda log_u, log_mean, g: log_mean if log_u.isneginf().any() else average(log_u, log_mean, g),
    ),
    (memory.updated_average, lambda log_u, log_mean, g: log_mean.where(log_u < -100, average(log_u, log_mean, g))),
    (
        memory.updated_average,
        lambda log_u, log_mean, g: log_mean.where(log_u == log_u.min(), average(log_u, log_mean, g)),
    ),
    (memory.average_weights, lambda s, log_u: (s - log_u - math.log(len(s) + 1)).exp()),
    (memory.average_weights, lambda s, log_u: (s - log_u) / len(s)),
    (memory.average_weights, lambda s, log_u: (log_u - s - math.log(len(s))).exp()),
    (memory.average_weights, lambda s, log_u: (s - log_u).softmax(0) / len(s)),
    (memory.average_weights, lambda s, log_u: (s - s.logsumexp(0) + math.log(len(s))).exp()),
    (memory.average_weights, lambda s, log_u: (s - log_u - math.log(len(s))).exp().clamp(max=1)),
    (memory.average_weights, lambda s, log_u: (s - log_u - math.log2(len(s))).exp()),
    (memory.average_weights, lambda s, log_u: (s - log_u).sigmoid() / len(s)),
    (memory.average_weights, lambda s, log_u: ((s - log_u).exp() / len(s)).sum()),
    (memory.cache_weights, lambda s, i, u: shares_of_drawn(left_out(s, 2 * i + 1), u)),
    (memory.cache_weights, lambda s, i, u: shares_of_drawn(left_out(s, i, i + len(s) // 2), u)),
    (memory.cache_weights, lambda s, i, u: shares_of_drawn(left_out(s, 2 * i, 2 * i + 1, score=-10), u)),
    (memory.cache_weights, lambda s, i, u: shares_of_drawn(left_out(s, 2 * i, 2 * i + 1, score=-1), u)),
    (memory.cache_weights, lambda s, i, u: shares_of_drawn(left_out(s, 2 * i, 2 * i + 1), u[:1])),
    (memory.cache_weights, lambda s, i, u: shares_of_drawn(left_out(s, 2 * i, 2 * i + 1).softmax(0), u)),
    (memory.cache_weights, shares(lambda s, i, u: (s + u).argmax(dim=1))),
    (memory.cache_weights, shares(lambda s, i, u: (s - u.log()).argmax(dim=1))),
    (memory.cache_weights, shares(lambda s, i, u: drawn(s, u).unique())),
    (memory.cache_weights, shares(lambda s, i, u: s.argmax().repeat(len(u)))),
]

# Chapter 04. u is the uniform number and e is epsilon.

matrix = metropolis.step_matrix.reference
steps = metropolis.steps_to_forget.reference


def proposals_accepted(acceptance, diagonal=lambda moves: torch.diag(1 - moves.sum(dim=1))):
    """A step matrix that accepts with ``acceptance`` of the difference of scores and has its own diagonal."""

    def wrong(s, t):
        moves = (acceptance((s - s[:, None]) / t) / len(s)).fill_diagonal_(0)
        return moves + diagonal(moves)

    return wrong


def p_max(s, t):
    return (s / t).softmax(dim=0).max().item()


METROPOLIS = [
    (metropolis.accepts, lambda new, held, t, u: False),
    (metropolis.accepts, lambda new, held, t, u: True),
    (metropolis.accepts, lambda new, held, t, u: u < math.exp(-abs(new - held) / t)),
    (metropolis.accepts, lambda new, held, t, u: (new - held) / t > math.log10(u)),
    (metropolis.accepts, lambda new, held, t, u: abs(new) / t - math.log(u) > abs(held) / t),
    (metropolis.accepts, lambda new, held, t, u: new / t - math.log(u) > held),
    (metropolis.accepts, lambda new, held, t, u: new >= held),
    (metropolis.accepts, lambda new, held, t, u: new > held or u < 0.5),
    (metropolis.accepts, lambda new, held, t, u: u < new / held),
    (metropolis.accepts, lambda new, held, t, u: u < 1 / (1 + math.exp((held - new) / t))),
    (metropolis.step_matrix, proposals_accepted(torch.sigmoid)),
    (metropolis.step_matrix, proposals_accepted(torch.exp)),
    (
        metropolis.step_matrix,
        proposals_accepted(lambda x: x.exp().clamp(max=1), lambda moves: torch.diag(1 - moves.sum(dim=0))),
    ),
    (
        metropolis.step_matrix,
        lambda s, t: F.normalize(matrix(s, t, remainder=False), p=1, dim=1),
    ),
    (metropolis.step_matrix, lambda s, t: torch.linalg.matrix_power(matrix(s, t), 2)),
    (metropolis.step_matrix, lambda s, t: ((s - s[:, None]) / t).clamp(max=0).softmax(dim=1)),
    (metropolis.step_matrix, lambda s, t: (s / t).softmax(dim=0).expand(len(s), -1)),
    (metropolis.steps_to_forget, lambda s, t, e: steps(s.clamp_min(0), t, e)),
    (metropolis.steps_to_forget, lambda s, t, e: steps(s, t, e / 2)),
    (metropolis.steps_to_forget, lambda s, t, e: steps(s, t, e, rounded=round)),
    (metropolis.steps_to_forget, lambda s, t, e: steps(s, t, e) + 1),
    (metropolis.steps_to_forget, lambda s, t, e: math.ceil(steps(s, t, e, rounded=float) / math.log(2))),
    (metropolis.steps_to_forget, lambda s, t, e: math.ceil(math.log(e) / math.log(1 - p_max(s, t)))),
    (metropolis.steps_to_forget, lambda s, t, e: math.ceil(math.log(e) / math.log1p(-math.exp(-2 / t)))),
]

# Chapter 05. b is the burn-in, w the carried-over weight, rho is reencode, u the coin.


def kept_shares(kept, m):
    return torch.bincount(kept % (m + 1), minlength=m + 1) / len(kept)


def kept(states, m, b):
    return states[math.floor(b * m) :]


EMC2 = [
    (emc2.kept_weights, lambda states, m, b: kept_shares(states[math.ceil(b * m) :], m)),
    (emc2.kept_weights, lambda states, m, b: kept_shares(kept(states, m, b), m) * len(kept(states, m, b))),
    (emc2.kept_weights, lambda states, m, b: kept_shares(kept(states, m, b).unique(), m)),
    (emc2.kept_weights, lambda states, m, b: kept_shares(kept(states, m, b), m)[:-1]),
    (emc2.kept_weights, lambda states, m, b: kept_shares(kept(states.sort().values, m, b), m)),
    (emc2.kept_weights, lambda states, m, b: kept_shares(states[: m - math.floor(b * m)], m)),
    (emc2.kept_weights, lambda states, m, b: kept_shares(states[m // 2 :], m)),
    (emc2.stored_state, lambda last, candidates, held: candidates[max(last, 0)]),
    (emc2.stored_state, lambda last, candidates, held: last),
    (emc2.stored_state, lambda last, candidates, held: (*candidates, held)[last][::-1]),
    (emc2.stored_state, lambda last, candidates, held: held if last <= 0 else candidates[last]),
    (
        emc2.stored_state,
        lambda last, candidates, held: candidates[last] if 0 <= last < len(candidates) - 1 else held,
    ),
    (emc2.stored_state, lambda last, candidates, held: held if last == -1 else candidates[min(last, 2)]),
    (emc2.stored_state, lambda last, candidates, held: held if last == -1 else sorted(candidates)[last]),
    (emc2.stored_state, lambda last, candidates, held: held if last == -1 else (candidates[last][0], held[1])),
    (emc2.dropped_variant, lambda weights, held: weights * (1 - held)),
    (
        emc2.dropped_variant,
        lambda weights, held: weights / (1 - held) if held < 1 else torch.ones_like(weights) / len(weights),
    ),
    (emc2.dropped_variant, lambda weights, held: torch.softmax(weights, 0)),
    (emc2.dropped_variant, lambda weights, held: weights + held / len(weights)),
    (emc2.dropped_variant, lambda weights, held: weights * (1 + held)),
    (emc2.dropped_variant, lambda weights, held: (weights > 0) / (weights > 0).sum().clamp_min(1)),
    (emc2.dropped_variant, lambda weights, held: weights / (1 - held + 1e-3)),
    (emc2.coin_weights, lambda w, rho, u: (rho, w - rho) if u < rho * w else (0.0, w)),
    (emc2.coin_weights, lambda w, rho, u: (1 / rho, w - 1 / rho) if u < w else (0.0, w)),
    (emc2.coin_weights, lambda w, rho, u: (1 / (rho * w), w - 1 / (rho * w)) if u < rho * w else (0.0, w)),
    (emc2.coin_weights, lambda w, rho, u: (1 / rho, w - 1 / rho) if 1 - u < rho * w else (0.0, w)),
    (emc2.coin_weights, lambda w, rho, u: (rho * w, w - rho * w)),
    (emc2.coin_weights, lambda w, rho, u: (1 / rho, 1 - 1 / rho) if u < rho * w else (0.0, 1.0)),
    (emc2.coin_weights, lambda w, rho, u: (1 / rho, 1 / rho - w) if u < rho * w else (0.0, w)),
    (emc2.coin_weights, lambda w, rho, u: (1 / rho, w - 1 / rho) if u < rho * w else (0.0, 0.0)),
]

# Chapter 06. f and s are the two runs, e is the exact gradient; b samples, n encodings, g with gradient; h is held.

bias = laboratory.squared_bias.reference
move = laboratory.many_proposals.reference


def urn(s, h):
    q = torch.cat((s, h[None])).softmax(dim=0)
    return q[:-1], q[-1]


def filled_up(weights):
    return weights, 1 - weights.sum()


LABORATORY = [
    (laboratory.squared_bias, lambda f, s, e: bias(f, s, e).abs()),
    (laboratory.squared_bias, lambda f, s, e: (f - e) @ (s - e) / (f @ s)),
    (laboratory.squared_bias, lambda f, s, e: (f - s) @ (f - s) / (e @ e)),
    (laboratory.squared_bias, lambda f, s, e: bias(f, s, e) / 2),
    (laboratory.squared_bias, lambda f, s, e: bias(f, s, e).clamp_min(0).sqrt()),
    (laboratory.squared_bias, lambda f, s, e: bias(f, s, e).clamp_min(0)),
    (laboratory.squared_bias, lambda f, s, e: (f - e) @ (s - e) / e.sum() ** 2),
    (laboratory.squared_bias, lambda f, s, e: ((f - e) / e) @ ((s - e) / e) / len(e)),
    (laboratory.relative_price, lambda b, n, g: (6 * b + n + g) / (6 * b)),
    (laboratory.relative_price, lambda b, n, g: (6 * b + 3 * g) / (6 * b)),
    (laboratory.relative_price, lambda b, n, g: 6 * b + n + 2 * g),
    (laboratory.relative_price, lambda b, n, g: (4 * b + n + g) / (4 * b)),
    (laboratory.relative_price, lambda b, n, g: max(1, (n + 2 * g) / (6 * b))),
    (laboratory.relative_price, lambda b, n, g: (6 * b + n + 2 * g) // (6 * b)),
    (laboratory.relative_price, lambda b, n, g: 1 + (3 * n - g) / (6 * b)),
    (laboratory.many_proposals, lambda s, h: move(s, h)[::-1]),
    (laboratory.many_proposals, lambda s, h: torch.cat((move(s, h)[0], move(s, h)[1][None]))),
    (laboratory.many_proposals, lambda s, h: move(s, -h)),
    (laboratory.many_proposals, lambda s, h: filled_up((s - h).exp().clamp(max=1) / len(s))),
    (laboratory.many_proposals, lambda s, h: filled_up(urn(s, h)[0] / (1 - urn(s, h)[0]))),
    (laboratory.many_proposals, lambda s, h: (move(s, h)[0], 1 - move(s, h)[1])),
    (laboratory.many_proposals, lambda s, h: filled_up(move(s, h)[0] / move(s, h)[0].sum())),
    (laboratory.many_proposals, lambda s, h: filled_up(torch.minimum(*torch.broadcast_tensors(*urn(s, h))))),
]

# Chapter 07.


def cosine(x):
    return (1 + math.cos(math.pi * x)) / 2


def falling(shape, end=0):
    """A rate that rises in the warm-up, then is ``shape`` of the share of the steps up to ``total - end``."""
    return lambda step, warmup, total: (
        (step + 1) / warmup if step < warmup else shape((step - warmup) / (total - end - warmup))
    )


def length(gradients):
    return torch.cat([gradient.flatten() for gradient in gradients]).norm().item()


def scaled(share):
    return lambda gradients, most: [share(gradients, most) * gradient for gradient in gradients]


def power(size, largest=65504, rounded=math.floor):
    """The scale for a tensor whose size is ``size(gradient)``."""
    return lambda gradient: 2.0 ** rounded(math.log2(largest / size(gradient).item()))


def largest(gradient):
    return gradient.abs().max()


RUNS = [
    (runs.rate_share, lambda step, warmup, total: 1.0),
    (runs.rate_share, lambda step, warmup, total: cosine(step / total)),
    (runs.rate_share, falling(lambda x: 1.0)),
    (runs.rate_share, lambda step, warmup, total: min(1.0, (step + 1) / max(warmup, 1))),
    (runs.rate_share, falling(lambda x: 1 - x * x * (3 - 2 * x))),
    (runs.rate_share, falling(lambda x: math.cos(math.pi * x / 2))),
    (runs.rate_share, falling(lambda x: 1 - x if x < 0.9 else cosine(x))),
    (runs.rate_share, lambda step, warmup, total: min(1, (step + 1) / max(warmup, 1)) * cosine(step / total)),
    (runs.rate_share, falling(cosine, end=1)),
    (runs.clipped, scaled(lambda gradients, most: most if length(gradients) > most else 1)),
    (runs.clipped, scaled(lambda gradients, most: most / length(gradients) if length(gradients) > 1 else 1)),
    (runs.clipped, lambda gradients, most: runs.clipped.reference(gradients, most)[:3]),
    (runs.clipped, scaled(lambda gradients, most: min(1, most / length(gradients) ** 2))),
    (runs.clipped, scaled(lambda gradients, most: min(1, most / length(gradients[:-1])))),
    (runs.clipped, scaled(lambda gradients, most: most)),
    (runs.clipped, lambda gradients, most: gradients),
    (runs.clipped, lambda gradients, most: [g / max(1.0, g.abs().max().item() / most) for g in gradients]),
    (runs.clipped, lambda gradients, most: torch.cat([gradient.flatten() for gradient in gradients])),
    (runs.largest_scale, lambda gradient: 65536.0),
    (runs.largest_scale, power(lambda gradient: gradient.abs().sum())),
    (runs.largest_scale, power(lambda gradient: gradient.min().abs().clamp_min(1e-9))),
    (runs.largest_scale, power(lambda gradient: gradient.flatten()[:2].abs().max())),
    (runs.largest_scale, lambda gradient: max(1.0, power(largest)(gradient))),
    (runs.largest_scale, lambda gradient: min(2.0**24, power(largest)(gradient))),
    (runs.largest_scale, lambda gradient: 2.0 ** (15 - math.floor(math.log2(largest(gradient))))),
    (runs.largest_scale, power(largest, largest=65536)),
    (runs.largest_scale, power(lambda gradient: gradient.abs().mean())),
    (runs.largest_scale, power(largest, rounded=math.ceil)),
]

# Chapter 08. k of n successes; c are cosines and y labels; a and b say which images two encoders classify correctly.


def first_largest(score):
    """The class with the largest sum of ``score(c / t)``; among equal sums, the class of the nearest neighbour."""

    def wrong(c, y, t):
        total = dict.fromkeys(y.tolist(), 0.0)
        for label, weight in zip(y.tolist(), score(c / t).tolist(), strict=True):
            total[label] += weight
        return max(total, key=total.get)

    return wrong


def sums(c, y, t):
    return y.bincount(((c - c.max()) / t).exp())


def difference(a, b):
    return a.double() - b.double()


def reach(a, b):
    return 1.96 * difference(a, b).std() / len(a) ** 0.5


def part(rows, rank, size):
    return rows.chunk(size)[rank]


positives = scaling.positive_columns.reference


def clip(i, c, t):
    return F.cross_entropy(i @ c.T / t, torch.arange(len(i)))


SCALING = [
    (scaling.gathered_gradient, lambda g, r: part(sum(g), len(g) - 1 - r, len(g))),
    (scaling.gathered_gradient, lambda g, r: part(sum(g), r, len(g)) / len(g) ** 0.5),
    (scaling.gathered_gradient, lambda g, r: part(sum(g[: r + 1]), r, len(g))),
    (scaling.gathered_gradient, lambda g, r: part(g[0], r, len(g))),
    (scaling.gathered_gradient, lambda g, r: sum(g)[r :: len(g)]),
    (scaling.gathered_gradient, lambda g, r: part(torch.stack(g).amax(0), r, len(g))),
    (scaling.gathered_gradient, lambda g, r: part(torch.stack(g).median(0).values, r, len(g))),
    (scaling.positive_columns, lambda n, r, k: torch.arange(2 * n) + r * n),
    (scaling.positive_columns, lambda n, r, k: torch.cat((r + k * torch.arange(n) + n * k, r + k * torch.arange(n)))),
    (scaling.positive_columns, lambda n, r, k: (torch.arange(2 * n) + n) % (2 * n)),
    (
        scaling.positive_columns,
        lambda n, r, k: torch.arange(2 * n).roll(n) + r * n + 1,
    ),
    (
        scaling.positive_columns,
        lambda n, r, k: positives(n, r, k).flip(0),
    ),
    (scaling.clip_loss, lambda i, c, t: clip(torch.cat((i, c)), torch.cat((c, i)), t)),
    (scaling.clip_loss, lambda i, c, t: -(i * c).sum(1).mean() / t),
    (scaling.clip_loss, lambda i, c, t: (clip(i, c, t) * clip(c, i, t)).sqrt()),
    (scaling.clip_loss, lambda i, c, t: (clip(i, c.flip(0), t) + clip(c, i.flip(0), t)) / 2),
    (scaling.clip_loss, lambda i, c, t: (clip(i, c, t**0.5) + clip(c, i, t**0.5)) / 2),
    (scaling.clip_loss, lambda i, c, t: (i @ c.T / t).softmax(1).diag().log().mean()),
]
EVALUATION = [
    (evaluation.score_interval, lambda k, n: (0.0, 1.0)),
    (evaluation.score_interval, lambda k, n: (k / n, k / n)),
    (evaluation.score_interval, lambda k, n: (max(0, k / n - 1 / n**0.5), k / n)),
    (evaluation.score_interval, lambda k, n: wilson(k + 2, n + 4)[1:]),
    (evaluation.score_interval, lambda k, n: wilson(k, n)[:0:-1]),
    (evaluation.score_interval, lambda k, n: wilson(k, n, 0.9)[1:]),
    (evaluation.score_interval, lambda k, n: wilson(k, n, 0.9545)[1:]),
    (evaluation.score_interval, lambda k, n: tuple(round(bound, 3) for bound in wilson(k, n)[1:])),
    (evaluation.vote, lambda c, y, t: y[0]),
    (evaluation.vote, lambda c, y, t: sums(c, y, t).max()),
    (evaluation.vote, lambda c, y, t: sums(c[:3], y[:3], t).argmax()),
    (evaluation.vote, lambda c, y, t: sums(c.abs(), y, t).argmax()),
    (evaluation.vote, lambda c, y, t: sums(c, y, t**0.5).argmax()),
    (evaluation.vote, lambda c, y, t: sums(c, y, 0.07).argmax()),
    (evaluation.vote, first_largest(lambda scores: scores.exp())),
    (evaluation.vote, first_largest(lambda scores: scores.double().exp())),
    (evaluation.vote, lambda c, y, t: y.bincount((c / t).clamp(max=80).exp()).argmax()),
    (evaluation.vote, lambda c, y, t: y.max()),
    (evaluation.vote, lambda c, y, t: y[c.argmin()]),
    (evaluation.paired_difference, lambda a, b: (difference(a, b).clamp_min(0).mean(), reach(a, b))),
    (
        evaluation.paired_difference,
        lambda a, b: (difference(a, b).mean(), 1.96 * (a ^ b).double().std() / len(a) ** 0.5),
    ),
    (
        evaluation.paired_difference,
        lambda a, b: (difference(a, b).mean(), 1.96 * ((a ^ b).double().mean() / len(a)) ** 0.5),
    ),
    (evaluation.paired_difference, lambda a, b: (difference(a, b).mean(), -reach(a, b))),
    (evaluation.paired_difference, lambda a, b: (difference(a, b).mean() - reach(a, b), reach(a, b))),
    (evaluation.paired_difference, lambda a, b: difference(a, b).mean()),
    (evaluation.paired_difference, lambda a, b: ((a ^ b).float().mean(), (a ^ b).float().std())),
    (evaluation.paired_difference, lambda a, b: (difference(a, b).sum(), difference(a, b).std() * 1.96)),
]

WRONG = [*CONTRASTIVE, *GLOBAL_LOSS, *MEMORY, *METROPOLIS, *EMC2, *LABORATORY, *RUNS, *EVALUATION, *SCALING]


@pytest.mark.parametrize(("exercise", "wrong"), WRONG, ids=lambda value: getattr(value, "name", ""))
def test_a_wrong_answer_without_a_sentence_is_rejected(exercise, wrong):
    said = exercise.verdict(wrong)
    assert said.startswith("not yet: ") and "your function raises" not in said
    assert not any(said.startswith(f"not yet: {sentence.rstrip('.')}.") for sentence in exercise.mistakes)
