"""Right and wrong answers to the exercises of chapter 05.

Letters: burn-in b, weight w of the held view, temperature t, probability rho of the coin, its number u.
"""

import math
from functools import partial

import numpy as np
import torch
from torch.nn import functional as F

from emc2_lite.course.checks import emc2
from emc2_lite.sampling import Proposals, metropolis_hastings, metropolis_visit


def counted(states, m, b):
    kept = states[math.floor(b * m) :].tolist()
    return [kept.count(k) / len(kept) for k in (*range(m), -1)]


def visit_of_the_library(scores, held_score, uniforms, b):
    m = len(scores)
    proposals = Proposals(torch.arange(m)[None].int(), uniforms.log()[None], math.floor(b * m))
    visit = metropolis_visit(scores[None], torch.tensor([held_score]).to(scores), proposals)
    return visit.weights[0], visit.held_weight[0], visit.column[0]


def visit_of_walks(scores, held_score, uniforms, b):
    run = metropolis_hastings(scores[None], torch.tensor([held_score]).to(scores), uniforms=uniforms[None])
    *weights, held = counted(run.state[0], len(scores), b)
    return weights, held, run.state[0, -1].item()


def visit_in_numpy(scores, held_score, uniforms, b):
    scores, bonus, states = scores.numpy(), -np.log(uniforms.numpy()), [-1]
    for j in range(len(scores)):
        current = held_score if states[-1] < 0 else scores[states[-1]]
        states.append(j if scores[j] + bonus[j] > current else states[-1])
    kept = np.array(states[1:])[int(b * len(scores)) :]
    return [(kept == j).mean() for j in range(len(scores))], (kept < 0).mean(), states[-1]


def loss_row_by_row(z1, z2, weights, held_weight, held, t):
    z, b, loss = [*z1, *z2], len(z1), 0
    for r in range(2 * b):
        loss = loss - z[r] @ z[(r + b) % (2 * b)] + held_weight[r].item() * (z[r] @ held[r])
        for k in range(2 * b):
            loss = loss + weights[r, k].item() * (z[r] @ z[k])
    return loss / t / (2 * b)


def loss_by_einsum(z1, z2, weights, held_weight, held, t):
    z = torch.cat((z1, z2))
    push = torch.einsum("rk,rd,kd->", weights.detach(), z, z) + torch.einsum("r,rd,rd->", held_weight.detach(), z, held)
    return (push - 2 * (z1 * z2).sum()) / (t * len(z))


def loss_by_targets(z1, z2, weights, held_weight, held, t):
    """Each row's score with one vector: the weighted mean of its negatives minus its positive."""
    z = torch.cat((z1, z2))
    with torch.no_grad():
        weights, held_weight = weights + 0, held_weight + 0
    target = weights @ z + held_weight[:, None] * held - torch.cat((z2, z1))
    return (z * target).sum(dim=1).mean() / t


def weights_one_hot(columns, b):
    kept = columns[:, math.floor(b * columns.shape[1]) :]
    weights = F.one_hot(kept + 1, len(columns) + 1).double().mean(dim=1)
    return weights[:, 1:], weights[:, 0]


def weights_in_loops(columns, b):
    rows, m = columns.shape
    weights, held = torch.zeros(rows, rows), [0] * rows
    for r in range(rows):
        for k in columns[r].tolist()[math.floor(b * m) :]:
            if k < 0:
                held[r] += 1 / (m - math.floor(b * m))
            else:
                weights[r, k] += 1 / (m - math.floor(b * m))
    return weights, held


def weights_masked(columns, b):
    kept = columns[:, math.floor(b * columns.shape[1]) :]
    weights = torch.zeros(len(columns), len(columns)).scatter_add_(1, kept.clamp_min(0), (kept >= 0).float())
    return weights / kept.shape[1], (kept < 0).float().mean(dim=1)


def term_from_the_mean(z_r, memory, encode, w, c, t):
    constant = memory.detach()
    if not c:
        return w * torch.dot(z_r, constant) / t
    return torch.dot(z_r, w * constant + c * (encode() - constant)) / t


def term_in_parts(z_r, memory, encode, w, c, t):
    with torch.no_grad():
        memory = memory.clone()
    scores = [(w - c) * (memory * z_r).sum() / t]
    if c != 0:
        scores.append(c * (encode() * z_r).sum() / t)
    return sum(scores)


