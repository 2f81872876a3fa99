"""Right and wrong answers to the exercises of chapter 04.

Letters: similarities or scores s, temperature t, uniform number u, burn-in b, proposals q, epsilon e.
"""

import math
from itertools import accumulate, count

import numpy as np
import torch
from torch.nn import functional as F

from emc2_lite.course.checks import metropolis
from emc2_lite.sampling import metropolis_hastings, spectral_gap, transition_matrix


def walk_by_ratios(proposed_scores, held_score, uniforms):
    path = []
    for step, (score, u) in enumerate(zip(proposed_scores, uniforms, strict=True)):
        moves = u < math.exp(min(0, score - held_score))
        path += [step] if moves else path[-1:] or [-1]
        held_score = score if moves else held_score
    return torch.tensor(path), torch.tensor(held_score)


def walk_accumulated(proposed_scores, held_score, uniforms):
    def after(state, proposal):
        return proposal[:2] if proposal[1] - math.log(proposal[2]) > state[1] else state

    proposals = zip(count(), proposed_scores, uniforms, strict=False)
    states = list(accumulate(proposals, after, initial=(-1, held_score)))
    return [state[0] for state in states[1:]], states[-1][1]


def walk_of_the_library(proposed_scores, held_score, uniforms):
    rows = (torch.tensor([values], dtype=torch.float64) for values in (proposed_scores, uniforms))
    run = metropolis_hastings(next(rows), torch.tensor([held_score]).double(), uniforms=next(rows))
    return run.state[0], run.log_score[0]


def shares_by_counting(states, m, burn_in):
    kept = states.tolist()[int(burn_in * len(states)) :]
    return [kept.count(k) / len(kept) for k in (*range(m), -1)]


def shares_one_hot(states, m, burn_in):
    kept = states[math.floor(burn_in * len(states)) :]
    return F.one_hot(kept % (m + 1), m + 1).double().mean(dim=0)


def shares_in_numpy(states, m, burn_in):
    kept = states.numpy()[math.floor(burn_in * len(states)) :]
    return (kept[:, None] == np.array([*range(m), -1])).mean(axis=0)


def counted_from_one(scores, uniforms, burn_in):
    n, held, held_score = len(scores), -1, -math.inf
    dropped = math.floor(burn_in * n)
    weights = [0.0] * n
    for j, (score, u) in enumerate(zip(scores, uniforms, strict=True), start=1):
        if score - math.log(u) > held_score:
            held, held_score = j - 1, score
        if j > dropped:
            weights[held] += 1 / (n - dropped)
    return weights


def counted_afterwards(scores, uniforms, burn_in):
    path, _ = metropolis.walk.reference(scores, -math.inf, uniforms)
    return metropolis.kept_shares.reference(torch.tensor(path), len(scores), burn_in)[:-1]


def matrix_entry_by_entry(similarities, temperature):
    s, m = similarities.tolist(), len(similarities)
    matrix = [[min(1, math.exp((s[k] - s[j]) / temperature)) / m * (j != k) for k in range(m)] for j in range(m)]
    return [[1 - sum(row) if j == k else p for k, p in enumerate(row)] for j, row in enumerate(matrix)]


def matrix_of_probabilities(similarities, temperature):
    p = (similarities.double() / temperature).softmax(dim=0).numpy()
    matrix = np.minimum(1, p[None] / p[:, None]) / len(p)
    return matrix + np.diag(1 - matrix.sum(axis=1))


def acceptance_entry_by_entry(scores, proposals):
    s, q, m = scores.tolist(), proposals.tolist(), len(scores)
    return [[min(1, math.exp(min(s[j] - s[k], 700)) * q[j][k] / q[k][j]) for j in range(m)] for k in range(m)]


def acceptance_of_ratios(scores, proposals):
    ratio = (scores - scores.unsqueeze(1)).exp() * proposals.mT / proposals
    return torch.where(ratio < 1, ratio, 1.0)


def acceptance_in_numpy(scores, proposals):
    weight = scores.numpy()[:, None] + np.log(proposals.numpy())  # of the way there
    return np.exp(np.minimum(0, weight.T - weight))


def counted_steps(similarities, temperature, epsilon):
    p = (similarities.double() / temperature).softmax(0).max().item()
    return next(t for t in count() if (1 - 1 / (len(similarities) * p)) ** t <= epsilon)


