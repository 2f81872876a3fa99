"""Right and wrong answers to the exercises of chapter 01.

Letters: raw embeddings h1 and h2, rows z of length 1, similarities s, temperature t.
"""

import math

import torch
from torch.nn import functional as F

from emc2_lite.course.checks import contrastive


def cosines_one_by_one(h1, h2, temperature):
    rows = [*h1, *h2]
    return [[(F.cosine_similarity(r, k, dim=0) / temperature).item() for k in rows] for r in rows]


def shares_of_exponentials(z, temperature):
    scores = (z @ z.T / temperature).exp()
    rows = torch.arange(len(z))
    return -(scores[rows, rows ^ 1] / (scores.sum(1) - scores.diag())).log().mean()


RIGHT = [
    (contrastive.batch_logits, cosines_one_by_one),
    (contrastive.paired_nt_xent, shares_of_exponentials),
    (contrastive.effective_negatives, lambda s, t: 2 ** (torch.special.entr((s / t).softmax(0)).sum() / math.log(2))),
    (
        contrastive.effective_negatives,
        lambda s, t: torch.distributions.Categorical(logits=s.double() / t).entropy().exp().item(),
    ),
]

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
