"""Right and wrong answers to the exercises of chapter 01.

Letters: raw embeddings h1 and h2, rows z of length 1, similarities s, temperature t.
"""

import math

import numpy as np
import torch
from torch.nn import functional as F

from emc2_lite.course.checks import contrastive
from emc2_lite.losses import NTXentLoss


def cosines_one_by_one(h1, h2, temperature):
    rows = [*h1, *h2]
    return [[(F.cosine_similarity(r, k, dim=0) / temperature).item() for k in rows] for r in rows]


def divided_by_lengths(h1, h2, temperature):
    h = np.concatenate([h1.numpy(), h2.numpy()])
    lengths = np.sqrt((h**2).sum(1))
    return h @ h.T / np.outer(lengths, lengths) / temperature


def row_by_row(z1, z2, temperature):
    rows, b, losses = [*z1, *z2], len(z1), []
    for r, anchor in enumerate(rows):
        scores = torch.stack([anchor @ row / temperature for k, row in enumerate(rows) if k != r])
        losses.append(scores.logsumexp(0) - anchor @ rows[(r + b) % (2 * b)] / temperature)
    return sum(losses) / len(losses)


def of_the_library(z1, z2, temperature):
    return NTXentLoss(temperature)(z1, z2, torch.arange(len(z1)))


def masked_by_position(z, temperature):
    scores = z @ z.T / temperature
    rows, eye = torch.arange(len(z)), torch.eye(len(z), dtype=torch.bool)
    positive = scores[rows, rows ^ 1]
    negatives = scores.masked_fill(eye | eye[rows ^ 1], -math.inf)
    return (torch.cat((positive[:, None], negatives), dim=1).logsumexp(dim=1) - positive).mean()


def marked_by_minus_infinity(z, temperature):
    scores = z @ z.T / temperature
    rows = torch.arange(len(z))
    positive = scores[rows, rows ^ 1]
    scores[rows, rows ^ 1] = scores[rows, rows] = -math.inf
    return (torch.cat((positive[:, None], scores), dim=1).logsumexp(dim=1) - positive).mean()


def in_the_other_order(z, temperature):
    return of_the_library(z[::2], z[1::2], temperature)


def forces_one_by_one(anchor, positive, negatives, temperature):
    scores = [float(anchor @ other) / temperature for other in (positive, *negatives)]
    total = sum(math.exp(score) for score in scores)
    shares = [math.exp(score) / total for score in scores]
    return (1 - shares[0]) * positive, [share * other for share, other in zip(shares[1:], negatives, strict=True)]


def forces_by_autograd(anchor, positive, negatives, temperature):
    scores = torch.cat((positive[None], negatives)) @ anchor / temperature
    scores.requires_grad_()
    (slope,) = torch.autograd.grad(F.cross_entropy(scores[None], torch.tensor([0])), scores)
    return -slope[0] * positive, torch.einsum("k,kd->kd", slope[1:], negatives)


def gradient_by_autograd(z, temperature):
    z = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(of_the_library(*z.chunk(2), temperature), z)
    return gradient


