"""Exercises of chapter 06; in the mistakes: runs a and b, gradient e; batch size b, n encodings, g with gradient."""

import itertools
import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from scipy.special import stdtrit
from torch import Tensor

from emc2_lite.course.exercise import Exercise
from emc2_lite.laboratory import Interval, embedding_table, exact_gradient, of_seeds
from emc2_lite.losses import DCLLoss


def _vectors(count, dim, seed):
    return tuple(torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def _squared_bias(first, second, exact):
    return (first - exact) @ (second - exact) / (exact @ exact)


squared_bias = Exercise(
    "squared_bias",
    _squared_bias,
    cases=[
        _vectors(3, 6, seed=0),
        _vectors(3, 2, seed=1),
        (torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0]), torch.tensor([1.0, 1.0])),
        (torch.tensor([3.0, 1.0]), torch.tensor([2.0, 2.0]), torch.tensor([1.0, 2.0])),
    ],
    mistakes={
        "This squares one run's error, noise included: multiply both errors": lambda a, b, e: _squared_bias(a, a, e),
        "The mean of both runs still has their noise in its square: multiply their errors instead": (
            lambda a, b, e: _squared_bias((a + b) / 2, (a + b) / 2, e)
        ),
        "This multiplies lengths, and lengths have no sign: take the inner product of the two errors": (
            lambda a, b, e: (a - e).norm() * (b - e).norm() / (e @ e)
        ),
        "The divisor is missing: divide by the squared length of the exact gradient": lambda a, b, e: (a - e) @ (b - e),
        "The divisor is the exact gradient's length: take its square": lambda a, b, e: (a - e) @ (b - e) / e.norm(),
        "Subtract the exact gradient from both runs": lambda a, b, e: a @ b / (e @ e) - 1,
        "The estimate may be negative: keep its sign": lambda a, b, e: _squared_bias(a, b, e).clamp_min(0),
        "The inner product is a sum over the parameters, not a mean": lambda a, b, e: _squared_bias(a, b, e) / len(e),
    },
    runs="The next figure",
)


def _numbers(*values):
    return (torch.tensor(values, dtype=torch.float64),)


def _roots(three):
    return tuple(max(float(number), 0.0) ** 0.5 for number in three)


def _t_interval(values, error=None, quantile=None, share=0.975, lost=1):
    """The interval as a learner may write it: another error or quantile, n - `lost` degrees of freedom."""
    error = values.std() / len(values) ** 0.5 if error is None else error
    quantile = float(stdtrit(len(values) - lost, share)) if quantile is None else quantile
    return values.mean(), values.mean() - quantile * error, values.mean() + quantile * error


bias_interval = Exercise(
    "bias_interval",
    lambda squares: _roots(of_seeds(squares.tolist())),
    cases=[
        _numbers(0.09, 0.04, 0.11, 0.08, 0.06),
        _numbers(0.03, -0.01, 0.02, -0.02),
        _numbers(0.5, 0.7, 0.6),
        _numbers(-0.02, 0.01, -0.01, -0.03),
        _numbers(0.95, 1.0),
        _numbers(0.3, 0.2, 0.25, 0.22, 0.35, 0.31, 0.24, 0.27),
    ],
    mistakes={
        "This is the spread of single seeds: divide by the square root of their number": (
            lambda s: _roots(_t_interval(s, s.std()))
        ),
        "1.96 is right for a known spread: with few seeds take Student's quantile": (
            lambda s: _roots(_t_interval(s, quantile=1.96))
        ),
        "Student's quantile belongs to n - 1, not to n": lambda s: _roots(_t_interval(s, lost=0)),
        "The deviation of a sample divides by n - 1: correction=1, torch's default": (
            lambda s: _roots(_t_interval(s, s.std(correction=0) / len(s) ** 0.5))
        ),
        "The roots come before the mean here: negative estimates must keep their sign until the end": (
            lambda s: tuple(of_seeds(s.clamp_min(0).sqrt().tolist()))
        ),
        "Negative estimates count: set none of them to 0 before the mean": (
            lambda s: _roots(of_seeds(s.clamp_min(0).tolist()))
        ),
        "These are squares: take the root of the mean and of both ends": lambda s: tuple(of_seeds(s.tolist())),
        "95 % leaves 2.5 % on each side: take the quantile at 0.975, not at 0.95": (
            lambda s: _roots(_t_interval(s, share=0.95))
        ),
    },
    runs="The next figure",
)


