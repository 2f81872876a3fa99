"""Right and wrong answers to the exercises of chapter 06.

Letters: runs f and s, exact gradient e; b samples, n encodings, g with gradient; held score h.
"""

import torch

from emc2_lite.course.checks import laboratory
from emc2_lite.sampling import multiproposal


def proposed_and_accepted(scores, held_score):
    """Propose by q without the state held, then accept, one proposal after the other."""
    *q, held = torch.cat((scores, held_score[None])).double().softmax(0).tolist()
    weights = [x / (1 - held) * (min(1, (1 - held) / (1 - x)) if x < 1 else 1) for x in q]
    return weights, 1 - sum(weights)


RIGHT = [
    (laboratory.squared_bias, lambda first, second, e: sum((first - e) * (second - e)) / e.norm() ** 2),
    (laboratory.relative_price, lambda b, encoded, with_gradient: 1 + (encoded + 2 * with_gradient) / 6 / b),
    (laboratory.many_proposals, proposed_and_accepted),
    (laboratory.many_proposals, lambda s, h: tuple(part[0] for part in multiproposal(s[None], h[None])[:2])),
]


bias = laboratory.squared_bias.reference

move = laboratory.many_proposals.reference


def urn(s, h):
    q = torch.cat((s, h[None])).softmax(dim=0)
    return q[:-1], q[-1]


def filled_up(weights):
    return weights, 1 - weights.sum()


WRONG = [
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
