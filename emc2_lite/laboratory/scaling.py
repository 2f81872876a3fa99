"""What a step costs at any scale, and how far its chains are from their softmax, predicted."""

import math
from collections.abc import Sequence
from typing import Annotated, NamedTuple

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
        return 1 - (self.mass * (self.score - self.score[:, None]).clamp(max=0).exp()).sum(dim=1)


@checked_settings
def normal_scores(
    samples: Annotated[int, Bounds(least=2)],
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

    The chain starts at its first proposal. The law of its score is followed exactly, bin by bin; the distance of the
    states themselves is at least this.

    >>> law = normal_scores(1_000_000, temperature=0.1, deviation=0.1)
    >>> [round(distance_to_softmax(law, n), 2) for n in (1, 10, 100)]
    [0.38, 0.04, 0.0]
    """
    if proposals == 0:
        return float((law.mass - law.target).abs().sum() / 2)
    move = law.mass * (law.score - law.score[:, None]).clamp(max=0).exp()  # (from, to)
    step = move + torch.diag(1 - move.sum(dim=1))
    state, remaining = law.mass, proposals - 1
    while remaining:  # powers of two
        if remaining % 2:
            state = state @ step
        step, remaining = step @ step, remaining // 2
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
    return float((negatives * law.mass * mean - law.target).abs().sum() / 2)


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
    """What the busiest process does in a step.

    encodings: forward passes of a view, 3 for one with gradient. products: multiply-adds between embeddings.
    candidates: proposals to chains. entries: scores of cached embeddings. messages, bytes: that leave the process.
    """

    encodings: float
    products: float
    candidates: float
    entries: float
    messages: float
    bytes: float


@checked_settings
def step_work(
    method: str,
    *,
    samples: Count,
    batch_size: Count,
    dim: Count,
    weights: Count,
    processes: Count = 1,
    encoded: float = 0.0,
    with_gradient: float = 0.0,
) -> Work:
    """The work of a step, with rows and state shared among the processes by samples.

    Args:
        method: a name of `STATE`.
        weights: of the encoder, whose gradients the processes add up.
        encoded, with_gradient: views encoded again for each view of the batch, and the part of them with gradient.
    """
    b, d, k = batch_size, dim, processes
    rows, columns = 2 * _most(b, k), 2 * b
    entries = columns * 2 * samples / k if method == "cache" else 0.0
    # Messages: lengths, both halves' embeddings, names and views there, two gradients back, numbers, the weights.
    messages = 0 if k == 1 else 9 + (8 if method == "cache" else 0)
    gathered, weighed = 4 * columns * d, 2 * 4 * weights  # bytes; a sum over processes travels twice
    return Work(
        encodings=6 * math.ceil(b / k) + rows * (encoded + 2 * with_gradient),
        products=(2 if k == 1 else 3) * rows * columns * d + entries * d,
        candidates=rows * count_negatives(b) if method.startswith("EMC2") else 0,
        entries=entries,
        messages=messages,
        bytes=(3 * gathered + weighed) * (k - 1) / k,
    )


def _most(batch_size: int, processes: int) -> float:
    """About the largest number of a batch's samples that one process owns: the mean, and what the luck of K adds."""
    mean = batch_size / processes
    return min(mean + math.sqrt(2 * mean * (1 - 1 / processes) * math.log(processes)), batch_size)


class Machine(NamedTuple):
    """Seconds for each unit of `Work`, and for a step as such."""

    encodings: float
    products: float
    candidates: float
    entries: float
    messages: float
    bytes: float
    step: float

    def seconds(self, work: Work) -> float:
        """The predicted time of a step."""
        return sum(rate * amount for rate, amount in zip(self, work, strict=False)) + self.step


def fitted_machine(works: Sequence[Work], seconds: Sequence[float]) -> Machine:
    """The machine that explains measured steps best: least squares of relative errors, no rate below 0.

    >>> works = [Work(6 * b, 12 * b * b, 0, 0, 0, 0) for b in (4, 8, 16)]
    >>> machine = fitted_machine(works, [0.5 + 0.1 * work.encodings for work in works])
    >>> round(machine.encodings, 6), round(machine.step, 6)
    (0.1, 0.5)
    """
    amounts = np.array([[*work, 1.0] for work in works])
    scale = np.maximum(amounts.max(axis=0), 1e-300)
    rates, _ = nnls(amounts / scale / np.array(seconds)[:, None], np.ones(len(works)))
    return Machine(*(rates / scale).tolist())