def size_by_fourier(values):
    x, n = values.numpy() - values.numpy().mean(), len(values)
    covariance = np.fft.irfft(np.abs(np.fft.rfft(x, 2 * n)) ** 2)[:n]
    pairs = (covariance / covariance[0])[: n // 2 * 2].reshape(-1, 2).sum(axis=1)
    stop = np.argmax(pairs <= 0) if (pairs <= 0).any() else len(pairs)
    return n / (2 * np.minimum.accumulate(pairs[:stop]).sum() - 1)


def size_by_lists(values):
    n, mean = len(values), values.mean().item()
    x = [value - mean for value in values.tolist()]

    def alpha(t):
        return sum(a * b for a, b in zip(x, x[t:], strict=False)) / sum(a * a for a in x)

    total, smallest, t = 0, math.inf, 0
    while t + 1 < n and (pair := alpha(t) + alpha(t + 1)) > 0:
        smallest = min(smallest, pair)
        total, t = total + smallest, t + 2
    return n / (1 + 2 * (total - 1))


def sampler_row_by_row(log_scores, held_scores, uniforms):
    states, accepted, last = [], [], []
    for scores, held_score, luck in zip(log_scores, held_scores, uniforms.log(), strict=True):
        held, path, moves = -1, [], []
        for step in range(len(scores)):
            moves.append(bool(scores[step] - luck[step] > held_score))
            if moves[-1]:
                held, held_score = step, scores[step]
            path.append(held)
        states.append(path)
        accepted.append(moves)
        last.append(held_score)
    return torch.tensor(states), torch.tensor(accepted), torch.stack(last)


def sampler_by_columns(log_scores, held_scores, uniforms):
    held = torch.full((len(log_scores),), -1)
    states, accepted = torch.empty_like(log_scores, dtype=torch.int64), torch.empty_like(log_scores, dtype=torch.bool)
    current = held_scores.clone()
    for step, (score, u) in enumerate(zip(log_scores.T, uniforms.T, strict=True)):
        moves = score - u.log() > current
        held, current = held.where(~moves, step), current.where(~moves, score)
        states[:, step], accepted[:, step] = held, moves
    return states, accepted, current


RIGHT = [
    (metropolis.accepts, lambda new, held, t, u: u < min(1, math.exp((new - held) / t))),
    (metropolis.accepts, lambda new, held, t, u: torch.tensor((new - held) / t) > torch.tensor(u).log()),
    (metropolis.walk, walk_by_ratios),
    (metropolis.walk, walk_accumulated),
    (metropolis.walk, walk_of_the_library),
    (metropolis.kept_shares, shares_by_counting),
    (metropolis.kept_shares, shares_one_hot),
    (metropolis.kept_shares, shares_in_numpy),
    (metropolis.counted_shares, counted_from_one),
    (metropolis.counted_shares, counted_afterwards),
    (metropolis.step_matrix, matrix_entry_by_entry),
    (metropolis.step_matrix, matrix_of_probabilities),
    (metropolis.step_matrix, lambda s, t: transition_matrix(s / t)),
    (metropolis.acceptance, acceptance_entry_by_entry),
    (metropolis.acceptance, acceptance_of_ratios),
    (metropolis.acceptance, acceptance_in_numpy),
    (metropolis.steps_to_forget, counted_steps),
    (metropolis.steps_to_forget, lambda s, t, e: math.ceil(math.log10(e) / math.log10(1 - spectral_gap(s / t).item()))),
    (metropolis.effective_size, size_by_fourier),
    (metropolis.effective_size, size_by_lists),
    (metropolis.sampler, sampler_row_by_row),
    (metropolis.sampler, sampler_by_columns),
    (metropolis.sampler, lambda s, held, u: metropolis_hastings(s, held, uniforms=u, backend="torch")),
]

matrix = metropolis.step_matrix.reference
steps = metropolis.steps_to_forget.reference
size = metropolis.effective_size.reference
run = metropolis.sampler.reference


def proposals_accepted(acceptance, diagonal=lambda moves: torch.diag(1 - moves.sum(dim=1))):
    """A step matrix that accepts with ``acceptance`` of the difference of scores and has its own diagonal."""

    def wrong(s, t):
        moves = (acceptance((s - s[:, None]) / t) / len(s)).fill_diagonal_(0)
        return moves + diagonal(moves)

    return wrong


def p_max(s, t):
    return (s / t).softmax(dim=0).max().item()


def walked(*, score=lambda s, u, held: s - math.log(u) > held, number=lambda step: step, kept=lambda s, held: s):
    """A walk with its own decision, numbers of the steps and score kept after a move."""

    def wrong(proposed_scores, held_score, uniforms):
        held, path = -1, []
        for step, (s, u) in enumerate(zip(proposed_scores, uniforms, strict=True)):
            if score(s, u, held_score):
                held, held_score = number(step), kept(s, held_score)
            path.append(held)
        return path, held_score

    return wrong


def compared_with_the_proposal_before(proposed_scores, held_score, uniforms):
    held, path = -1, []
    for step, (s, u) in enumerate(zip(proposed_scores, uniforms, strict=True)):
        held = step if s - math.log(u) > held_score else held
        held_score = s
        path.append(held)
    return path, held_score


def shares(states, m, burn_in, first=0, distinct=False):
    """Wrong with `first` steps more dropped, or if each run of one state counts once."""
    kept = states[math.floor(burn_in * len(states)) + first :]
    kept = kept.unique_consecutive() if distinct else kept
    return F.one_hot(kept % (m + 1), m + 1).double().sum(dim=0) / max(len(kept), 1)


def ratio(s, q):
    return (s - s[:, None]).exp() * q.T / q


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
    (metropolis.walk, walked(number=lambda step: step + 1)),
    (metropolis.walk, walked(score=lambda s, u, held: s - math.log(1 - u) > held)),
    (metropolis.walk, walked(score=lambda s, u, held: s - math.log10(u) > held)),
    (metropolis.walk, walked(score=lambda s, u, held: s - math.log(u) < held)),
    (metropolis.walk, walked(score=lambda s, u, held: True)),
    (metropolis.walk, walked(score=lambda s, u, held: u < 1 / (1 + math.exp(min(held - s, 700))))),
    (metropolis.walk, walked(kept=max)),
    (metropolis.walk, compared_with_the_proposal_before),
    (metropolis.walk, lambda s, held, u: walk_accumulated(s, -math.inf, u)),
    (metropolis.kept_shares, lambda states, m, b: shares(states, m, b, first=1)),
    (metropolis.kept_shares, lambda states, m, b: shares(states, m, b, distinct=True)),
    (metropolis.kept_shares, lambda states, m, b: shares(states, m, min(b * m / len(states), 0.9))),
    (metropolis.kept_shares, lambda states, m, b: shares(states, m, 1 - b if b else 0)),
    (metropolis.kept_shares, lambda states, m, b: shares(states[states >= 0], m, b)),
    (metropolis.kept_shares, lambda states, m, b: shares(states, m, b)[:-1]),
    (metropolis.kept_shares, lambda states, m, b: shares(states, m, b) * len(states)),
    (metropolis.counted_shares, lambda s, u, b: metropolis.counted_shares.reference(s, u, b, divisor=1)),
    (metropolis.counted_shares, lambda s, u, b: metropolis.counted_shares.reference(s, u, b, divisor=-0.5)),
    (metropolis.counted_shares, lambda s, u, b: metropolis.counted_shares.reference(s, u, b) * len(s)),
    (metropolis.counted_shares, lambda s, u, b: metropolis.counted_shares.reference(s, u, b, whole=round)),
    (metropolis.step_matrix, proposals_accepted(torch.sigmoid)),
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
    (metropolis.acceptance, lambda s, q: ratio(s, q) / (1 + ratio(s, q)).clamp(max=1e300)),
    (metropolis.acceptance, lambda s, q: ratio(s, q).clamp(max=1).fill_diagonal_(0)),
    (metropolis.acceptance, lambda s, q: ratio(s, q).sqrt().clamp(max=1)),
    (metropolis.acceptance, lambda s, q: ((s - s[:, None]).exp() * q).clamp(max=1)),
    (metropolis.acceptance, lambda s, q: ((s - s[:, None]).exp() / q).clamp(max=1)),
    (metropolis.acceptance, lambda s, q: (s / s[:, None] * q.T / q).clamp(0, 1)),
    (metropolis.acceptance, lambda s, q: (q.T / q).clamp(max=1)),
    (metropolis.steps_to_forget, lambda s, t, e: steps(s.clamp_min(0), t, e)),
    (metropolis.steps_to_forget, lambda s, t, e: steps(s, t, e / 2)),
    (metropolis.steps_to_forget, lambda s, t, e: steps(s, t, e, rounded=round)),
    (metropolis.steps_to_forget, lambda s, t, e: steps(s, t, e) + 1),
    (metropolis.steps_to_forget, lambda s, t, e: math.ceil(steps(s, t, e, rounded=float) / math.log(2))),
    (metropolis.steps_to_forget, lambda s, t, e: math.ceil(math.log(e) / math.log(1 - p_max(s, t)))),
    (metropolis.steps_to_forget, lambda s, t, e: math.ceil(math.log(e) / math.log1p(-math.exp(-2 / t)))),
    (metropolis.effective_size, lambda values: len(values)),
    (metropolis.effective_size, lambda values: float(len(values.unique()))),
    (metropolis.effective_size, lambda values: size(values) / len(values)),
    (metropolis.effective_size, lambda values: size(values[1:])),
    (metropolis.effective_size, lambda values: size(values.cumsum(0))),
    (metropolis.sampler, lambda s, held, u: run(s, torch.full_like(held, -math.inf), u)),
    (metropolis.sampler, lambda s, held, u: run(s, held, 1 - u)),
    (metropolis.sampler, lambda s, held, u: (run(s, held, u)[0] + 1, *run(s, held, u)[1:])),
    (metropolis.sampler, lambda s, held, u: (run(s, held, u)[0], ~run(s, held, u)[1], run(s, held, u)[2])),
    (metropolis.sampler, lambda s, held, u: (run(s, held, u)[0][:, -1], *run(s, held, u)[1:])),
    (metropolis.sampler, lambda s, held, u: (*run(s, held, u)[:2], run(s, held, u)[2] + 1e-6)),
    (metropolis.sampler, lambda s, held, u: run(s, held.clamp(min=-5), u)),
]
