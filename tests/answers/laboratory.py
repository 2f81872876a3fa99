"""Right and wrong answers to the exercises of chapter 06.

Letters: runs f and s, exact gradient e; squared biases q; scores s and gumbels g; gradients g, length n of a run;
b samples, n encodings, g with gradient; held score h.
"""

import math
from statistics import mean, stdev

import numpy as np
import torch
from scipy import stats

from emc2_lite.course.checks import laboratory
from emc2_lite.laboratory import exact_gradient, of_seeds
from emc2_lite.sampling import multiproposal

bias = laboratory.squared_bias.reference
interval = laboratory.bias_interval.reference
draw = laboratory.shares_of_draws.reference
noise = laboratory.noise_of_runs.reference
move = laboratory.many_proposals.reference


def squared_bias_in_a_loop(first, second, exact):
    pairs = zip(first.tolist(), second.tolist(), exact.tolist(), strict=True)
    return sum((f - e) * (s - e) for f, s, e in pairs) / sum(e * e for e in exact.tolist())


def interval_of_scipy(squares):
    low, high = stats.t.interval(0.95, len(squares) - 1, squares.mean().item(), stats.sem(squares.numpy()))
    return [np.sqrt(max(x, 0)) for x in (squares.mean().item(), low, high)]


def interval_of_python(squares):
    values = squares.tolist()
    reach = stats.t.ppf(0.975, len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return [math.sqrt(max(0, x)) for x in (mean(values), mean(values) - reach, mean(values) + reach)]


def counted_one_by_one(scores, gumbels):
    weights = torch.zeros(len(scores))
    for row in gumbels:
        weights[(scores + row).argmax()] += 1 / len(gumbels)
    return weights


def noise_in_a_loop(gradients, length, exact):
    means = [gradients[k : k + length].mean(0) for k in range(0, len(gradients) - length + 1, length)]
    centre = sum(means) / len(means)
    squares = sum((m - centre).square().sum() for m in means) / (len(means) - 1)
    return math.sqrt(length * squares) / exact.square().sum().sqrt()


def noise_of_numpy(gradients, length, exact):
    runs = len(gradients) // length
    means = np.stack([part.mean(0) for part in np.split(gradients.numpy()[: runs * length], runs)])
    return np.sqrt(length * means.var(0, ddof=1).sum() / (exact.numpy() ** 2).sum())


def proposed_and_accepted(scores, held_score):
    """Propose by the softmax without the state held, then accept, one proposal after the other."""
    *q, held = torch.cat((scores, held_score[None])).double().softmax(0).tolist()
    weights = [x / (1 - held) * (min(1, (1 - held) / (1 - x)) if x < 1 else 1) for x in q]
    return weights, 1 - sum(weights)


def generators_of_their_own(make, table, temperature, batch_size, seeds, steps):
    """Each run has a generator of its own, and the runs of a seed go side by side."""
    e, squares = exact_gradient(table, temperature), []
    for seed in seeds:
        errors = []
        for run in (0, 1):
            generator, criterion, gradients = torch.Generator().manual_seed(2 * seed + run), make(), []
            for _ in range(steps):
                z = table.clone().requires_grad_()
                index = torch.randperm(len(z), generator=generator)[:batch_size]
                view = torch.tensor([[0] * batch_size, [1] * batch_size])
                loss = criterion(z[index, 0], z[index, 1], index, view, lambda i, v, z=z: z[i, v], generator)
                loss.backward()
                gradients.append(z.grad)
            errors.append((torch.stack(gradients).mean(0) - e) / e.norm())
        squares.append((errors[0] * errors[1]).sum().item())
    return interval_unrooted(squares)


def interval_unrooted(squares):
    reach = stats.t.ppf(0.975, len(squares) - 1) * stdev(squares) / len(squares) ** 0.5
    return mean(squares), mean(squares) - reach, mean(squares) + reach


def all_pairs_of_three_runs(make, table, temperature, batch_size, seeds, steps):
    e, squares = exact_gradient(table, temperature).flatten(), []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        runs = torch.stack([run(make(), table, batch_size, steps, generator) for _ in range(3)]) - e
        products = runs @ runs.T / (e @ e)
        squares.append(((products.sum() - products.trace()) / 6).item())
    return of_seeds(squares)


def run(criterion, table, batch_size, steps, generator):
    z, total = table.clone().requires_grad_(), 0
    for _ in range(steps):
        index = torch.randperm(len(table), generator=generator)[:batch_size]
        loss = criterion(*z[index].unbind(1), index, encode=lambda i, v: z[i, v], generator=generator)
        total = total + torch.autograd.grad(loss, z)[0]
    return (total / steps).flatten().double()


def steps_for_seeds(make, table, temperature, batch_size, seeds, steps):
    """Every pair of steps counts as a seed of its own, though the steps of a run resemble each other."""
    e, squares = exact_gradient(table, temperature).flatten(), []
    for seed in seeds:
        generator, pair = torch.Generator().manual_seed(seed), (make(), make())
        for _ in range(5 * steps):
            squares.append(bias(*(run(c, table, batch_size, 1, generator) for c in pair), e).item())
    return of_seeds(squares)


def the_sum_of_steps(make, table, temperature, batch_size, seeds, steps):
    e = exact_gradient(table, temperature).flatten()
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return of_seeds([
        bias(*(steps * run(make(), table, batch_size, steps, g) for _ in range(2)), e).item() for g in generators
    ])  # fmt: skip


def seeds_unused(make, table, temperature, batch_size, seeds, steps):
    return laboratory.experiment.reference(make, table, temperature, batch_size, range(len(seeds)), steps)


def value_alone(*how):
    return laboratory.experiment.reference(*how).value


def urn(s, h):
    q = torch.cat((s, h[None])).softmax(dim=0)
    return q[:-1], q[-1]


def filled_up(weights):
    return weights, 1 - weights.sum()


def strided(g, n, e):
    """Runs of every k-th step instead of steps in a row."""
    runs = len(g) // n
    return noise(g[: runs * n].unflatten(0, (n, runs)).transpose(0, 1).flatten(0, 1), n, e)


RIGHT = [
    (laboratory.squared_bias, lambda first, second, e: sum((first - e) * (second - e)) / e.norm() ** 2),
    (laboratory.squared_bias, squared_bias_in_a_loop),
    (laboratory.squared_bias, lambda f, s, e: torch.einsum("p,p->", (f - e) / e.norm(), (s - e) / e.norm())),
    (laboratory.bias_interval, interval_of_scipy),
    (laboratory.bias_interval, interval_of_python),
    (laboratory.bias_interval, lambda q: torch.tensor(of_seeds(q.tolist())).clamp(min=0).sqrt()),
    (laboratory.shares_of_draws, counted_one_by_one),
    (
        laboratory.shares_of_draws,
        lambda s, g: torch.nn.functional.one_hot((s + g).argmax(1), len(s)).double().mean(0),
    ),
    (laboratory.shares_of_draws, lambda s, g: np.bincount((s + g).topk(1).indices[:, 0], minlength=len(s)) / len(g)),
    (laboratory.noise_of_runs, noise_in_a_loop),
    (laboratory.noise_of_runs, noise_of_numpy),
    (laboratory.relative_price, lambda b, encoded, with_gradient: 1 + (encoded + 2 * with_gradient) / 6 / b),
    (laboratory.relative_price, lambda b, n, g: sum((6 * b, n - g, 3 * g)) / (6 * b)),
    (laboratory.many_proposals, proposed_and_accepted),
    (laboratory.many_proposals, lambda s, h: tuple(part[0] for part in multiproposal(s[None], h[None])[:2])),
    (laboratory.experiment, generators_of_their_own),
    (laboratory.experiment, all_pairs_of_three_runs),
]

WRONG = [
    (laboratory.squared_bias, lambda f, s, e: bias(f, s, e).abs()),
    (laboratory.squared_bias, lambda f, s, e: (f - e) @ (s - e) / (f @ s)),
    (laboratory.squared_bias, lambda f, s, e: (f - s) @ (f - s) / (e @ e)),
    (laboratory.squared_bias, lambda f, s, e: bias(f, s, e) / 2),
    (laboratory.squared_bias, lambda f, s, e: bias(f, s, e).clamp_min(0).sqrt()),
    (laboratory.squared_bias, lambda f, s, e: (f - e) @ (s - e) / e.sum() ** 2),
    (laboratory.squared_bias, lambda f, s, e: ((f - e) / e) @ ((s - e) / e) / len(e)),
    (laboratory.bias_interval, lambda q: (interval(q)[0], interval(q)[0], interval(q)[0])),
    (laboratory.bias_interval, lambda q: (interval(q)[1], interval(q)[0], interval(q)[2])),
    (laboratory.bias_interval, lambda q: interval(q.median() + q - q.mean())),
    (laboratory.bias_interval, lambda q: (q.clamp_min(0).mean().sqrt(), q.clamp_min(0).min().sqrt(), q.max().sqrt())),
    (laboratory.bias_interval, lambda q: interval(q.abs())),
    (laboratory.bias_interval, lambda q: (interval(q)[0], -interval(q)[2], interval(q)[2])),
    (laboratory.shares_of_draws, lambda s, g: draw(s, -g)),
    (laboratory.shares_of_draws, lambda s, g: draw(-s, g)),
    (laboratory.shares_of_draws, lambda s, g: (s + g).softmax(dim=1).mean(dim=0)),
    (laboratory.shares_of_draws, lambda s, g: draw(s, g) * s.softmax(0) / (draw(s, g) * s.softmax(0)).sum()),
    (laboratory.shares_of_draws, lambda s, g: draw(s, g.mean(0, keepdim=True))),
    (laboratory.shares_of_draws, lambda s, g: draw(s, g.amax(0, keepdim=True))),
    (laboratory.noise_of_runs, strided),
    (laboratory.noise_of_runs, lambda g, n, e: noise(g, n, e) * len(g) ** 0.5),
    (laboratory.noise_of_runs, lambda g, n, e: noise(g[: max(n, 2)], 1, e)),
    (laboratory.noise_of_runs, lambda g, n, e: noise(g[len(g) % n :], n, e)),
    (laboratory.noise_of_runs, lambda g, n, e: math.sqrt(n) * g[: len(g) // n * n].mean(0).norm() / e.norm()),
    (laboratory.noise_of_runs, lambda g, n, e: g.unfold(0, n, 1).mean(2).var(0).sum().mul(n).sqrt() / e.norm()),
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
    (laboratory.experiment, steps_for_seeds),
    (laboratory.experiment, the_sum_of_steps),
    (laboratory.experiment, seeds_unused),
    (laboratory.experiment, value_alone),
    (laboratory.experiment, lambda *how: tuple(laboratory.experiment.reference(*how))[::-1]),
]
