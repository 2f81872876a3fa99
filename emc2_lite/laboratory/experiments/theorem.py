"""The theorem's experiment: where long runs of plain SGD come to rest."""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emc2_lite.checks import Bounds, Distinct, Temperature, checked_settings
from emc2_lite.laboratory.experiments import at_rest as shared
from emc2_lite.laboratory.gradients import BatchSize, Count
from emc2_lite.laboratory.statistics import Row
from emc2_lite.laboratory.training import training_curve
from emc2_lite.training.optimisers import LearningRate
from emc2_lite.vision.views import Views

Measurements = Annotated[int, Bounds(least=2, most=100_000)]


class Anchors(nn.Module):
    """An encoder without a network: view v of sample i is normalise(a_i / |a_i| + offset_iv), the anchors a are learnt.

    The offsets are fixed: differences between the views of a sample that no encoder can undo. An "image" is the pair
    (index, view) itself, see `Pairs`.
    """

    def __init__(self, samples: int, dim: int, offset: float):
        super().__init__()
        self.anchors = nn.Parameter(F.normalize(torch.randn(samples, dim), dim=1))
        self.offsets = nn.Buffer(offset * torch.randn(samples, 2, dim) / dim**0.5)

    def forward(self, pairs: Tensor) -> Tensor:
        index, view = pairs.unbind(dim=1)
        return F.normalize(F.normalize(self.anchors[index], dim=1) + self.offsets[index, view], dim=1)


class Pairs(Views):
    """Views that stand for themselves: (index, view) -> (k, 2)."""

    def __init__(self, samples: int):
        self.samples = samples

    def __len__(self) -> int:
        return self.samples

    def make(self, index: Tensor, view: Tensor) -> Tensor:
        return torch.stack((index, view), dim=1)

    def originals(self, index: Tensor) -> Tensor:
        return self.make(index, torch.zeros_like(index))


@checked_settings
def stationarity(
    *,
    methods: shared.MethodsOrExact = ("NT-Xent", "DCL", "EMC2", "EMC2 multiproposal", shared.EXACT),
    horizons: Annotated[Sequence[Count], Distinct()] = (250, 1000, 4000, 16000),
    temperature: Temperature = 0.2,
    step_size: LearningRate = 0.5,
    batch_size: BatchSize = 4,
    samples: Annotated[int, Bounds(least=2, most=4096)] = 32,
    dim: Annotated[int, Bounds(least=1, most=4096)] = 8,
    offset: Annotated[float, Bounds(least=0)] = 0.3,
    measurements: Measurements = 100,
    seeds: Count = 5,
    progress: shared.Progress = print,
) -> Iterator[Row]:
    """The theorem's experiment: T steps of plain SGD with the constant step size c / sqrt(T), for several horizons T.

    A row has the mean over the run of |e|^2, the exact gradient's squared norm: the theorem bounds it by a constant
    over sqrt(T). The parameters are `Anchors`, brought back to length 1 after each step (left to themselves they would
    grow, and growth alone would shrink their gradient); `step_size` is c.

    >>> (row,) = stationarity(methods=["DCL"], horizons=[4], measurements=4, seeds=1, progress=lambda text: None)
    >>> row["mean_squared_norm"] > 0
    True
    """
    for seed in range(seeds):
        for method, horizon in product(methods, horizons):
            progress(f"seed {seed}: {method}, {horizon} steps")
            torch.manual_seed(seed)
            encoder = Anchors(samples, dim, offset)
            optimiser = torch.optim.SGD(encoder.parameters(), lr=step_size / horizon**0.5)
            loss = shared.criterion(method, samples, temperature, dim)
            size = samples if method == shared.EXACT else batch_size
            to_length_one = partial(_to_length_one, encoder.anchors)
            when: dict[str, Any] = {"checkpoints": _middles(horizon, measurements), "after_step": to_length_one}
            curve = training_curve(
                encoder, Pairs(samples), loss, batch_size=size, optimiser=optimiser, seed=seed, **when
            )
            place = {"method": method, "horizon": horizon, "seed": seed}
            yield place | {"mean_squared_norm": curve.squared_norm.mean().item(), "loss": curve.loss[-1].item()}


def _middles(steps: int, parts: int) -> list[int]:
    """The middle step of each of `parts` equal parts of a run; of two middle steps the first."""
    return [math.ceil(steps * (part + 0.5) / parts - 0.5) for part in range(parts)]


@torch.no_grad()
def _to_length_one(vectors: Tensor) -> None:
    vectors /= vectors.norm(dim=1, keepdim=True)