def gradient_pair_by_pair(z, temperature):
    count, gradient = len(z), torch.zeros_like(z)
    for r in range(count):
        others = [k for k in range(count) if k != r]
        shares = (z[others] @ z[r] / temperature).softmax(0)
        for k, share in zip(others, shares, strict=True):
            slope = (share - float(k == (r + count // 2) % count)) / count / temperature
            gradient[r] += slope * z[k]
            gradient[k] += slope * z[r]
    return gradient


def with_an_optimiser(encoder, batches, temperature, learning_rate):
    optimiser = torch.optim.SGD(encoder.parameters(), lr=learning_rate)
    losses = []
    for first, second in batches:
        optimiser.zero_grad()
        z1, z2 = (h / h.norm(dim=1, keepdim=True) for h in (encoder(first), encoder(second)))
        loss = of_the_library(z1, z2, temperature)
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def both_views_at_once(encoder, batches, temperature, learning_rate):
    weights, losses = list(encoder.parameters()), []
    for views in batches:
        z1, z2 = F.normalize(encoder(torch.cat(views)), dim=1).chunk(2)
        loss = row_by_row(z1, z2, temperature)
        for weight, slope in zip(weights, torch.autograd.grad(loss, weights), strict=True):
            weight.data.sub_(slope, alpha=learning_rate)
        losses.append(loss)
    return losses


RIGHT = [
    (contrastive.batch_logits, cosines_one_by_one),
    (contrastive.batch_logits, divided_by_lengths),
    (contrastive.nt_xent, row_by_row),
    (contrastive.nt_xent, of_the_library),
    (contrastive.paired_nt_xent, masked_by_position),
    (contrastive.paired_nt_xent, marked_by_minus_infinity),
    (contrastive.paired_nt_xent, in_the_other_order),
    (contrastive.row_forces, forces_one_by_one),
    (contrastive.row_forces, forces_by_autograd),
    (contrastive.nt_xent_gradient, gradient_by_autograd),
    (contrastive.nt_xent_gradient, gradient_pair_by_pair),
    (contrastive.effective_negatives, lambda s, t: 2 ** (torch.special.entr((s / t).softmax(0)).sum() / math.log(2))),
    (
        contrastive.effective_negatives,
        lambda s, t: torch.distributions.Categorical(logits=s.double() / t).entropy().exp().item(),
    ),
    (contrastive.simclr, with_an_optimiser),
    (contrastive.simclr, both_views_at_once),
]

logits = contrastive.batch_logits.reference

nt_xent = contrastive.nt_xent.reference

paired = contrastive.paired_nt_xent.reference

flagged = contrastive.paired_nt_xent.mistakes["The bug is still in it"]

forces = contrastive.row_forces.reference

gradient = contrastive.nt_xent_gradient.reference

effective = contrastive.effective_negatives.reference

simclr = contrastive.simclr.reference


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


def one_sum_for_all_rows(z1, z2, t):
    return own_scores_out(torch.cat((z1, z2)), t).logsumexp((0, 1)) - (z1 * z2).sum(1).mean() / t


def tangents(anchor, positive, negatives, t):
    pull, pushes = forces(anchor, positive, negatives, t)
    return pull - (pull @ anchor) * anchor, pushes - (pushes @ anchor)[:, None] * anchor


def gradient_on_the_sphere(z, t):
    free = gradient(z, t)
    return free - (free * z).sum(1, keepdim=True) * z


def a_small_number_added(s, t):
    p = (s / t).softmax(0)
    return (-(p * (p + 0.001).log()).sum()).exp()


def one_step_only(encoder, batches, t, rate):
    return simclr(encoder, batches[:1], t, rate) * len(batches)


def without_the_last_step(encoder, batches, t, rate):
    losses = simclr(encoder, batches[:-1], t, rate)
    return [*losses, simclr(encoder, batches[-1:], t, 0.0)[0]]


def only_the_matrix(encoder, batches, t, rate):
    """The bias stays where it was."""
    bias = None if encoder.bias is None else encoder.bias.detach().clone()
    losses = []
    for batch in batches:
        losses += simclr(encoder, [batch], t, rate)
        if bias is not None:
            encoder.bias.data.copy_(bias)
    return losses


WRONG = [
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
    (contrastive.nt_xent, lambda z1, z2, t: nt_xent(z1, z2, t, own_score=-10)),
    (contrastive.nt_xent, one_sum_for_all_rows),
    (contrastive.nt_xent, lambda z1, z2, t: nt_xent(z1, z2, t, rows=slice(len(z1), None))),
    (contrastive.nt_xent, lambda z1, z2, t: F.cross_entropy(z1 @ z2.T / t, torch.arange(len(z1)))),
    (contrastive.nt_xent, lambda z1, z2, t: nt_xent(z1, z2, t, partner=lambda count: torch.arange(count).roll(-1))),
    (contrastive.nt_xent, lambda z1, z2, t: nt_xent(z1, z2, t) * 2),
    (contrastive.nt_xent, lambda z1, z2, t: nt_xent(z1, z2, t) * t),
    (contrastive.nt_xent, lambda z1, z2, t: nt_xent(z1, z2, t) / math.log(2)),
    (contrastive.nt_xent, lambda z1, z2, t: nt_xent(z1, z2, t).expand(2 * len(z1))),
    (contrastive.paired_nt_xent, lambda z, t: paired(z, t, own_score=-10)),
    (contrastive.paired_nt_xent, lambda z, t: flagged(z, t, flag=-10.0)),
    (contrastive.paired_nt_xent, lambda z, t: paired(z, t, rows=slice(len(z) // 2))),
    (contrastive.paired_nt_xent, lambda z, t: paired(z, t) * 2),
    (contrastive.paired_nt_xent, lambda z, t: paired(z, t) * t),
    (contrastive.paired_nt_xent, lambda z, t: paired(z, t).expand(len(z))),
    (contrastive.row_forces, tangents),
    (contrastive.row_forces, lambda a, p, n, t: (forces(a, p, n, t)[0] - forces(a, p, n, t)[1].sum(0), n)),
    (contrastive.row_forces, lambda a, p, n, t: (forces(a, p, n, t)[0], forces(a, p, n, t)[1] / len(n))),
    (contrastive.row_forces, lambda a, p, n, t: (-forces(a, p, n, t)[0], -forces(a, p, n, t)[1])),
    (contrastive.nt_xent_gradient, gradient_on_the_sphere),
    (contrastive.nt_xent_gradient, lambda z, t: gradient(z, t) / t),
    (contrastive.nt_xent_gradient, lambda z, t: gradient(z, t) / 2),
    (contrastive.nt_xent_gradient, lambda z, t: gradient(z, t, own_score=0)),
    (contrastive.nt_xent_gradient, lambda z, t: gradient(z, t).sum(0)),
    (contrastive.effective_negatives, lambda s, t: 2 ** effective(s, t).log()),
    (contrastive.effective_negatives, a_small_number_added),
    (contrastive.effective_negatives, lambda s, t: torch.tensor(float(len(s)))),
    (contrastive.simclr, one_step_only),
    (contrastive.simclr, without_the_last_step),
    (contrastive.simclr, only_the_matrix),
    (contrastive.simclr, lambda encoder, batches, t, rate: simclr(encoder, batches, t, rate)[-1]),
    (contrastive.simclr, lambda encoder, batches, t, rate: simclr(encoder, batches[::-1], t, rate)[::-1]),
]
