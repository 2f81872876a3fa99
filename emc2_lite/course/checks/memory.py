"""Exercises of chapter 03; in the mistakes: log average u, log mean m, rate c; scores s, own sample i, uniforms r."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from emc2_lite.course.exercise import Exercise
from emc2_lite.losses import SogCLRLoss


def _never_first(log_u, log_mean, gamma):
    return torch.logaddexp(log_u + math.log1p(-gamma), log_mean + math.log(gamma))


def _updated_average(log_u, log_mean, gamma):
    return torch.where(log_u.isneginf(), log_mean, _never_first(log_u, log_mean, gamma))


def _raw_exponentials(log_u, log_mean, gamma):
    return torch.where(log_u.isneginf(), log_mean.exp(), (1 - gamma) * log_u.exp() + gamma * log_mean.exp()).log()


def _raw_but_newcomers(log_u, log_mean, gamma):
    return torch.where(log_u.isneginf(), log_mean, ((1 - gamma) * log_u.exp() + gamma * log_mean.exp()).log())


def _first_by_batch(log_u, log_mean, gamma):
    return log_mean if log_u.isneginf().all() else _never_first(log_u, log_mean, gamma)


def _average_of_logs(log_u, log_mean, gamma):
    return log_mean.where(log_u.isneginf(), (1 - gamma) * log_u + gamma * log_mean)


updated_average = Exercise(
    "updated_average",
    _updated_average,
    cases=[
        (torch.tensor([0.0, 1.0, -2.0]), torch.tensor([1.0, 1.0, 3.0]), 0.9),
        (torch.tensor([-math.inf, 1.0, -math.inf]), torch.tensor([2.0, -1.0, 0.5]), 0.9),
        (torch.tensor([-math.inf, -math.inf]), torch.tensor([2.0, -1.0]), 0.3),
        (torch.tensor([120.0, -math.inf, -130.0]), torch.tensor([95.0, 110.0, -120.0]), 0.1),
        (torch.tensor([800.0, -math.inf, -800.0]), torch.tensor([799.0, 850.0, -801.0]), 0.5),
    ],
    mistakes={
        "One batch holds first visits and later ones: ask each row whether this is its first visit": _first_by_batch,
        "One newcomer makes its whole batch start anew: ask each row by itself": (
            lambda u, m, c: m if u.isneginf().any() else _never_first(u, m, c)
        ),
        "exp of a large log_u overflows: stay in logarithms with torch.logaddexp": _raw_but_newcomers,
        "exp of a large log_u overflows in float64 too: stay in logarithms with torch.logaddexp": (
            lambda u, m, c: _raw_but_newcomers(u.double(), m.double(), c)
        ),
        "exp of 120 is infinite in float32: use torch.logaddexp": _raw_exponentials,
        "exp of 800 is infinite in float64 too: use torch.logaddexp": (
            lambda u, m, c: _raw_exponentials(u.double(), m.double(), c)
        ),
        "This averages the logarithms: average the numbers, then take the logarithm": _average_of_logs,
        "gamma is the share of the new mean, not of the old average": lambda u, m, c: _updated_average(u, m, 1 - c),
        "A first visit starts from the mean itself, not from gamma times the mean": _never_first,
    },
    runs="The next figure",
)

average_weights = Exercise(
    "average_weights",
    lambda scores, log_u: (scores - log_u[:, None] - math.log(scores.shape[1])).exp(),
    cases=[
        (torch.tensor([[1.0, 0.0, -1.0, 2.0]]), torch.tensor([0.5])),
        (torch.tensor([[3.0, 3.0], [0.0, 1.0]]), torch.tensor([3.0, -1.0])),
        # One row, or as many rows as candidates: there an average for each column has words, where torch raises else.
        (
            torch.tensor([[140.0, 135.0, 100.0], [-120.0, -121.0, -122.0], [0.5, 0.0, -2.0]]),
            torch.tensor([139.0, -120.5, 1.0]),
        ),
        (torch.tensor([[-1.0, 0.5, 0.0, 1.0, 2.0, -3.0]]), torch.tensor([-1.0])),
        (torch.tensor([[-1.0, 0.5, 0.0]] * 3), torch.tensor([-1.0, 0.0, 2.0])),
    ],
    mistakes={
        "Each row has its own average: log_u[:, None]": lambda s, u: (s - u - math.log(s.shape[1])).exp(),
        "u is an average, not a sum: divide by the number of negatives too": lambda s, u: (s - u[:, None]).exp(),
        "These weights sum to 1, as DCL's do: divide by the row's average u instead": lambda s, u: s.softmax(1),
        "exp of 140 is infinite in float32: subtract log u first": (
            lambda s, u: s.exp() / (s.shape[1] * u.exp()[:, None])
        ),
        "This divides by log u: subtract log u inside the exponential": (
            lambda s, u: s.exp() / (s.shape[1] * u[:, None])
        ),
        "m is the number of a row's negatives, not the number of rows": (
            lambda s, u: (s - u[:, None] - math.log(len(s))).exp()
        ),
    },
    runs="The next figure",
)


def _noise_left(gamma, visits):
    return (1 - gamma) ** (2 * visits - 2) + gamma**2 * sum((1 - gamma) ** (2 * age) for age in range(visits - 1))


noise_left = Exercise(
    "noise_left",
    _noise_left,
    cases=[(0.9, 1), (0.9, 2), (0.5, 3), (0.1, 5), (0.02, 50), (0.3, 400)],
    mistakes={
        "This is the limit after many visits: the first visit's mean begins with the whole weight": (
            lambda gamma, visits: gamma / (2 - gamma)
        ),
        "Every visit enters here with the share gamma: the first one begins with the whole weight": (
            lambda gamma, visits: gamma**2 * sum((1 - gamma) ** (2 * age) for age in range(visits))
        ),
        "This is the standard deviation: return the variance": lambda gamma, visits: _noise_left(gamma, visits) ** 0.5,
        "The first visit's weight is not squared here: square each weight, then add": (
            lambda gamma, visits: (
                _noise_left(gamma, visits) + (1 - gamma) ** (visits - 1) * (1 - (1 - gamma) ** (visits - 1))
            )
        ),
        "gamma is a factor of a weight, so it is squared too": (
            lambda gamma, visits: (
                (1 - gamma) ** (2 * visits - 2) + gamma * sum((1 - gamma) ** (2 * age) for age in range(visits - 1))
            )
        ),
        "A plain mean of all visits would have this variance: here old visits weigh less": (
            lambda gamma, visits: 1 / visits
        ),
        "After one visit u is that visit's mean: there are visits - 1 steps of the average, not visits": (
            lambda gamma, visits: _noise_left(gamma, visits + 1)
        ),
    },
    runs="The next table",
)


def _sogclr_step(
    z1,
    z2,
    index,
    log_u,
    temperature,
    gamma,
    *,
    updated=_updated_average,
    divide_by=lambda old, new, batch: new,
    slots=(0, 1),
    attached=(),
    views_left_out=(0, 1),
    count=lambda candidates, b: candidates,
    log_counts=(1, 1),
    positive_in_mean=False,
    partner=lambda z: z,
    pull_partner=None,
    pushed=lambda negatives: negatives,
    over=1,
):
    """The step, with a place for each of its mistakes; what is `attached` (scores, averages, kept) carries gradient."""
    z, b = torch.cat((z1, z2)), len(z1)
    scores, pulls = (z @ other(z).T / temperature for other in (partner, pull_partner or partner))
    positive = torch.cat((pulls.diagonal(b), pulls.diagonal(-b)))
    sample, slot = torch.arange(2 * b) % b, torch.arange(2 * b) // b
    left_out = (sample[:, None] == sample) & torch.stack([(slot[:, None] ^ slot) == v for v in views_left_out]).any(0)
    negatives = scores[~left_out].view(2 * b, -1)
    m = count(negatives.shape[1], b)
    places = index.repeat(2), torch.tensor(slots).repeat_interleave(b)
    met = torch.cat((negatives, positive[:, None]), dim=1) if positive_in_mean else negatives
    batch = met.logsumexp(dim=1) - log_counts[0] * math.log(m + positive_in_mean)
    old = log_u[places]
    new = updated(old, batch, gamma)
    inside, averages = negatives, divide_by(old, new, batch)
    inside = inside if "scores" in attached else inside.detach()
    averages = averages if "averages" in attached else averages.detach()
    weights = (inside - averages[:, None] - log_counts[1] * math.log(m)).exp()
    loss = ((weights * pushed(negatives)).sum(dim=1) - positive).sum() / (over * 2 * b)
    return loss, log_u.index_put(places, new if "kept" in attached else new.detach())


def _one_average(z1, z2, index, log_u, temperature, gamma):
    """One average a sample, of the mean over both its rows."""
    rows = partial(_sogclr_step, z1, z2, index)
    _, means = rows(torch.full_like(log_u, -math.inf), temperature, gamma)
    means = means[index].logsumexp(dim=1) - math.log(2)
    new = log_u.index_put((index,), _updated_average(log_u[index, 0], means, gamma)[:, None].expand(-1, 2))
    fixed = new[index].T.flatten()
    return rows(log_u, temperature, gamma, divide_by=lambda old, averages, batch: fixed)[0], new


def _gradients(loss: Any, *inputs: Tensor) -> list[Tensor]:
    """The gradients of the loss, zeros where it has none."""
    if not getattr(loss, "requires_grad", False):
        return [torch.zeros_like(each) for each in inputs]
    return list(torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True))


def _has_graph(state: Any) -> bool:
    return bool(getattr(state, "requires_grad", False))


def _two_values(answer: Any, names: str) -> tuple:
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise ValueError(f"two values are expected, {names}")
    return tuple(answer)


def _sogclr_stepped(step: Callable, z1, z2, index, log_u, temperature, gamma):
    """The gradients in z1 and z2, the new log u, and whether that is part of a graph."""
    z1, z2 = (z.clone().requires_grad_() for z in (z1, z2))
    answer = step(z1, z2, index, log_u, temperature, gamma)
    if answer is None or answer is ...:
        return answer
    loss, log_u = _two_values(answer, "the loss and the new log_u")
    return *_gradients(loss, z1, z2), log_u, _has_graph(log_u)


def _table(samples: int, dim: int, seed: int, noise: float = 0.5) -> Tensor:
    """Embeddings (N, 2, d) in float64; the views of a sample are `noise` apart."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(samples, 1, dim, generator=generator, dtype=torch.float64)
    return F.normalize(centres + noise * torch.randn(samples, 2, dim, generator=generator, dtype=torch.float64), dim=-1)