class Compiled:
    """All rows at once by `metropolis_visit`; held views are encoded without gradient, and with it where they count."""

    def __init__(self, num_samples, temperature, burn_in):
        self.held, self.temperature, self.burn_in = torch.full((num_samples, 2, 2), -1), temperature, burn_in

    def __call__(self, z1, z2, index, view, encode, order, uniforms):
        z, slot = torch.cat((z1, z2)), torch.arange(2).repeat_interleave(len(z1))
        index = index.repeat(2)
        pairs, held = torch.stack((index, view.flatten()), dim=1), self.held[index, slot]
        logits, known = z @ z.T / self.temperature, (held[:, 0] >= 0).nonzero().flatten()
        start = torch.full((len(z),), -torch.inf, dtype=z.dtype)
        if len(known):
            with torch.no_grad():
                start[known] = (encode(*held[known].T) * z[known]).sum(dim=1) / self.temperature
        proposals = Proposals(order.int(), uniforms.log(), math.floor(self.burn_in * order.shape[1]))
        visit = metropolis_visit(logits.detach(), start, proposals)
        loss = (visit.weights * logits).sum() - 2 * (z1 * z2).sum() / self.temperature
        if len(stays := (visit.held_weight > 0).nonzero().flatten()):
            again = (encode(*held[stays].T) * z[stays]).sum(dim=1) / self.temperature
            loss = loss + visit.held_weight[stays] @ again
        self.held[index, slot] = torch.where(visit.column[:, None] < 0, held, pairs[visit.column])
        return loss / len(z)


