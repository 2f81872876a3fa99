"""The exercise checks accept right answers in other forms than the solutions, and the library's own functions."""

import math
from itertools import count

import pytest
import torch
from solutions import load
from torch.nn import functional as F

from emc2_lite.course.checks.contrastive import batch_logits, effective_negatives, paired_nt_xent
from emc2_lite.course.checks.emc2 import coin_weights, dropped_variant, kept_weights, stored_state
from emc2_lite.course.checks.evaluation import paired_difference, score_interval, vote
from emc2_lite.course.checks.global_loss import global_loss, log_sum_from_batch, row_weights
from emc2_lite.course.checks.laboratory import many_proposals, relative_price, squared_bias
from emc2_lite.course.checks.memory import average_weights, cache_weights, updated_average
from emc2_lite.course.checks.metropolis import accepts, step_matrix, steps_to_forget
from emc2_lite.course.checks.runs import clipped, largest_scale, rate_share
from emc2_lite.course.checks.scaling import clip_loss, gathered_gradient, positive_columns
from emc2_lite.course.figures.contrastive import effective_number
from emc2_lite.evaluation import wilson
from emc2_lite.losses import NTXentLoss, global_contrastive_loss
from emc2_lite.sampling import multiproposal

solutions = load()


def test_the_solution_is_the_library_s_loss_in_another_layout():
    z = F.normalize(torch.randn(12, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64), dim=1)
    expected = NTXentLoss(0.3)(z[::2], z[1::2], torch.arange(6))
    torch.testing.assert_close(solutions.paired_nt_xent(z, 0.3), expected)


def test_n_equal_shares_are_n_effective_negatives():
    equal = torch.cat((torch.full((7,), 0.5), torch.full((20,), -0.5))).double()
    assert effective_number(equal, 0.01).item() == pytest.approx(7)
    torch.testing.assert_close(effective_number(equal, 0.4), solutions.effective_negatives(equal, 0.4))


def cosines_one_by_one(h1, h2, temperature):
    rows = [*h1, *h2]
    return [[(F.cosine_similarity(r, k, dim=0) / temperature).item() for k in rows] for r in rows]


def shares_of_exponentials(z, temperature):
    scores = (z @ z.T / temperature).exp()
    rows = torch.arange(len(z))
    return -(scores[rows, rows ^ 1] / (scores.sum(1) - scores.diag())).log().mean()


def mean_of_the_parts(z, temperature):
    samples, views, _ = z.shape
    flat = z.flatten(0, 1)
    own = torch.eye(samples).repeat_interleave(views, 0).repeat_interleave(views, 1).bool()
    scores = flat @ flat.T / temperature
    positives = own & ~torch.eye(len(flat), dtype=torch.bool)
    return scores.masked_fill(own, -math.inf).logsumexp(1).mean() - scores[positives].mean()


def proposed_and_accepted(scores, held_score):
    """Propose by q without the state held, then accept, one proposal after the other."""
    *q, held = torch.cat((scores, held_score[None])).double().softmax(0).tolist()
    weights = [x / (1 - held) * (min(1, (1 - held) / (1 - x)) if x < 1 else 1) for x in q]
    return weights, 1 - sum(weights)


def counted_columns(n, rank, size):
    own = [rank * n + sample for sample in range(n)]
    return [n * size + column for column in own] + own


def both_sides_at_once(images, captions, temperature):
    scores = images @ captions.T / temperature
    return (scores.logsumexp(0) + scores.logsumexp(1) - 2 * scores.diag()).mean() / 2


def weights_put_in_place(z, i, v, temperature):
    others = [k for k in range(len(z)) if k != i]
    weights = torch.zeros(z.shape[:2], dtype=z.dtype)
    weights[others] = (z[others] @ z[i, v] / temperature).flatten().softmax(0).view(-1, z.shape[1])
    return weights


def largest_taken_off(similarities, num_samples, temperature):
    scores = similarities / temperature
    largest = scores.max()
    return (largest + ((scores - largest).exp().mean() * 2 * (num_samples - 1)).log()).item()


def average_row_by_row(log_u, log_mean, gamma):
    rows = zip(log_u, log_mean, strict=True)
    return [m if u == -math.inf else torch.logaddexp(u + math.log(1 - gamma), m + math.log(gamma)) for u, m in rows]


def race(cached_scores, sample, uniforms):
    """The winner is the first of exponential clocks with the rates exp(score)."""
    times = (-uniforms.log()).log() - cached_scores
    times[:, 2 * sample : 2 * sample + 2] = math.inf
    return F.one_hot(times.argmin(1), len(cached_scores)).double().mean(0)


def matrix_entry_by_entry(similarities, temperature):
    s, m = similarities.tolist(), len(similarities)
    matrix = [[min(1, math.exp((s[k] - s[j]) / temperature)) / m * (j != k) for k in range(m)] for j in range(m)]
    return [[1 - sum(row) if j == k else p for k, p in enumerate(row)] for j, row in enumerate(matrix)]


def counted_steps(similarities, temperature, epsilon):
    p = (similarities.double() / temperature).softmax(0).max().item()
    return next(t for t in count() if (1 - 1 / (len(similarities) * p)) ** t <= epsilon)


def doubled(gradient):
    scale = 2.0**-60
    while 2 * scale * gradient.abs().max() <= 65504:
        scale *= 2
    return scale