def _sogclr_case(samples, index, temperature, gamma, seed, visited):
    """A batch of `index`; the averages of the `visited` samples are within a few nats of the batch's means."""
    index, log_u = torch.tensor(index), torch.full((samples, 2), -math.inf, dtype=torch.float64)
    z1, z2 = _table(len(index), 5, seed).unbind(1)
    _, means = _sogclr_step(z1, z2, index, log_u, temperature, gamma)
    means[means.isneginf()] = 0.0
    moved = means + 1.5 * torch.randn(samples, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    log_u[visited] = moved[visited]
    return z1, z2, index, log_u, temperature, gamma


sogclr_step = Exercise(
    "sogclr_step",
    _sogclr_step,
    cases=[
        _sogclr_case(5, [3, 1], 0.5, 0.9, 0, []),
        _sogclr_case(9, [7, 0, 4, 2], 0.07, 0.3, 1, [0, 2, 5]),
        _sogclr_case(6, [2, 5, 1], 0.2, 0.9, 2, [0, 1, 2, 3, 4, 5]),
        _sogclr_case(7, [6, 3, 0, 5, 1], 0.001, 0.1, 3, [0, 1, 2, 3]),
    ],
    mistakes={
        "The weights carry gradient: hold them constant with detach() or torch.no_grad()": (
            partial(_sogclr_step, attached=("scores",))
        ),
        "The weights carry gradient, and so does the new log_u: make both under torch.no_grad()": (
            partial(_sogclr_step, attached=("scores", "averages", "kept"))
        ),
        "The weights carry gradient: detaching log_u is not enough, detach the weights too": (
            partial(_sogclr_step, attached=("scores", "averages"))
        ),
        "The weights carry gradient through the averages: u is constant too, make it under torch.no_grad()": (
            partial(_sogclr_step, attached=("averages",))
        ),
        "The weights carry gradient through the averages, and the new log_u is in a graph: detach u at once": (
            partial(_sogclr_step, attached=("averages", "kept"))
        ),
        "The scalar has no gradient: hold the weights constant, but not the scores": (
            lambda *inputs: (_sogclr_step(*inputs)[0].detach(), _sogclr_step(*inputs)[1])
        ),
        "The new log_u is part of a graph: make it without gradient, or the next step keeps this one's memory": (
            partial(_sogclr_step, attached=("kept",))
        ),
        "The positive is among the negatives: leave out both views of the row's own sample": (
            partial(_sogclr_step, views_left_out=(0,))
        ),
        "One batch holds first visits and later ones: ask each row whether this is its first visit": (
            partial(_sogclr_step, updated=_first_by_batch)
        ),
        "These weights sum to 1, as DCL's do: divide by m u, with the row's new average u": (
            partial(_sogclr_step, divide_by=lambda old, new, batch: batch)
        ),
        "The weights divide by the average before this batch: update it first": (
            partial(_sogclr_step, divide_by=lambda old, new, batch: torch.where(old.isneginf(), new, old))
        ),
        "u is an average, not a sum: divide the weights by the number of negatives m too": (
            partial(_sogclr_step, log_counts=(1, 0))
        ),
        "This is the log of a sum: subtract log m": partial(_sogclr_step, log_counts=(0, 1)),
        "log_u is the log of a sum here: subtract log m from it, and in the weights": (
            partial(_sogclr_step, log_counts=(0, 0))
        ),
        "The view slots are swapped: row r uses view slot 0, row r + b view slot 1": (
            partial(_sogclr_step, slots=(1, 0))
        ),
        "A first visit starts from the mean itself, not from gamma times the mean": (
            partial(_sogclr_step, updated=_never_first)
        ),
        "One newcomer makes its whole batch start anew: ask each row by itself": (
            partial(_sogclr_step, updated=lambda u, m, c: m if u.isneginf().any() else _never_first(u, m, c))
        ),
        "The two views of a sample share one average: keep one for each view slot": _one_average,
        "Move the averages first: before the batch, a newcomer's log_u is minus infinity": (
            partial(_sogclr_step, divide_by=lambda old, new, batch: old)
        ),
        "The positive is in the mean: SogCLR's candidates are negatives only": (
            partial(_sogclr_step, positive_in_mean=True)
        ),
        "The positive is among the candidates: SogCLR's are the m = 2b - 2 negatives only": (
            partial(_sogclr_step, views_left_out=(0,), count=lambda candidates, b: 2 * b - 2)
        ),
        "Take the mean over the 2b rows, not their sum": (
            lambda z1, z2, *rest: _sogclr_step(z1, z2, *rest, over=1 / (2 * len(z1)))
        ),
        "Only the weights are constants: both embeddings of a score get gradient": (
            partial(_sogclr_step, partner=torch.Tensor.detach)
        ),
        "Only the weights are constants: the embeddings of the negatives get gradient too": (
            partial(_sogclr_step, partner=torch.Tensor.detach, pull_partner=lambda z: z)
        ),
        "Only the weights are constants: the scores of the negatives get gradient": (
            partial(_sogclr_step, pushed=torch.Tensor.detach)
        ),
    },
    runs="The comparison below",
    drive=_sogclr_stepped,
)


def _averages_after(u, index, means, gamma, first=lambda old: old == 0):
    u = u.clone()
    u[index] = torch.where(first(u[index]), means, (1 - gamma) * u[index] + gamma * means)
    return u


def _averages_case(samples, index, visited, gamma, seed):
    generator = torch.Generator().manual_seed(seed)
    u = torch.zeros(samples, 2)
    u[visited] = 0.2 + 5 * torch.rand(len(visited), 2, generator=generator)
    return u, torch.tensor(index), 0.2 + 5 * torch.rand(len(index), 2, generator=generator), gamma


averages_after = Exercise(
    "averages_after",
    _averages_after,
    cases=[
        _averages_case(6, [4, 0, 3], [], 0.9, 0),
        _averages_case(6, [4, 0, 3], [0, 3, 4, 5], 0.9, 1),
        _averages_case(10, [8, 1, 9, 5], [0, 1, 2, 3, 4, 5, 6, 7], 0.9, 2),
        _averages_case(7, [2, 6], [2, 3], 0.3, 3),
    ],
    mistakes={
        "The bug is still in it": partial(_averages_after, first=lambda old: (old == 0).all()),
        "Now one newcomer makes its whole batch start anew: ask each entry by itself": (
            partial(_averages_after, first=lambda old: (old == 0).any())
        ),
        "Now no average is remembered: an entry above 0 has been visited": (
            partial(_averages_after, first=lambda old: torch.ones_like(old, dtype=torch.bool))
        ),
        "Now every first visit starts at gamma times the mean, in the first batch too": (
            partial(_averages_after, first=lambda old: torch.zeros_like(old, dtype=torch.bool))
        ),
    },
    runs="The next cell",
)


def _masked(cached_scores, sample, views=(0, 1), value=-math.inf):
    """A copy of the scores with `value` for the `views` of the row's own sample."""
    scores = cached_scores.clone()
    for view in views:
        scores[2 * sample + view] = value
    return scores


def _shares(winners, places):
    return torch.bincount(winners, minlength=places) / len(winners)


def _cache_weights(cached_scores, sample, uniforms, sign=-1.0, **mask):
    noisy = _masked(cached_scores, sample, **mask) + sign * (-uniforms.log()).log()
    return _shares(noisy.argmax(dim=1), len(cached_scores))


def _cache_case(samples, draws, sample, seed, scale, least=0.0):
    generator = torch.Generator().manual_seed(seed)
    scores = least + scale * torch.rand(2 * samples, generator=generator)
    scores[2 * sample : 2 * sample + 2] = least + 1.1 * scale  # the row's own views are the most similar ones
    return scores, sample, torch.rand(draws, 2 * samples, generator=generator)


cache_weights = Exercise(
    "cache_weights",
    _cache_weights,
    cases=[
        _cache_case(4, 3, 1, 0, 5.0),
        _cache_case(6, 8, 0, 1, 2.0),
        _cache_case(10, 4, 9, 2, 14.0),
        _cache_case(3, 6, 2, 3, 0.5),
        _cache_case(5, 7, 3, 4, 4.0, least=-40.0),  # a score of -10 wins here
    ],
    mistakes={
        "The row's own sample is among the negatives: leave out both its views": partial(_cache_weights, views=()),
        "Only one view of the row's own sample is left out: leave out both": partial(_cache_weights, views=(0,)),
        "Entries 2i and 2i + 1 are the views of sample i: leave these out, not entry i": (
            lambda s, i, r: _shares((s.index_fill(0, torch.tensor(i), -math.inf) - (-r.log()).log()).argmax(1), len(s))
        ),
        "The Gumbel bonus has two logarithms: -log(-log U)": (
            lambda s, i, r: _shares((_masked(s, i) - r.log()).argmax(dim=1), len(s))
        ),
        "A score of 0 can win: set the scores of the own views to minus infinity": partial(_cache_weights, value=0.0),
        "These are the n largest of one draw, all different: draw n times, so a view can repeat": (
            lambda s, i, r: _shares((_masked(s, i) - (-r[0].log()).log()).topk(len(r)).indices, len(s))
        ),
        "These are the probabilities: return the shares of the draws": lambda s, i, r: _masked(s, i).softmax(0),
        "These are counts: a weight is a share of the n draws": lambda s, i, r: _cache_weights(s, i, r) * len(r),
        "The bonus has the wrong sign: it is -log(-log U)": partial(_cache_weights, sign=1.0),
        "The last clock rings here: the first one is the argmin of the waiting times": (
            lambda s, i, r: _shares((-r.log() / _masked(s, i).exp()).nan_to_num(posinf=-1.0).argmax(1), len(s))
        ),
    },
    runs="The next figure",
)


def _cache_step(
    table,
    index,
    cache,
    due,
    uniforms,
    temperature,
    *,
    batch=True,
    turn=True,
    before=False,
    left_out=(0, 1),
    negatives=lambda flat, cache: flat,
    over=1,
    graph=False,
    by_sample=False,
    partner=None,
    draws=True,
):
    """The step, with a place for each of its mistakes."""
    b, flat = len(index), table.flatten(0, 1)
    entries = torch.stack((2 * index, 2 * index + 1), dim=int(by_sample)).flatten()
    written = torch.cat((entries if batch else entries[:0], due if turn else due[:0]))
    new = cache.flatten(0, 1).index_copy(0, written, flat[written] if graph else flat[written].detach())
    z = flat[entries]
    scores = z.detach() @ (cache.flatten(0, 1) if before else new.detach()).T / temperature
    own = torch.stack([entries // 2 * 2 + view for view in left_out], dim=1)
    scores = scores.scatter(1, own, -math.inf)
    drawn = (scores[:, None] - (-uniforms.log()).log()).argmax(dim=-1)
    weights = F.one_hot(drawn, len(flat)).to(z).mean(dim=1) if draws else scores.softmax(dim=1)
    push = (z * (weights @ negatives(flat, new))).sum(dim=1)
    other = (torch.arange(2 * b) + b) % (2 * b) if partner is None else partner(torch.arange(2 * b))
    return (push - (z * z[other]).sum(dim=1)).sum() / (temperature * 2 * b * over), new.view_as(table)


def _cache_stepped(step: Callable, table, index, cache, due, uniforms, temperature):
    """The gradient in the table, the new cache, and whether that is part of a graph."""
    table = table.clone().requires_grad_()
    answer = step(table, index, cache, due, uniforms, temperature)
    if answer is None or answer is ...:
        return answer
    loss, cache = _two_values(answer, "the loss and the new cache")
    return *_gradients(loss, table), cache, _has_graph(cache)


def _cache_step_case(samples, index, due, draws, temperature, seed):
    """The cached views are far from today's."""
    generator = torch.Generator().manual_seed(seed)
    uniforms = torch.rand(2 * len(index), draws, 2 * samples, generator=generator, dtype=torch.float64)
    table, cache = _table(samples, 6, seed), _table(samples, 6, seed + 100)
    return table, torch.tensor(index), cache, torch.tensor(due), uniforms, temperature


cache_step = Exercise(
    "cache_step",
    _cache_step,
    cases=[
        _cache_step_case(4, [2, 0], [3, 6], 1, 0.5, 0),
        _cache_step_case(8, [5, 1, 6], [0, 1, 2, 10], 4, 0.2, 1),
        _cache_step_case(6, [3, 5], [11, 0, 1], 3, 0.07, 2),
        _cache_step_case(10, [9, 4, 7, 0], [13, 14, 15, 16, 17], 6, 1.0, 3),
    ],
    mistakes={
        "The cached embedding pushes here: encode the drawn view again, with today's weights and with gradient": (
            partial(_cache_step, negatives=lambda flat, cache: cache)
        ),
        "The drawn views carry no gradient: encode them with gradient": (
            partial(_cache_step, negatives=lambda flat, cache: flat.detach())
        ),
        "The draws come from the cache as it was: write and refresh first, then draw": (
            partial(_cache_step, before=True)
        ),
        "The entries in `due` are not refreshed": partial(_cache_step, turn=False),
        "The batch's own embeddings are not written into the cache": partial(_cache_step, batch=False),
        "Only one view of the row's own sample is left out: leave out both": partial(_cache_step, left_out=(0,)),
        "The rows are stacked sample by sample here: first one view of each sample, then the second views": (
            partial(_cache_step, by_sample=True, partner=lambda r: r ^ 1)
        ),
        "The positive of row r is row r + b: stack one view of each sample, then the second views": (
            partial(_cache_step, by_sample=True)
        ),
        "The softmax pushes here: push with the shares of the draws": partial(_cache_step, draws=False),
        "The cache holds a graph: write detached embeddings into it": partial(_cache_step, graph=True),
        "Take the mean over the 2b rows, not their sum": (
            lambda table, index, *rest: _cache_step(table, index, *rest, over=1 / (2 * len(index)))
        ),
    },
    runs="The comparison below",
    drive=_cache_stepped,
)


def _sogclr(num_samples, temperature, gamma):
    return SogCLRLoss(num_samples, temperature, gamma).double()


def _class_of(step: Callable, forgets=False, by_place=False, kept="log_u", begin=-math.inf) -> type:
    """A class that keeps log u and calls the step, with a place for each of its mistakes."""

    class Remembering:
        def __init__(self, num_samples, temperature, gamma):
            self.temperature, self.gamma = temperature, gamma
            self.log_u = torch.full((num_samples, 2), begin, dtype=torch.float64)
            self.elsewhere = self.log_u

        def __call__(self, z1, z2, index):
            if forgets:
                self.log_u = torch.full_like(self.log_u, -math.inf)
            index = torch.arange(len(index)) if by_place else index
            loss, new = step(z1, z2, index, getattr(self, kept or "log_u"), self.temperature, self.gamma)
            if kept:
                setattr(self, kept, new)
            return loss

    return Remembering


def _sogclr_driven(kind: Callable, num_samples, temperature, gamma, batches):
    """The gradients in z1 and z2 of each batch, the averages at the end, and whether these are part of a graph."""
    criterion, gradients = kind(num_samples, temperature, gamma), []
    if criterion is None or criterion is ...:
        return criterion
    for z1, z2, index in batches:
        z1, z2 = (z.clone().requires_grad_() for z in (z1, z2))
        loss = criterion(z1, z2, index)
        if loss is None or loss is ...:
            return loss
        gradients += _gradients(loss, z1, z2)
    return *gradients, criterion.log_u, _has_graph(criterion.log_u)


def _class_case(samples, b, batches, temperature, gamma, seed):
    """Batches of a few samples, so that they come again; the embeddings move a little from batch to batch."""
    generator, parts = torch.Generator().manual_seed(seed), []
    for number in range(batches):
        index = torch.randperm(samples, generator=generator)[:b]
        moved = F.normalize(_table(samples, 4, seed) + 0.05 * _table(samples, 4, seed + 1 + number), dim=-1)
        parts.append((*moved[index].unbind(1), index))
    return samples, temperature, gamma, parts


SogCLR = Exercise(
    "SogCLR",
    _sogclr,
    cases=[
        _class_case(8, 3, 7, 0.5, 0.9, 10),
        _class_case(10, 4, 8, 0.07, 0.3, 20),
        _class_case(5, 2, 9, 0.001, 0.1, 30),
    ],
    mistakes={
        "The averages are forgotten between calls: keep them in self.log_u": _class_of(_sogclr_step, forgets=True),
        "The averages belong to places in the batch here: look them up by `index`": (
            _class_of(_sogclr_step, by_place=True)
        ),
        "One batch holds first visits and later ones: ask each row whether this is its first visit": (
            _class_of(partial(_sogclr_step, updated=_first_by_batch))
        ),
        "The weights carry gradient: hold them constant with detach() or torch.no_grad()": (
            _class_of(partial(_sogclr_step, attached=("scores",)))
        ),
        "The weights carry gradient: detaching log_u is not enough, detach the weights too": (
            _class_of(partial(_sogclr_step, attached=("scores", "averages")))
        ),
        "The weights carry gradient through the averages: u is constant too, make it under torch.no_grad()": (
            _class_of(partial(_sogclr_step, attached=("averages",)))
        ),
        "The weights carry gradient, and so does self.log_u: make both under torch.no_grad()": (
            _class_of(partial(_sogclr_step, attached=("scores", "averages", "kept")))
        ),
        "The weights carry gradient through the averages, and self.log_u is in a graph: detach u at once": (
            _class_of(partial(_sogclr_step, attached=("averages", "kept")))
        ),
        "log_u is part of a graph: write it under torch.no_grad(), or each step keeps the memory of all before": (
            _class_of(partial(_sogclr_step, attached=("kept",)))
        ),
        "The new averages are lost after each call: write them into self.log_u": (_class_of(_sogclr_step, kept=None)),
        "The averages are kept, but not in self.log_u: write them there": _class_of(_sogclr_step, kept="elsewhere"),
        "log_u begins at 0, which is a mean of 1: begin at minus infinity, the sign of a row without a visit": (
            _class_of(_sogclr_step, begin=0.0)
        ),
        "The view slots are swapped: row r uses view slot 0, row r + b view slot 1": (
            _class_of(partial(_sogclr_step, slots=(1, 0)))
        ),
        "A first visit starts from the mean itself, not from gamma times the mean": (
            _class_of(partial(_sogclr_step, updated=_never_first))
        ),
        "The two views of a sample share one average: keep one for each view slot": _class_of(_one_average),
        "The positive is among the negatives: leave out both views of the row's own sample": (
            _class_of(partial(_sogclr_step, views_left_out=(0,)))
        ),
        "log_u is kept in float32, too coarse for scores near 1,000: keep it in float64": (
            _class_of(partial(_sogclr_step, divide_by=lambda old, new, batch: new.float().double()))
        ),
        "exp of 1,000 is infinite in float64 too: keep and update the logarithm of u": (
            _class_of(partial(_sogclr_step, updated=_raw_exponentials))
        ),
    },
    runs="The last cell",
    drive=_sogclr_driven,
)
