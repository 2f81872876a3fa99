"""Right and wrong answers to the exercises of chapter 03.

Letters: average u, rate g.
"""

import math

import numpy as np
import torch
from torch.nn import functional as F

from emc2_lite.course.checks import memory
from emc2_lite.losses import SogCLRLoss
from emc2_lite.sampling import gumbel_max


def average_row_by_row(log_u, log_mean, gamma):
    rows = zip(log_u, log_mean, strict=True)
    return [m if u == -math.inf else torch.logaddexp(u + math.log(1 - gamma), m + math.log(gamma)) for u, m in rows]


def average_in_numpy(log_u, log_mean, gamma):
    u, m = log_u.numpy(), log_mean.numpy()
    return np.where(np.isneginf(u), m, np.logaddexp(u + np.log(1 - gamma), m + np.log(gamma)))


def average_by_logsumexp(log_u, log_mean, gamma):
    parts = torch.stack((log_u + math.log(1 - gamma), log_mean + math.log(gamma)))
    return parts.logsumexp(dim=0) - torch.where(log_u.isneginf(), math.log(gamma), 0.0)


def weights_row_by_row(scores, log_u):
    return [[math.exp(s - u) / len(row) for s in row] for row, u in zip(scores, log_u, strict=True)]


def weights_from_the_softmax(scores, log_u):
    log_mean = scores.logsumexp(dim=1) - math.log(scores.shape[1])
    return scores.softmax(dim=1) * (log_mean - log_u).exp()[:, None]


def noise_in_closed_form(gamma, visits):
    first = (1 - gamma) ** (2 * visits - 2)
    return first + gamma / (2 - gamma) * (1 - first)


def noise_step_by_step(gamma, visits):
    variance = 1.0
    for _ in range(visits - 1):
        variance = (1 - gamma) ** 2 * variance + gamma**2
    return variance


def step_with_loops(z1, z2, index, log_u, temperature, gamma):
    z, b, log_u, loss = torch.cat((z1, z2)), len(z1), log_u.clone(), 0.0
    for r in range(2 * b):
        place = index[r % b], r // b
        scores = torch.stack([z[k] @ z[r] / temperature for k in range(2 * b) if k % b != r % b])
        log_mean = scores.detach().logsumexp(dim=0) - math.log(len(scores))
        log_u[place] = memory.updated_average.reference(log_u[place], log_mean, gamma)
        weights = (scores.detach() - log_u[place] - math.log(len(scores))).exp()
        loss = loss + weights @ scores - z[(r + b) % (2 * b)] @ z[r] / temperature
    return loss / (2 * b), log_u


def step_of_the_library(z1, z2, index, log_u, temperature, gamma):
    criterion = SogCLRLoss(len(log_u), temperature, gamma).double()
    criterion.log_u.copy_(log_u)
    return criterion(z1, z2, index), criterion.log_u


def step_by_hand(z1, z2, index, log_u, temperature, gamma):
    """The gradient by hand, (G + G^T) z / temperature, in a surrogate that has it."""
    z, b = torch.cat((z1, z2)).detach(), len(z1)
    scores = z @ z.T / temperature
    own = torch.eye(b, dtype=torch.bool).repeat(2, 2)
    log_mean = scores.masked_fill(own, -math.inf).logsumexp(dim=1) - math.log(2 * b - 2)
    new = memory.updated_average.reference(log_u[index].T.flatten(), log_mean, gamma)
    pairs = (scores.masked_fill(own, -math.inf) - new[:, None]).exp() / (2 * b - 2)
    pairs -= torch.eye(2 * b, dtype=pairs.dtype).roll(b, 0)
    gradient = (pairs + pairs.T) @ z / temperature / (2 * b)
    return (gradient * torch.cat((z1, z2))).sum(), log_u.index_copy(0, index, new.view(2, b).T)


def averages_in_a_loop(u, index, means, gamma):
    u = u.clone()
    for sample, mean in zip(index.tolist(), means, strict=True):
        u[sample] = mean if (u[sample] == 0).all() else u[sample].lerp(mean, gamma)
    return u


