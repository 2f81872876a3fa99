"""What a step costs at any scale, and how far its chains are from their softmax, predicted."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from scipy.optimize import nnls
from scipy.special import ndtri
from torch import Tensor

from emc2_lite.checks import Bounds, Seed, Temperature, checked_settings
from emc2_lite.losses.two_view import count_negatives

Count = Annotated[int, Bounds(least=1)]
BurnIn = Annotated[float, Bounds(least=0, below=1)]


class ScoreLaw(NamedTuple):
    """How a row's negatives are spread over scores, in bins.

    score: (bins,), l, in nats, growing. mass: (bins,), the share of all negatives with about this score; sums to 1.
    """

    score: Tensor
    mass: Tensor

    @property
    def target(self) -> Tensor:
        """The share of the softmax in each bin: (bins,)."""
        return (self.score + self.mass.log()).softmax(dim=0)

    @property
    def staying(self) -> Tensor:
        """Probability that a chain in each bin refuses a uniform proposal: (bins,)."""
        return self.step.diag() - self.mass

    @property
    def step(self) -> Tensor:
        """Probabilities of a step of the chain between bins, (from, to), for a uniform proposal."""
        move = self.mass * (self.score - self.score[:, None]).clamp(max=0).exp()
        return move + torch.diag(1 - move.sum(dim=1))

    def turned(self, correlation: float) -> Tensor:
        """Probabilities of another score in the place of each, (from, to), for normal scores of this correlation."""
        if correlation == 1:
            return torch.eye(len(self.score), dtype=torch.float64)
        deviation = float((self.mass * self.score.square()).sum().sqrt())
        away = (self.score - correlation * self.score[:, None]) / (deviation * math.sqrt(1 - correlation**2))
        return (-away.square() / 2).softmax(dim=1)

    def largest(self, samples: int) -> float:
        """p_max, the share of the hardest negative in the softmax over 2 (samples - 1) negatives."""
        return float((self.score[-1] - (self.score + self.mass.log()).logsumexp(dim=0)).exp()) / (2 * samples - 2)


@checked_settings
def normal_scores(
    samples: Annotated[int, Bounds(least=3)],
    temperature: Temperature,
    deviation: Annotated[float, Bounds(above=0)],
    bins: Annotated[int, Bounds(least=10, most=2_000)] = 400,
) -> ScoreLaw:
    """Cosines that are normal with mean 0 and this deviation, cut where 2 (samples - 1) draws end on the average.

    In d dimensions independent directions have a deviation of 1 / sqrt(d).

    >>> law = normal_scores(1_000, temperature=0.1, deviation=0.1)
    >>> round(law.mass.sum().item(), 6), round(law.score[-1].item(), 1)  # no negative of 1,998 is nearer, as a rule
    (1.0, 3.3)
    """
    end = min(float(-ndtri(0.5 / (samples - 1))), 1 / deviation)
    edges = torch.linspace(-end, end, bins + 1, dtype=torch.float64)
    mass = torch.special.ndtr(edges).diff()
    return ScoreLaw((edges[1:] + edges[:-1]) / 2 * deviation / temperature, mass / mass.sum())


def score_law(scores: Tensor, bins: int = 400) -> ScoreLaw:
    """The law of measured scores, any shape, in bins of equal width; each bin stands at the mean of its scores.

    >>> score_law(torch.tensor([0.0, 0.0, 1.0]), bins=2)
    ScoreLaw(score=tensor([0., 1.], dtype=torch.float64), mass=tensor([0.6667, 0.3333], dtype=torch.float64))
    """
    flat = scores.detach().double().flatten()
    low, high = flat.min(), flat.max()
    place = ((flat - low) / (high - low).clamp_min(1e-12) * bins).long().clamp_max(bins - 1)
    count = torch.bincount(place, minlength=bins).double()
    total = torch.zeros(bins, dtype=torch.float64).index_add_(0, place, flat)
    return ScoreLaw((total / count)[count > 0], (count / len(flat))[count > 0])


@checked_settings
def distance_to_softmax(law: ScoreLaw, proposals: Annotated[int, Bounds(least=0)]) -> float:
    """Total variation, in [0, 1], between the score of a chain's state after so many uniform proposals and the softmax.

    The chain starts at its first proposal. The law of its score is followed exactly, bin by bin; start and proposals
    are uniform, so that states of one score are equally likely, and their distance is the same.

    >>> law = normal_scores(1_000_000, temperature=0.1, deviation=0.1)
    >>> [round(distance_to_softmax(law, n), 2) for n in (1, 10, 100)]
    [0.38, 0.04, 0.0]
    """
    return _distance(_after(law.mass, law.step, max(proposals - 1, 0)), law)


@checked_settings
def distance_of_visits(
    law: ScoreLaw,
    batch_size: Annotated[int, Bounds(least=2)],
    visits: Count,
    *,
    burn_in: BurnIn = 0.5,
    correlation: Annotated[float, Bounds(least=0, most=1)] = 1.0,
) -> float:
    """Total variation, in [0, 1], between the weights of a chain's last visit and the softmax, score by score.

    A visit has m proposals, and its weights are the mean law of the state over the steps after the burn-in. Between
    visits the anchor's slot may show another view: the score of the state then becomes another one, drawn from
    normal numbers with this `correlation` to the old ones, which the law of all negatives survives. 1 is a slot that
    shows the same view at each visit. For a law of `normal_scores`.

    >>> law = normal_scores(1_000_000, temperature=0.1, deviation=0.1)
    >>> [round(distance_of_visits(law, 4, visits), 2) for visits in (1, 10)]
    [0.1, 0.0]
    """
    m, step = count_negatives(batch_size), law.step
    dropped = math.floor(burn_in * m)
    state = law.mass
    for visit in range(visits):
        state = _after(state if visit == 0 else state @ law.turned(correlation), step, dropped + (visit > 0))
        kept = state / (m - dropped)
        for _ in range(m - dropped - 1):
            state = state @ step
            kept = kept + state / (m - dropped)
    return _distance(kept, law)


def _after(state: Tensor, step: Tensor, steps: int) -> Tensor:
    """The law of the state after so many steps, by powers of two."""
    while steps:
        if steps % 2:
            state = state @ step
        step, steps = step @ step, steps // 2
    return state


def _distance(state: Tensor, law: ScoreLaw) -> float:
    return float((state - law.target).abs().sum() / 2)


@checked_settings
def distance_of_batches(law: ScoreLaw, negatives: Count, draws: Count = 2_000, seed: Seed = 0) -> float:
    """Total variation, in [0, 1], between the mean of DCL's weights over batches and the softmax, score by score.

    A batch has m independent negatives, and DCL weighs them by their own softmax. A negative of score l thus has a mean
    weight of E[exp l / (exp l + S)], S the sum of exp over m - 1 others: the mean over `draws` sums.

    >>> law = normal_scores(1_000_000, temperature=0.1, deviation=0.1)
    >>> [round(distance_of_batches(law, m), 2) for m in (1, 6, 1_000)]
    [0.38, 0.12, 0.0]
    """
    generator = torch.Generator().manual_seed(seed)
    sums = [torch.full((draws,), -torch.inf, dtype=torch.float64)] if negatives == 1 else []
    for some in torch.arange(draws).split(max(1, 2_000_000 // negatives)) if negatives > 1 else ():
        bins = torch.multinomial(law.mass, len(some) * (negatives - 1), replacement=True, generator=generator)
        sums.append(law.score[bins].view(len(some), -1).logsumexp(dim=1))
    mean = (law.score - torch.cat(sums)[:, None]).sigmoid().mean(dim=0)
    return _distance(negatives * law.mass * mean, law)


class Visits(NamedTuple):
    """Means over chains that follow their softmax, a visit to each.

    acceptance_rate: share of the proposals that move the chain. carried_over: mean of w(r, 0). carried_over_share:
    share of the rows with w(r, 0) > 0.
    """

    acceptance_rate: float
    carried_over: float
    carried_over_share: float


@checked_settings
def visits_at_rest(law: ScoreLaw, batch_size: Annotated[int, Bounds(least=2)], burn_in: BurnIn = 0.5) -> Visits:
    """What a visit of a batch does to chains that follow their softmax, with independent uniform proposals.

    A state of score l refuses a proposal with probability s(l), so that after j steps the chain is still there with
    probability s(l)^j; w(r, 0) has the mean of s(l)^j over the kept steps j = B + 1 ... m.

    >>> visits_at_rest(normal_scores(1_000, temperature=0.2, deviation=0.1), batch_size=32).acceptance_rate > 0.7
    True
    """
    m = count_negatives(batch_size)
    dropped = math.floor(burn_in * m)
    leaves = (1 - law.staying).clamp(1e-12, 1)
    first = (1 - leaves) ** (dropped + 1)
    mean = first * -torch.expm1((m - dropped) * torch.log1p(-leaves)) / ((m - dropped) * leaves)
    return Visits(*(float((law.target * value).sum()) for value in (leaves, mean, first)))


@checked_settings
def encoded_again(
    law: ScoreLaw,
    batch_size: Annotated[int, Bounds(least=2)],
    temperature: Temperature,
    *,
    reencode: Annotated[float, Bounds(least=0, most=1)] | None = None,
    burn_in: BurnIn = 0.5,
) -> tuple[float, float]:
    """EMC2's views encoded again for each view of the batch, and those of them with gradient, for chains at rest.

    Without `reencode`, held="encoded": the start of a chain is encoded where no proposal up to the first kept one beats
    every start, l - log U > 1 / temperature, and once more, with gradient, where w(r, 0) > 0. With it,
    held="remembered": a view is encoded with probability reencode w(r, 0), always with gradient. In a large set; in a
    small one a view that several chains hold, or that the batch brings, is not encoded so often.

    >>> law = normal_scores(1_000, temperature=0.2, deviation=0.1)
    >>> encoded_again(law, 32, 0.2, reencode=0.5)[0] < encoded_again(law, 32, 0.2)[0]
    True
    """
    visits = visits_at_rest(law, batch_size, burn_in)
    if reencode is not None:
        return reencode * visits.carried_over, reencode * visits.carried_over
    beats = float((law.mass * (law.score - 1 / temperature).clamp(max=0).exp()).sum())
    starts = (1 - beats) ** (math.floor(burn_in * count_negatives(batch_size)) + 1)
    return starts + visits.carried_over_share, visits.carried_over_share


# Bytes of state a sample, for embeddings of d numbers.
STATE = {
    "NT-Xent": lambda d: 0,
    "DCL": lambda d: 0,
    "SogCLR": lambda d: 8,
    "cache": lambda d: 8 * d + 16,
    "EMC2": lambda d: 32,
    "EMC2 remembered": lambda d: 32 + 4 * d,
}


class Work(NamedTuple):
    """What the busiest process does in a step, or where processes outnumber the cores, the busiest core.

    encodings: forward passes of a view, 3 for one with gradient. passes: calls of the encoder, counted likewise,
    however many views they take. products: multiply-adds between embeddings. candidates: proposals to chains.
    entries: scores of cached embeddings. messages: for which all processes wait for each other, whatever their
    number. turns: messages for which a process waits until another leaves the core. bytes: that leave the process.
    """

    encodings: float
    passes: float
    products: float
    candidates: float
    entries: float
    messages: float
    turns: float
    bytes: float


@checked_settings
def step_work(
    method: Literal[*STATE],  # type: ignore[valid-type]
    *,
    samples: Count,
    batch_size: Count,
    dim: Count,
    weights: Count,
    processes: Count = 1,
    cores: Count | None = None,
    encoded: float = 0.0,
    with_gradient: float = 0.0,
) -> Work:
    """The work of a step, with rows and state shared among the processes by samples.

    Args:
        weights: of the encoder, whose gradients the processes add up.
        cores: that the processes share; by default each has one, or a GPU.
        encoded, with_gradient: views encoded again for each view of the batch, and the part of them with gradient.
    """
    b, d, k = batch_size, dim, processes
    share = max(1, k / (cores or k))  # processes of a core
    rows, columns = 2 * _most(b, k), 2 * b
    entries = columns * 2 * samples / k if method == "cache" else 0.0
    # Messages: lengths, both halves' embeddings, names and views there, two gradients back, numbers, the weights.
    messages = 0 if k == 1 else 9 + (8 if method == "cache" else 0)
    gathered, weighed = 4 * columns * d, 2 * 4 * weights  # bytes; a sum over processes travels twice
    without, some = min(1.0, rows * (encoded - with_gradient)), min(1.0, rows * with_gradient)  # passes, in most steps
    return Work(
        encodings=share * (6 * math.ceil(b / k) + rows * (encoded + 2 * with_gradient)),
        passes=share * (3 + without + 3 * some),
        products=share * ((2 if k == 1 else 3) * rows * columns * d + entries * d),
        candidates=share * rows * count_negatives(b) if method.startswith("EMC2") else 0,
        entries=share * entries,
        messages=messages,
        turns=messages * (share - 1),
        bytes=(3 * gathered + weighed) * (k - 1) / k + (28 * columns * (k - 1) if method == "cache" else 0),
    )


def _most(batch_size: int, processes: int) -> float:
    """A high estimate of the largest number of a batch's samples that one process owns: K numbers that scatter."""
    mean = batch_size / processes
    return min(mean + math.sqrt(2 * mean * (1 - 1 / processes) * math.log(processes)), batch_size)