class ByName:
    """Chains in a dictionary from (sample, slot) to (sample, view), and the walk by ratios of probabilities."""

    def __init__(self, num_samples, temperature, burn_in):
        self.chains, self.num_samples, self.temperature, self.burn_in = {}, num_samples, temperature, burn_in

    @property
    def held(self):
        return [[self.chains.get((i, s), (-1, -1)) for s in (0, 1)] for i in range(self.num_samples)]

    def __call__(self, z1, z2, index, view, encode, order, uniforms):
        b, z, losses = len(index), torch.cat((z1, z2)), []
        names = [(index[r % b].item(), view[r // b, r % b].item()) for r in range(2 * b)]
        for r in range(2 * b):
            chain = names[r][0], r // b
            logits = (z[order[r]] @ z[r] / self.temperature).unbind()
            known = chain in self.chains
            if known:
                place = torch.tensor(self.chains[chain])[:, None]
                logits = (*logits, encode(place[0], place[1]).squeeze(0) @ z[r] / self.temperature)
            state, kept = -1, []
            for j, u in enumerate(uniforms[r].tolist()):
                moves = u < math.exp(min(0.0, (logits[j] - logits[state]).item())) if known or state >= 0 else True
                state = j if moves else state
                kept.append(state)
            kept = kept[math.floor(self.burn_in * len(kept)) :]
            losses.append(sum(logits[k] for k in kept) / len(kept) - z[r] @ z[(r + b) % (2 * b)] / self.temperature)
            if state >= 0:
                self.chains[chain] = names[order[r, state]]
        return sum(losses) / len(losses)


NEW = -math.inf  # the score of a new chain

RIGHT = [
    (
        emc2.kept_weights,
        lambda states, m, b: torch.bincount(states[int(b * m) :] % (m + 1), minlength=m + 1) / (m - int(b * m)),
    ),
    (emc2.kept_weights, counted),
    (emc2.one_visit, visit_of_the_library),
    (emc2.one_visit, visit_of_walks),
    (emc2.one_visit, visit_in_numpy),
    (emc2.stored_state, lambda last, candidates, held: [*candidates, held][last]),
    (emc2.stored_state, lambda last, candidates, held: candidates[last] if last >= 0 else held),
    (emc2.emc2_loss, loss_row_by_row),
    (emc2.emc2_loss, loss_by_einsum),
    (emc2.emc2_loss, loss_by_targets),
    (emc2.batch_weights, weights_one_hot),
    (emc2.batch_weights, weights_in_loops),
    (emc2.batch_weights, weights_masked),
    (emc2.dropped_variant, lambda weights, held: (weights / weights.sum()).nan_to_num()),
    (emc2.dropped_variant, lambda weights, held: F.normalize(weights, p=1, dim=0)),
    (emc2.coin_weights, lambda w, rho, u: (0, w) if u >= w * rho else [1 / rho, (w * rho - 1) / rho]),
    (
        emc2.coin_weights,
        lambda w, rho, u: torch.tensor([1.0, -1.0]) * (u < rho * w) / (rho or 1) + torch.tensor([0, w]),
    ),
    (emc2.remembered_term, term_from_the_mean),
    (emc2.remembered_term, term_in_parts),
    (emc2.EMC2, Compiled),
    (emc2.EMC2, ByName),
]


def kept_shares(kept, m):
    return torch.bincount(kept % (m + 1), minlength=m + 1) / len(kept)


def kept(states, m, b):
    return states[math.floor(b * m) :]


def visit_with(wrong):
    """A visit whose answer (weights, held weight, state) is changed by `wrong`."""
    return lambda scores, held_score, u, b: wrong(*emc2.one_visit.reference(scores, held_score, u, b))


def visit_by_raw_exponentials(scores, held_score, uniforms, b):
    """In single precision: overflows at large scores."""
    states, current = [], held_score
    for j, (score, u) in enumerate(zip(scores.float(), uniforms.float(), strict=True)):
        if u < torch.exp(score) / torch.exp(torch.tensor(current).float()):
            current = score.item()
            states.append(j)
        else:
            states.append(states[-1] if states else -1)
    *weights, held = counted(torch.tensor(states), len(scores), b)
    return weights, held, states[-1]


def visit_of_moves(scores, held_score, uniforms, b):
    """Counts moves in place of steps."""
    run = metropolis_hastings(scores[None], torch.tensor([held_score]).to(scores), uniforms=uniforms[None])
    moved = run.accepted[0].double() * (torch.arange(len(scores)) >= math.floor(b * len(scores)))
    return moved / moved.sum().clamp_min(1), 1.0 - (moved.sum() > 0).double(), run.state[0, -1]


def loss_with(change):
    """The right loss for changed arguments."""
    return lambda *batch: emc2.emc2_loss.reference(*change(*batch))


def term_with(change):
    """The right term for a changed weight and coin."""
    return lambda z_r, memory, encode, w, c, t: emc2.remembered_term.reference(z_r, memory, encode, *change(w, c), t)


def weights_with(wrong):
    """The right weights, changed by `wrong`."""
    return lambda columns, b: wrong(*emc2.batch_weights.reference(columns, b))


class ChainsByView(ByName):
    """A chain for each view number, not for each slot."""

    def __call__(self, z1, z2, index, view, *rest):
        before = self.chains
        self.chains = {
            (i, 0): before.get(("by view", i, v), (-1, -1))
            for i, v in zip(index.tolist(), view[0].tolist(), strict=True)
        }
        self.chains = {chain: pair for chain, pair in self.chains.items() if pair[0] >= 0}
        loss = super().__call__(z1, z2, index, view, *rest)
        now = {("by view", i, v): self.chains[i, 0] for i, v in zip(index.tolist(), view[0].tolist(), strict=True)}
        self.chains = before | self.chains | now
        return loss


class HalfTemperature(ByName):
    def __init__(self, num_samples, temperature, burn_in):
        super().__init__(num_samples, temperature / 2, burn_in)


class CeilingOfBurnIn(ByName):
    def __init__(self, num_samples, temperature, burn_in):
        super().__init__(num_samples, temperature, burn_in + 0.2)


class NothingStored(ByName):
    """The chains are right for the loss, but the attribute `held` never changes."""

    held = property(lambda self: [[(-1, -1), (-1, -1)]] * self.num_samples)


class NoPositive(ByName):
    def __call__(self, z1, z2, *rest):
        return super().__call__(z1, z2, *rest) + 2 * (z1 * z2).sum() / self.temperature / (2 * len(z1))


WRONG = [
    (emc2.kept_weights, lambda states, m, b: kept_shares(kept(states, m, b), m) * len(kept(states, m, b))),
    (emc2.kept_weights, lambda states, m, b: kept_shares(kept(states, m, b).unique(), m)),
    (emc2.kept_weights, lambda states, m, b: kept_shares(kept(states, m, b), m)[:-1]),
    (emc2.kept_weights, lambda states, m, b: kept_shares(kept(states.sort().values, m, b), m)),
    (emc2.kept_weights, lambda states, m, b: kept_shares(states[: m - math.floor(b * m)], m)),
    (emc2.kept_weights, lambda states, m, b: kept_shares(states[m // 2 :], m)),
    (emc2.stored_state, lambda last, candidates, held: candidates[max(last, 0)]),
    (emc2.stored_state, lambda last, candidates, held: last),
    (emc2.stored_state, lambda last, candidates, held: (*candidates, held)[last][::-1]),
    (
        emc2.stored_state,
        lambda last, candidates, held: candidates[last] if 0 <= last < len(candidates) - 1 else held,
    ),
    (emc2.stored_state, lambda last, candidates, held: held if last == -1 else candidates[min(last, 2)]),
    (emc2.stored_state, lambda last, candidates, held: held if last == -1 else sorted(candidates)[last]),
    (emc2.stored_state, lambda last, candidates, held: held if last == -1 else (candidates[last][0], held[1])),
    (emc2.one_visit, visit_by_raw_exponentials),
    (emc2.one_visit, visit_of_moves),
    (emc2.one_visit, visit_with(lambda weights, held, state: (weights, held, max(state, 0)))),
    (emc2.one_visit, visit_with(lambda weights, held, state: (weights + held / len(weights), held, state))),
    (emc2.one_visit, visit_with(lambda weights, held, state: (weights / weights.sum().clamp_min(1e-9), held, state))),
    (emc2.one_visit, visit_with(lambda weights, held, state: (torch.cat((weights, held[None])), held, state))),
    (emc2.one_visit, visit_with(lambda weights, held, state: (weights, 1 - held, state))),
    (emc2.one_visit, visit_with(lambda weights, held, state: (weights.flip(0), held, state))),
    (emc2.one_visit, lambda scores, held, u, b: emc2.one_visit.reference(scores, NEW, u, b)),
    (emc2.one_visit, lambda scores, held, u, b: emc2.one_visit.reference(scores, held, 1 - u, b)),
    (emc2.one_visit, lambda scores, held, u, b: emc2.one_visit.reference(scores, held, u, 0.5)),
    (emc2.emc2_loss, loss_with(lambda z1, z2, w, w0, held, t: (z1, z2, w.roll(1, 0), w0, held, t))),
    (emc2.emc2_loss, loss_with(lambda z1, z2, w, w0, held, t: (z1, z2, w, w0, held.flip(0), t))),
    (emc2.emc2_loss, loss_with(lambda z1, z2, w, w0, held, t: (z1, z2, w, w0, held, 1 / t))),
    (
        emc2.emc2_loss,
        loss_with(lambda z1, z2, w, w0, held, t: (z1, z2, w / (1 - w0)[:, None].detach() / t, w0, held, t)),
    ),
    (emc2.emc2_loss, loss_with(lambda z1, z2, w, w0, held, t: (z1, z2, -w, -w0, held, t))),
    (emc2.emc2_loss, loss_with(lambda z1, z2, w, w0, held, t: (z1, z2, (w > 0).double(), w0, held, t))),
    (emc2.emc2_loss, partial(emc2.emc2_loss.reference, pairing=0)),
    (
        emc2.emc2_loss,
        lambda z1, z2, w, w0, held, t: (
            emc2.emc2_loss.reference(z1, z2, w, w0, held, t) + ((z1 - z2.roll(1, 0)) ** 2).mean()
        ),
    ),
    (emc2.batch_weights, weights_with(lambda weights, held: (weights, held.flip(0)))),
    (emc2.batch_weights, weights_with(lambda weights, held: (weights.T, held))),
    (emc2.batch_weights, weights_with(lambda weights, held: (weights / (1 - held)[:, None].clamp_min(1e-6), 0 * held))),
    (emc2.batch_weights, weights_with(lambda weights, held: (weights + held[:, None] / len(held), 0 * held))),
    (emc2.batch_weights, weights_with(lambda weights, held: (weights[:, :-1], held))),
    (emc2.batch_weights, lambda columns, b: emc2.batch_weights.reference(columns, 0.0)),
    (emc2.batch_weights, lambda columns, b: emc2.batch_weights.reference(columns, b / 2)),
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
    (emc2.remembered_term, term_with(lambda w, c: (w - c, c))),
    (emc2.remembered_term, term_with(lambda w, c: (w, c * w))),
    (emc2.remembered_term, term_with(lambda w, c: (w, float(c > 0)))),
    (emc2.remembered_term, term_with(lambda w, c: (1.0, c))),
    (emc2.remembered_term, term_with(lambda w, c: (w, 0.0))),
    (emc2.remembered_term, term_with(lambda w, c: (w + 2 * c, c))),
    (
        emc2.remembered_term,
        lambda z_r, memory, encode, w, c, t: emc2.remembered_term.reference(
            z_r, memory, lambda: 0.5 * (encode() + encode()), w, c, t
        ),
    ),
    (
        emc2.remembered_term,
        lambda z_r, memory, encode, w, c, t: (
            emc2.remembered_term.reference(z_r.detach(), memory, encode, w, c, t) + 0 * z_r.sum()
        ),
    ),
    (emc2.EMC2, ChainsByView),
    (emc2.EMC2, HalfTemperature),
    (emc2.EMC2, CeilingOfBurnIn),
    (emc2.EMC2, NothingStored),
    (emc2.EMC2, NoPositive),
]
