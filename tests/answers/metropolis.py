"""Right and wrong answers to the exercises of chapter 04.

Letters: uniform number u, epsilon e.
"""

import math
from itertools import count

import torch
from torch.nn import functional as F

from emc2_lite.course.checks import metropolis


def matrix_entry_by_entry(similarities, temperature):
    s, m = similarities.tolist(), len(similarities)
    matrix = [[min(1, math.exp((s[k] - s[j]) / temperature)) / m * (j != k) for k in range(m)] for j in range(m)]
    return [[1 - sum(row) if j == k else p for k, p in enumerate(row)] for j, row in enumerate(matrix)]


def counted_steps(similarities, temperature, epsilon):
    p = (similarities.double() / temperature).softmax(0).max().item()
    return next(t for t in count() if (1 - 1 / (len(similarities) * p)) ** t <= epsilon)


RIGHT = [
    (metropolis.accepts, lambda new, held, t, u: u < min(1, math.exp((new - held) / t))),
    (metropolis.accepts, lambda new, held, t, u: torch.tensor((new - held) / t) > torch.tensor(u).log()),
    (metropolis.step_matrix, matrix_entry_by_entry),
    (metropolis.steps_to_forget, counted_steps),
]

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


WRONG = [
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