def _gumbels(draws, count, seed):
    uniforms = torch.rand(draws, count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return -(-uniforms.log()).log()


def _shares_of_draws(scores, gumbels):
    winners = (scores + gumbels).argmax(dim=1)
    return torch.bincount(winners, minlength=len(scores)) / len(gumbels)


def _different_ones(scores, gumbels):
    drawn = (scores + gumbels[0]).topk(len(gumbels)).indices
    return torch.zeros_like(scores).index_fill(0, drawn, 1 / len(gumbels))


def _one_for_all(scores, gumbels):
    return _shares_of_draws(scores, gumbels[:1])


def _without_scores(scores, gumbels):
    return _shares_of_draws(torch.zeros_like(scores), gumbels)


def _once_each(scores, gumbels):
    drawn = (_shares_of_draws(scores, gumbels) > 0).double()
    return drawn / drawn.sum()


def _added_once(scores, gumbels):
    return (_shares_of_draws(scores, gumbels) > 0).double() / len(gumbels)


shares_of_draws = Exercise(
    "shares_of_draws",
    _shares_of_draws,
    cases=[
        (torch.tensor([3.0, 2.0, 1.0, 0.0], dtype=torch.float64), _gumbels(3, 4, seed=4)),
        (torch.tensor([0.5, 4.0, 3.5, 0.0, 3.0], dtype=torch.float64), _gumbels(4, 5, seed=4)),
        (torch.tensor([1.0, 0.0, 0.5], dtype=torch.float64), _gumbels(1, 3, seed=1)),
        (torch.tensor([2.0, 1.5, 0.0, 1.0, -1.0, 0.5, 1.8, 0.0], dtype=torch.float64), _gumbels(7, 8, seed=3)),
        (torch.tensor([0.2, 0.1, 0.0, 0.3, 0.4, 0.1], dtype=torch.float64), _gumbels(6, 6, seed=5)),
    ],
    mistakes={
        "The bug is still in it": _different_ones,
        "All draws are the same one: each needs a row of gumbels of its own": _one_for_all,
        "A negative drawn twice counts once: += adds a repeated index once; count with bincount": _added_once,
        "A negative that is drawn twice counts twice: divide its count by the number of draws": _once_each,
        "The scores play no part here: add them to each row of gumbels": _without_scores,
        "These are counts: divide by the number of draws": lambda s, g: _shares_of_draws(s, g) * len(g),
        "This is the softmax itself: count the draws": lambda s, g: s.softmax(dim=0),
    },
    runs="The next cell",
)


def _steps(steps, dim, seed, carried=0.0):
    """Gradients of a run whose neighbours resemble each other: each carries a share of the one before."""
    noise = torch.randn(steps, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for step in range(1, steps):
        noise[step] += carried * noise[step - 1]
    return noise + 1.5


def _blocks(gradients, length):
    return gradients[: len(gradients) // length * length].unflatten(0, (-1, length))


def _noise_of_runs(gradients, length, exact):
    return (length * _blocks(gradients, length).mean(dim=1).var(dim=0).sum()).sqrt() / exact.norm()


def _about_the_exact_one(gradients, length, exact):
    means = _blocks(gradients, length).mean(dim=1)
    return (length * (means - exact).square().sum() / (len(means) - 1)).sqrt() / exact.norm()


def _rest_kept(gradients, length, exact):
    means = torch.stack([run.mean(dim=0) for run in gradients.split(length)])
    return (length * means.var(dim=0).sum()).sqrt() / exact.norm()


def _about_the_mean_of_all(gradients, length, exact):
    return _about_the_exact_one(gradients, length, gradients.mean(dim=0)) * gradients.mean(dim=0).norm() / exact.norm()


noise_of_runs = Exercise(
    "noise_of_runs",
    _noise_of_runs,
    cases=[
        (_steps(12, 3, seed=0), 1, torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64)),
        (_steps(23, 4, seed=1, carried=0.8), 5, torch.tensor([0.5, 0.0, 1.0, 2.0], dtype=torch.float64)),
        (_steps(14, 1, seed=2, carried=-0.6), 3, torch.tensor([2.0], dtype=torch.float64)),
        (_steps(31, 6, seed=3, carried=0.5), 8, torch.full((6,), 0.7, dtype=torch.float64)),
    ],
    mistakes={
        "This is the noise of the mean itself: multiply by the root of the run's length": (
            lambda g, n, e: _noise_of_runs(g, n, e) / n**0.5
        ),
        "This multiplies by the length, not by its root: the square has the length": (
            lambda g, n, e: _noise_of_runs(g, n, e) * n**0.5
        ),
        "These are distances from the exact gradient, bias included: subtract the mean of the runs": (
            _about_the_exact_one
        ),
        "Leave out the rest at the end": _rest_kept,
        "Subtract the mean of the runs, not that of all steps: the rest at the end is left out": _about_the_mean_of_all,
        "This is the noise of single steps: average over each run first": lambda g, n, e: _noise_of_runs(g, 1, e),
        "This is the square: take the root": (lambda g, n, e: n * _blocks(g, n).mean(dim=1).var(dim=0).sum() / (e @ e)),
        "The squared distance of two gradients is a sum over the parameters, not a mean": (
            lambda g, n, e: _noise_of_runs(g, n, e) / g.shape[1] ** 0.5
        ),
        "Divide the sum of squares by the number of runs less 1, as torch's var does": (
            lambda g, n, e: (n * _blocks(g, n).mean(dim=1).var(dim=0, correction=0).sum()).sqrt() / e.norm()
        ),
        "The share of the exact gradient's length is missing: divide by that length": (
            lambda g, n, e: _noise_of_runs(g, n, e) * e.norm()
        ),
    },
    runs="The next figure",
)


def _many_proposals(scores, held_score):
    q, held = _urn(scores, held_score)
    return _with_the_rest(q / (1 - torch.minimum(q, held)))


def _urn(scores, held_score):
    q = torch.cat((scores, held_score[None])).softmax(dim=0)
    return q[:-1], q[-1]


def _with_the_rest(weights):
    return weights, 1 - weights.sum()


def _of_exponentials(scores, held_score):
    total = scores.exp().sum() + held_score.exp()
    q, held = scores.exp() / total, held_score.exp() / total
    return _with_the_rest(q / (1 - torch.minimum(q, held)))


def _every_one_accepted(scores, held_score):
    q, held = _urn(scores, held_score)
    return q / (1 - held), torch.zeros(())


def _ratio_upside_down(scores, held_score):
    q, held = _urn(scores, held_score)
    return _with_the_rest(q / (1 - held) * ((1 - q) / (1 - held)).clamp(max=1))


def _larger_in_the_divisor(scores, held_score):
    q, held = _urn(scores, held_score)
    return _with_the_rest(q / (1 - torch.maximum(q, held)))


many_proposals = Exercise(
    "many_proposals",
    _many_proposals,
    cases=[
        (torch.tensor([1.0, 0.0, 2.0]), torch.tensor(1.5)),
        (torch.tensor([0.0, 0.0, 0.0, 0.0]), torch.tensor(0.0)),
        (torch.tensor([3.0, -1.0]), torch.tensor(-math.inf)),
        (torch.tensor([120.0, 118.0]), torch.tensor(119.0)),
        (torch.tensor([0.5]), torch.tensor(1.5)),
    ],
    mistakes={
        "This is the softmax over the urn, which stays more than it must: divide by 1 less the smaller share": _urn,
        "Every proposal is accepted here: the chain must stay now and then to be reversible": _every_one_accepted,
        "The ratio of the acceptance is upside down: the held state's 1 - p is above, the proposal's below": (
            _ratio_upside_down
        ),
        "The divisor has the larger of the two shares: take the smaller one": _larger_in_the_divisor,
        "All weights must sum to 1: the state held has what the proposals leave": (
            lambda s, h: (_many_proposals(s, h)[0], _urn(s, h)[1])
        ),
        "exp of 120 is infinite in float32: take a softmax over all scores": _of_exponentials,
    },
    runs="The transition matrix",
)

relative_price = Exercise(
    "relative_price",
    lambda batch_size, encoded, with_gradient: 1 + (encoded + 2 * with_gradient) / (6 * batch_size),
    cases=[(4, 12.0, 5.0), (32, 70.7, 23.4), (8, 16.0, 16.0), (16, 0.0, 0.0), (2, 3.0, 0.0)],
    mistakes={
        "Encodings with gradient are counted twice: `encoded` includes them": lambda b, n, g: 1 + (n + 3 * g) / 6 / b,
        "An encoding without gradient has no backward pass: it costs 1, not 3": lambda b, n, g: 1 + 3 * n / 6 / b,
        "An encoding with gradient needs its backward pass too: it costs 3, not 1": lambda b, n, g: 1 + n / 6 / b,
        "A batch of b samples has 2b views": lambda b, n, g: 1 + (n + 2 * g) / 3 / b,
        "This is the surcharge: the price includes the batch's own views": lambda b, n, g: (n + 2 * g) / 6 / b,
    },
    runs="The next figure",
)


# The open build. A learner's experiment is run on three estimators whose squared bias is known, with eight lists of
# seeds each. With other random numbers, a right experiment is refused once or twice in a thousand times: its intervals
# missed the truth in 6 % of 400 trials, so they miss it in more than three of eight with a chance of 0.0008.
_REPEATS, _MISSES = 8, 3
_TABLE, _TEMPERATURE = embedding_table(num_samples=6, dim=3, view_noise=0.2, seed=3), 0.1
_SEEDS = list(range(16))
_DRAWN: list = []  # the first random numbers of each noisy criterion in one call of an experiment


class _TooLong:
    """DCL, one and a half times as long: with the whole set in a batch, the gradient is 1.5 times the exact one."""

    def __init__(self):
        self.loss = DCLLoss(_TEMPERATURE)

    def __call__(self, z1, z2, index, view=None, encode=None, generator=None):
        return 1.5 * self.loss(z1, z2, index)


class _WithMemory(_TooLong):
    """DCL, and a push that is drawn at the first call and stays: its mean is 0 over criteria, not over steps."""

    push: Tensor | None = None

    def __call__(self, z1, z2, index, view=None, encode=None, generator=None):
        if self.push is None:
            self.push = 0.6 * torch.randn(2, len(_TABLE), _TABLE.shape[2], generator=generator)
            _DRAWN.append(tuple(self.push.flatten().tolist()))
        pushed = (self.push[0, index] * z1).sum() + (self.push[1, index] * z2).sum()
        return self.loss(z1, z2, index) + pushed


class _InBatch(_TooLong):
    """DCL itself, biased where the batch is a part of the set: the mean over all batches is exact."""

    new = True

    def __call__(self, z1, z2, index, view=None, encode=None, generator=None):
        if self.new and generator is not None:
            _DRAWN.append(torch.rand((), generator=generator, dtype=torch.float64).item())
        self.new = False
        return self.loss(z1, z2, index)


@cache
def _known(make: Callable, batch_size: int) -> float:
    """The squared bias: 0 for `_WithMemory`, else from the mean over all batches."""
    if make is _WithMemory:
        return 0.0
    table, gradients = _TABLE.clone().requires_grad_(), []
    for chosen in itertools.combinations(range(len(_TABLE)), batch_size):
        index = torch.tensor(chosen)
        gradients.append(torch.autograd.grad(make()(*table[index].unbind(1), index), table)[0])
    exact = exact_gradient(_TABLE, _TEMPERATURE)
    return ((torch.stack(gradients).double().mean(dim=0) - exact).norm() / exact.norm()).item() ** 2


def _repeated(experiment: Callable, make: Any, table: Tensor, temperature: float, *how: Any) -> Any:
    """Value, low and high for each list of seeds: (repeats, 3), or in words what is wrong with the runs of one list.

    NotImplemented for anything else than three numbers.
    """
    batch_size, seeds, steps = how
    rows = []
    for repeat in range(_REPEATS):
        shifted = [seed + 1000 * repeat for seed in seeds]
        _DRAWN.clear()
        found = experiment(make, table.clone(), temperature, batch_size, shifted, steps)
        if found is None or found is ...:
            return found
        if len(set(_DRAWN)) < len(_DRAWN):
            return "runs that share their random numbers"
        try:
            rows.append([float(number) for number in found])
        except (TypeError, ValueError):
            return NotImplemented
    sizes = {len(row) for row in rows}
    return torch.tensor(rows, dtype=torch.float64) if sizes == {3} else NotImplemented


@cache
def _half_width(make: Callable, batch_size: int, steps: int) -> float:
    """The mean half-width of the reference's intervals."""
    found = _repeated(_experiment, make, _TABLE, _TEMPERATURE, batch_size, _SEEDS, steps)
    return (found[:, 2] - found[:, 1]).mean().item() / 2


def _tried(experiment, make, table, temperature, batch_size, seeds, steps):
    """In words, what the intervals of an experiment do about the known squared bias of an estimator."""
    own = getattr(experiment, "__module__", "") == __name__  # a known mistake: it gives the same each time
    words = _words_of_own if own else _words
    return words(experiment, make, batch_size, tuple(seeds), steps)


def _words(experiment: Callable, make: Any, batch_size: int, seeds: Sequence[int], steps: int) -> Any:
    truth, fair = _known(make, batch_size), _half_width(make, batch_size, steps)
    found = _repeated(experiment, make, _TABLE, _TEMPERATURE, batch_size, list(seeds), steps)
    if found is None or found is ... or isinstance(found, str):  # an empty stub, a missing return, or shared runs
        return found
    if found is NotImplemented:
        return "something else than value, low and high"
    if not found.isfinite().all():
        return f"intervals that are not finite, for a squared bias of {truth:.3f}"
    value, low, high = found.T
    if make is _TooLong:  # no noise: the intervals are points
        return f"a squared bias of {value.mean():.3f}, from {low.mean():.3f} to {high.mean():.3f}"
    if (found == found[0]).all():
        return "the same interval for other seeds"
    shift = (value.mean().item() - truth) / fair
    where = "around"
    if ((low > truth + 1e-9) | (high < truth - 1e-9)).sum() > _MISSES:
        where = "far above" if shift > 3 else "above" if shift > 0.3 else "below" if shift < -0.3 else "too narrow for"
    elif (high - low).mean().item() / 2 > 2 * fair:
        where = "much too wide for"
    return f"intervals {where} the squared bias of {truth:.3f}"


_words_of_own = cache(_words)


def _run(criterion, table, batch_size, steps, generator):
    """Mean gradient in the table, flat."""
    parameters, total = table.clone().requires_grad_(), 0
    for _ in range(steps):
        index = torch.randperm(len(table), generator=generator)[:batch_size]
        z1, z2 = parameters[index].unbind(1)
        loss = criterion(z1, z2, index, encode=lambda i, v: parameters[i, v], generator=generator)
        total = total + torch.autograd.grad(loss, parameters)[0]
    return (total / steps).flatten().double()


def _pairs(make, table, temperature, batch_size, seeds, steps, product=_squared_bias):
    """One estimate of the squared bias per seed."""
    exact, squares = exact_gradient(table, temperature).flatten(), []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        runs = [_run(make(), table, batch_size, steps, generator) for _ in range(2)]
        squares.append(float(product(*runs, exact)))
    return squares


def _experiment(make, table, temperature, batch_size, seeds, steps):
    return of_seeds(_pairs(make, table, temperature, batch_size, seeds, steps))


def _with(product: Callable) -> Callable:
    return lambda make, table, temperature, batch_size, seeds, steps: of_seeds(
        _pairs(make, table, temperature, batch_size, seeds, steps, product)
    )


def _deviation(*how):
    value, low, high = _experiment(*how)
    reach = (high - low) / 2 * len(how[4]) ** 0.5
    return value, value - reach, value + reach


def _one_criterion(make, *how):
    criterion = make()
    return _experiment(lambda: criterion, *how)


def _one_seed(make, table, temperature, batch_size, seeds, steps):
    (value,) = _pairs(make, table, temperature, batch_size, seeds[:1], steps)
    return Interval(value, math.nan, math.nan)


def _neighbours(make, table, temperature, batch_size, seeds, steps):
    """The two runs of seed s are seeded s and s + 1: the second is the first of the next seed."""
    exact, squares = exact_gradient(table, temperature).flatten(), []
    for seed in seeds:
        generators = [torch.Generator().manual_seed(seed + place) for place in range(2)]
        runs = [_run(make(), table, batch_size, steps, generator) for generator in generators]
        squares.append(float(_squared_bias(*runs, exact)))
    return of_seeds(squares)


def _rooted(*how):
    return [max(number, 0.0) ** 0.5 for number in _experiment(*how)]


def _clipped(*how):
    return of_seeds([max(square, 0.0) for square in _pairs(*how)])


experiment = Exercise(
    "experiment",
    _experiment,
    cases=[
        (_TooLong, _TABLE, _TEMPERATURE, len(_TABLE), _SEEDS[:3], 2),
        (_WithMemory, _TABLE, _TEMPERATURE, len(_TABLE), _SEEDS, 2),
        (_InBatch, _TABLE, _TEMPERATURE, 3, _SEEDS, 3),
    ],
    mistakes={
        "No two of all runs may share their random numbers, neither the two of a seed nor those of two seeds": (
            _neighbours
        ),
        "The square of one run's error has its noise in it: multiply the errors of two independent runs": (
            _with(lambda a, b, e: _squared_bias(a, a, e))
        ),
        "Both runs use the same criterion, and what it remembers is in both: make a new one for each run": (
            _one_criterion
        ),
        "The interval has the standard deviation of the seeds: the standard error is that over the root of their "
        "number": _deviation,
        "One seed has no spread, and no interval: make one estimate per seed": _one_seed,
        "This is the bias: return its square, so that a mean of 0 can be seen": _rooted,
        "Negative estimates are set to 0 here, which makes the mean too large: keep their sign": _clipped,
        "The share of the exact gradient's squared length is missing": _with(lambda a, b, e: (a - e) @ (b - e)),
    },
    runs="The next cell",
    drive=_tried,
)