def averages_by_the_share(u, index, means, gamma):
    share = torch.where(u[index] > 0, gamma, 1.0)
    return u.index_copy(0, index, (1 - share) * u[index] + share * means)


def race(cached_scores, sample, uniforms):
    """The winner is the first of exponential clocks with the rates exp(score)."""
    times = (-uniforms.log()).log() - cached_scores
    times[:, 2 * sample : 2 * sample + 2] = math.inf
    return F.one_hot(times.argmin(1), len(cached_scores)).double().mean(0)


def library_draws(cached_scores, sample, uniforms):
    scores = cached_scores.index_fill(0, torch.tensor([2 * sample, 2 * sample + 1]), -math.inf)
    drawn = gumbel_max(scores.expand(uniforms.shape), uniforms=uniforms)
    return [(drawn == entry).double().mean() for entry in range(len(scores))]


def cache_step_by_weights(table, index, cache, due, uniforms, temperature):
    b, cache = len(index), cache.clone()
    cache[index] = table[index].detach()
    cache[due // 2, due % 2] = table[due // 2, due % 2].detach()
    z, loss = torch.cat((table[index, 0], table[index, 1])), 0.0
    for r in range(2 * b):
        scores = cache.flatten(0, 1) @ z[r].detach() / temperature
        weights = memory.cache_weights.reference(scores, index[r % b], uniforms[r])
        pull = z[r] @ z[(r + b) % (2 * b)]
        loss = loss + (torch.einsum("k,kd,d->", weights.double(), table.flatten(0, 1), z[r]) - pull) / temperature
    return loss / (2 * b), cache


def cache_step_by_draws(table, index, cache, due, uniforms, temperature):
    """Each row and each draw by itself, in lists."""
    cache, slots = cache.clone(), range(2)
    for sample, slot in [(i, v) for i in index for v in slots] + [(e // 2, e % 2) for e in due]:
        cache[sample, slot] = table[sample, slot].detach()
    terms = []
    for r, (v, i) in enumerate((v, i) for v in slots for i in index):
        terms.append(-(table[i, v] @ table[i, 1 - v]))
        for line in uniforms[r]:
            times = line.log().neg() / (cache.flatten(0, 1) @ table[i, v].detach() / temperature).exp()
            times[2 * i], times[2 * i + 1] = math.inf, math.inf
            drawn = times.argmin()
            terms.append(table[drawn // 2, drawn % 2] @ table[i, v] / len(uniforms[r]))
    return sum(terms) / temperature / (2 * len(index)), cache


class WithLoops:
    def __init__(self, num_samples, temperature, gamma):
        self.settings, self.log_u = (temperature, gamma), torch.full((num_samples, 2), -math.inf).double()

    def __call__(self, z1, z2, index):
        loss, self.log_u = step_with_loops(z1, z2, index, self.log_u, *self.settings)
        return loss


class FromTheLibrary(SogCLRLoss):
    def __init__(self, num_samples, temperature, gamma):
        super().__init__(num_samples, temperature, gamma)
        self.double()


RIGHT = [
    (memory.updated_average, average_row_by_row),
    (memory.updated_average, average_in_numpy),
    (memory.updated_average, average_by_logsumexp),
    (memory.average_weights, weights_row_by_row),
    (memory.average_weights, weights_from_the_softmax),
    (memory.noise_left, noise_in_closed_form),
    (memory.noise_left, noise_step_by_step),
    (memory.sogclr_step, step_with_loops),
    (memory.sogclr_step, step_of_the_library),
    (memory.sogclr_step, step_by_hand),
    (memory.averages_after, averages_in_a_loop),
    (memory.averages_after, averages_by_the_share),
    (memory.cache_weights, race),
    (memory.cache_weights, library_draws),
    (memory.cache_step, cache_step_by_weights),
    (memory.cache_step, cache_step_by_draws),
    (memory.SogCLR, WithLoops),
    (memory.SogCLR, FromTheLibrary),
]


def average(log_u, log_mean, g):
    return torch.logaddexp(log_u + math.log1p(-g), log_mean + math.log(g))


def shares(winner):
    """The share of each view among ``winner(s, i, u)``, with -inf for the two scores of the row's own sample i."""
    return lambda s, i, u: torch.bincount(winner(left_out(s, 2 * i, 2 * i + 1), i, u), minlength=len(s)) / len(u)


def left_out(s, *places, score=-math.inf):
    return s.index_fill(0, torch.tensor(places), score)


def drawn(s, u):
    return (s - (-u.log()).log()).argmax(dim=1)


def shares_of_drawn(s, u):
    return torch.bincount(drawn(s, u), minlength=len(s)) / len(u)


def one_slot(z1, z2, index, log_u, temperature, gamma):
    """Both rows of a sample update the average of its first slot."""
    loss, new = step_of_the_library(z1, z2, index, log_u, temperature, gamma)
    return loss, new[:, :1].expand(-1, 2)


def scaled(factor):
    def step(*inputs):
        loss, state = step_with_loops(*inputs)
        return factor * loss, state

    return step


def forgotten(step):
    """The loss of the step, with the state as it was; the averages are the fourth input, the cache the third."""
    return lambda *inputs: (step(*inputs)[0], inputs[3 if step is step_with_loops else 2])


def changed_cache(step, **changes):
    """The cache's step with other inputs, by position."""
    places = {"index": 1, "due": 3, "uniforms": 4, "temperature": 5}

    def other(*inputs):
        inputs = list(inputs)
        for name, change in changes.items():
            inputs[places[name]] = change(inputs[places[name]])
        return step(*inputs)

    return other


class Late(WithLoops):
    """The averages change one batch late."""

    def __call__(self, z1, z2, index):
        loss, self.settled = super().__call__(z1, z2, index), getattr(self, "settled", self.log_u)
        self.settled, self.log_u = self.log_u, self.settled
        return loss


class Halved(WithLoops):
    def __call__(self, z1, z2, index):
        return super().__call__(z1, z2, index) / 2


class Other(WithLoops):
    """gamma is the share of the old."""

    def __init__(self, num_samples, temperature, gamma):
        super().__init__(num_samples, temperature, 1 - gamma)


class Constant(WithLoops):
    """The same gamma whatever is asked for."""

    def __init__(self, num_samples, temperature, gamma):
        super().__init__(num_samples, temperature, 0.9)


WRONG = [
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
    (memory.updated_average, lambda log_u, log_mean, g: log_mean.where(log_u < -100, average(log_u, log_mean, g))),
    (
        memory.updated_average,
        lambda log_u, log_mean, g: log_mean.where(log_u == log_u.min(), average(log_u, log_mean, g)),
    ),
    (memory.average_weights, lambda s, log_u: (s - log_u[:, None] - math.log(s.shape[1] + 1)).exp()),
    (memory.average_weights, lambda s, log_u: (s - log_u[:, None]) / s.shape[1]),
    (memory.average_weights, lambda s, log_u: (log_u[:, None] - s - math.log(s.shape[1])).exp()),
    (memory.average_weights, lambda s, log_u: (s - log_u[:, None]).softmax(1) / s.shape[1]),
    (memory.average_weights, lambda s, log_u: (s - s.logsumexp(1)[:, None] + math.log(s.shape[1])).exp()),
    (memory.average_weights, lambda s, log_u: (s - log_u[:, None] - math.log(s.shape[1])).exp().clamp(max=1)),
    (memory.average_weights, lambda s, log_u: (s - log_u[:, None] - math.log2(s.shape[1])).exp()),
    (memory.average_weights, lambda s, log_u: (s - log_u[:, None]).sigmoid() / s.shape[1]),
    (memory.average_weights, lambda s, log_u: (s - log_u[0] - math.log(s.shape[1])).exp()),
    (memory.average_weights, lambda s, log_u: ((s - log_u[:, None]).exp() / s.shape[1]).sum()),
    (
        memory.noise_left,
        lambda gamma, visits: (1 - gamma) ** (visits - 1) + gamma * noise_in_closed_form(gamma, visits),
    ),
    (memory.noise_left, lambda gamma, visits: 1.0),  # the weights added up without squares
    (memory.noise_left, lambda gamma, visits: (1 - gamma) ** (2 * visits) + gamma**2),
    (memory.noise_left, lambda gamma, visits: (1 - gamma) ** (2 * visits - 2)),
    (memory.noise_left, lambda gamma, visits: noise_in_closed_form(1 - gamma, visits)),
    (memory.noise_left, lambda gamma, visits: max(gamma / (2 - gamma), 1 / visits)),
    (memory.noise_left, lambda gamma, visits: gamma),
    (memory.sogclr_step, scaled(0.5)),
    (memory.sogclr_step, scaled(-1)),
    (memory.sogclr_step, forgotten(step_with_loops)),
    (memory.sogclr_step, one_slot),
    (memory.sogclr_step, lambda z1, z2, index, *rest: step_with_loops(z1, z2, torch.arange(len(index)), *rest)),
    (memory.sogclr_step, lambda *inputs: step_with_loops(*inputs[:5], 1 - inputs[5])),
    (memory.sogclr_step, lambda *inputs: step_with_loops(*inputs[:4], 1.0, inputs[5])),
    (memory.sogclr_step, lambda *inputs: (step_with_loops(*inputs)[0].exp(), step_with_loops(*inputs)[1])),
    (memory.averages_after, lambda u, index, means, g: u),
    (memory.averages_after, lambda u, index, means, g: memory.averages_after.reference(u, index, means, 1 - g)),
    (memory.averages_after, lambda u, index, means, g: memory.averages_after.reference(u, index, means, 0.9)),
    (
        memory.averages_after,
        lambda u, index, means, g: u.index_copy(0, index, torch.where(u[index] == 0, means, u[index])),
    ),
    (
        memory.averages_after,
        lambda u, index, means, g: memory.averages_after.reference(u, index, means, g)[index],
    ),
    (memory.cache_weights, lambda s, i, u: shares_of_drawn(left_out(s, 2 * i + 1), u)),
    (memory.cache_weights, lambda s, i, u: shares_of_drawn(left_out(s, i, i + len(s) // 2), u)),
    (memory.cache_weights, lambda s, i, u: shares_of_drawn(left_out(s, 2 * i, 2 * i + 1, score=-10), u)),
    (memory.cache_weights, lambda s, i, u: shares_of_drawn(left_out(s, 2 * i, 2 * i + 1, score=-1), u)),
    (memory.cache_weights, lambda s, i, u: shares_of_drawn(left_out(s, 2 * i, 2 * i + 1), u[:1])),
    (memory.cache_weights, lambda s, i, u: shares_of_drawn(left_out(s, 2 * i, 2 * i + 1).softmax(0), u)),
    (memory.cache_weights, shares(lambda s, i, u: (s + u).argmax(dim=1))),
    (memory.cache_weights, shares(lambda s, i, u: (s + u.log()).argmax(dim=1))),
    (memory.cache_weights, shares(lambda s, i, u: drawn(s, u).unique())),
    (memory.cache_weights, shares(lambda s, i, u: s.argmax().repeat(len(u)))),
    (memory.cache_step, forgotten(cache_step_by_draws)),
    (memory.cache_step, changed_cache(cache_step_by_draws, uniforms=lambda u: u[:, :1])),
    (memory.cache_step, changed_cache(cache_step_by_draws, uniforms=lambda u: u.flip(0))),
    (memory.cache_step, changed_cache(cache_step_by_draws, uniforms=lambda u: 1 - u)),
    (memory.cache_step, changed_cache(cache_step_by_draws, temperature=lambda t: 1.0)),
    (memory.cache_step, changed_cache(cache_step_by_draws, due=lambda due: due[:1])),
    (memory.cache_step, changed_cache(cache_step_by_draws, due=lambda due: due // 2)),
    (memory.SogCLR, Late),
    (memory.SogCLR, Halved),
    (memory.SogCLR, Other),
    (memory.SogCLR, Constant),
]
