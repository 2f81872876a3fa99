"""Right and wrong answers to the exercises of chapter 09."""

import torch
from torch.nn import functional as F

from emc2_lite.course.checks import scaling


def both_sides_at_once(images, captions, temperature):
    scores = images @ captions.T / temperature
    return (scores.logsumexp(0) + scores.logsumexp(1) - 2 * scores.diag()).mean() / 2


RIGHT = [
    (scaling.gathered_gradient, lambda gradients, rank: torch.stack(gradients).sum(0).chunk(len(gradients))[rank]),
    (scaling.gathered_gradient, lambda gradients, rank: sum(g.tensor_split(len(gradients))[rank] for g in gradients)),
    (
        scaling.positive_columns,
        lambda n, rank, size: (
            [(n * (size + rank) + i) % (2 * n * size) for i in range(n)] + [rank * n + i for i in range(n)]
        ),
    ),
    (
        scaling.positive_columns,
        lambda n, rank, size: torch.arange(2 * n * size).view(2, size, n)[[1, 0], rank].flatten(),
    ),
    (scaling.clip_loss, both_sides_at_once),
    (
        scaling.clip_loss,
        lambda i, c, t: -((i @ c.T / t).softmax(0).diag() * (i @ c.T / t).softmax(1).diag()).log().mean() / 2,
    ),
]


def part(rows, rank, size):
    return rows.chunk(size)[rank]


positives = scaling.positive_columns.reference


def clip(i, c, t):
    return F.cross_entropy(i @ c.T / t, torch.arange(len(i)))


WRONG = [
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