def log_votes(cosines, labels, temperature):
    return max(labels.unique(), key=lambda label: (cosines[labels == label] / temperature).logsumexp(0))


def votes_by_name(cosines, labels, temperature):
    votes = {}
    for cosine, label in zip(cosines.tolist(), labels.tolist(), strict=True):
        votes[label] = votes.get(label, 0) + math.exp((cosine - cosines.max().item()) / temperature)
    return max(votes, key=votes.get)


def population_deviation(a, b):
    difference = a.float() - b.float()
    return torch.stack((difference.mean(), 1.96 * difference.std(correction=0) / math.sqrt(len(a))))


def counted_differences(a, b):
    n, only_a, only_b = len(a), (a & ~b).sum().item(), (b & ~a).sum().item()
    mean = (only_a - only_b) / n
    return [mean, 1.96 * math.sqrt(((only_a + only_b) / n - mean**2) / (n - 1))]


RIGHT = [
    (batch_logits, cosines_one_by_one),
    (paired_nt_xent, shares_of_exponentials),
    (effective_negatives, lambda s, t: 2 ** (torch.special.entr((s / t).softmax(0)).sum() / math.log(2))),
    (effective_negatives, lambda s, t: torch.distributions.Categorical(logits=s.double() / t).entropy().exp().item()),
    (global_loss, global_contrastive_loss),
    (global_loss, mean_of_the_parts),
    (row_weights, weights_put_in_place),
    (log_sum_from_batch, largest_taken_off),
    (updated_average, average_row_by_row),
    (average_weights, lambda scores, log_u: [math.exp(s - log_u) / len(scores) for s in scores]),
    (cache_weights, race),
    (accepts, lambda new, held, t, u: u < min(1, math.exp((new - held) / t))),
    (accepts, lambda new, held, t, u: torch.tensor((new - held) / t) > torch.tensor(u).log()),
    (step_matrix, matrix_entry_by_entry),
    (steps_to_forget, counted_steps),
    (
        kept_weights,
        lambda states, m, b: torch.bincount(states[int(b * m) :] % (m + 1), minlength=m + 1) / (m - int(b * m)),
    ),
    (stored_state, lambda last, candidates, held: [*candidates, held][last]),
    (dropped_variant, lambda weights, held: (weights / weights.sum()).nan_to_num()),
    (dropped_variant, lambda weights, held: F.normalize(weights, p=1, dim=0)),
    (coin_weights, lambda w, rho, u: (0, w) if u >= w * rho else [1 / rho, (w * rho - 1) / rho]),
    (coin_weights, lambda w, rho, u: torch.tensor([1.0, -1.0]) * (u < rho * w) / (rho or 1) + torch.tensor([0, w])),
    (squared_bias, lambda first, second, e: sum((first - e) * (second - e)) / e.norm() ** 2),
    (relative_price, lambda b, encoded, with_gradient: 1 + (encoded + 2 * with_gradient) / 6 / b),
    (many_proposals, proposed_and_accepted),
    (many_proposals, lambda s, h: tuple(part[0] for part in multiproposal(s[None], h[None])[:2])),
    (rate_share, lambda s, w, n: (s + 1) / w if s < w else math.cos(math.pi / 2 * (s - w) / (n - w)) ** 2),
    (
        clipped,
        lambda gradients, most: tuple(
            g / max(1, sum(x.square().sum() for x in gradients) ** 0.5 / most) for g in gradients
        ),
    ),
    (
        clipped,
        lambda gradients, most: [
            g * (most / (sum(x.norm() ** 2 for x in gradients).sqrt() + 1e-6)).clamp(max=1) for g in gradients
        ],
    ),
    (largest_scale, doubled),
    (largest_scale, lambda gradient: 2 ** torch.floor(torch.log2(65504 / gradient.abs().max()))),
    (score_interval, lambda successes, n: torch.tensor(wilson(successes, n)[1:])),
    (score_interval, lambda successes, n: list(wilson(successes, n)[1:])),
    (vote, log_votes),
    (vote, votes_by_name),
    (vote, lambda c, labels, t: labels.bincount((c / t).softmax(0)).argmax().item()),
    (paired_difference, population_deviation),
    (paired_difference, counted_differences),
    (gathered_gradient, lambda gradients, rank: torch.stack(gradients).sum(0).chunk(len(gradients))[rank]),
    (gathered_gradient, lambda gradients, rank: sum(g.tensor_split(len(gradients))[rank] for g in gradients)),
    (
        positive_columns,
        lambda n, rank, size: (
            [(n * (size + rank) + i) % (2 * n * size) for i in range(n)] + [rank * n + i for i in range(n)]
        ),
    ),
    (positive_columns, lambda n, rank, size: torch.arange(2 * n * size).view(2, size, n)[[1, 0], rank].flatten()),
    (clip_loss, both_sides_at_once),
    (clip_loss, lambda i, c, t: -((i @ c.T / t).softmax(0).diag() * (i @ c.T / t).softmax(1).diag()).log().mean() / 2),
]


@pytest.mark.parametrize(("exercise", "right"), RIGHT, ids=lambda value: getattr(value, "name", ""))
def test_a_right_answer_is_accepted(exercise, right):
    assert exercise.verdict(right).startswith("right")