@checked_settings
def step_memory(
    method: Literal[*STATE],  # type: ignore[valid-type]
    *,
    samples: Count,
    batch_size: Count,
    dim: Count,
    processes: Count = 1,
) -> float:
    """Bytes of a process's state and of its rows' tables in a step, without the encoder's (see `train --dry-run`).

    Scores and their gradients are (rows, 2b); EMC2 has an order and uniforms of (rows, m), the cache scores and
    uniforms of all 2b rows with its part of the 2N entries. On a GPU each process makes the uniforms of all rows.

    >>> step_memory("EMC2", samples=10**10, batch_size=4096, dim=128, processes=64) / 1e9 > 5  # gigabytes, chains alone
    True
    """
    rows, columns = 2 * _most(batch_size, processes), 2 * batch_size
    tables = 8 * rows * columns
    if method == "cache":
        tables += 8 * columns * 2 * samples / processes
    if method.startswith("EMC2"):
        tables += 8 * rows * count_negatives(batch_size)
    return STATE[method](dim) * samples / processes + tables


class Machine(NamedTuple):
    """Seconds for each unit of `Work`, and for a step as such."""

    encodings: float
    passes: float
    products: float
    candidates: float
    entries: float
    messages: float
    turns: float
    bytes: float
    step: float

    def seconds(self, work: Work) -> float:
        """The predicted time of a step."""
        return sum(rate * amount for rate, amount in zip(self, work, strict=False)) + self.step


def fitted_machine(works: Sequence[Work], seconds: Sequence[float]) -> Machine:
    """The machine that explains measured steps best: least squares of relative errors, no rate below 0.

    >>> works = [Work(6 * b, 3, 12 * b * b, 0, 0, 0, 0, 0) for b in (4, 8, 16)]
    >>> machine = fitted_machine(works, [0.5 + 0.1 * work.encodings for work in works])
    >>> round(machine.encodings, 6), round(3 * machine.passes + machine.step, 6)  # two names for one constant here
    (0.1, 0.5)
    """
    amounts = np.array([[*work, 1.0] for work in works])
    scale = np.maximum(amounts.max(axis=0), 1e-300)
    rates, _ = nnls(amounts / scale / np.array(seconds)[:, None], np.ones(len(works)))
    return Machine(*(rates / scale).tolist())
