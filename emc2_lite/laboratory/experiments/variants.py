"""What else could pay: variants of EMC2 and neighbours of 2024 to 2026, trained at equal price at one place of the map.

Most of them do not pay; the record says so, and the library leaves them out.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import Annotated, Any, Literal, NamedTuple

from torch import Generator, Tensor

from emc2_lite.checks import Distinct, Temperature, checked_settings
from emc2_lite.laboratory.experiments import at_rest as shared
from emc2_lite.laboratory.experiments.mapping import OracleViews, train_and_measure
from emc2_lite.laboratory.gradients import BatchSize, Count
from emc2_lite.laboratory.neighbours import FastCLIPLoss, NeuCLIPLoss, SCENTLoss
from emc2_lite.laboratory.statistics import Row
from emc2_lite.losses import Criterion, EMC2Loss
from emc2_lite.losses.two_view import TwoViewBlock
from emc2_lite.sampling import random_uniforms
from emc2_lite.training.optimisers import LearningRate
from emc2_lite.vision.views import Views


class Coin(EMC2Loss):
    """EMC2 that encodes the held view with probability w(r, 0), with weight 1, instead of always with w(r, 0)."""

    def counted(self, block: TwoViewBlock, weight: Tensor, generator: Generator | None) -> Tensor:
        return (random_uniforms(weight.shape, weight.dtype, weight.device, generator) < weight).to(weight)


class Patient(Views):
    """Views that stay: an epoch's two views are shown for `epochs` epochs, before the next two take their place."""

    def __init__(self, views: Views, epochs: int):
        self.views, self.images, self.epochs = views, views.images, epochs

    def make(self, index: Tensor, view: Tensor) -> Tensor:
        return self.views.make(index, 2 * (view // 2 // self.epochs) + view % 2)

    def originals(self, index: Tensor) -> Tensor:
        return self.views.originals(index)


def falling(loss: EMC2Loss, share: float) -> None:
    """Encode less again as the learning rate falls, for then what is remembered is less stale."""
    loss.reencode = 1 - share


class Variant(NamedTuple):
    """make: (samples, temperature, dim, steps of NT-Xent at this price) -> the loss."""

    make: Callable[[int, float, int, int], Criterion]
    shown: Callable[[Views], Views] = lambda views: views
    adapt: Callable[[Any, float], object] = lambda loss, share: None


def _method(name: str) -> Callable[[int, float, int, int], Criterion]:
    return lambda samples, temperature, dim, steps: shared.criterion(name, samples, temperature, dim)


def _remembered(share: float) -> Callable[[int, float, int, int], Criterion]:
    return lambda n, temperature, dim, steps: EMC2Loss(n, temperature, held="remembered", dim=dim, reencode=share)


_STAYING = {
    f"{name}, views stay {epochs} epochs": Variant(_method(name), shown=partial(Patient, epochs=epochs))
    for name, epochs in product(("NT-Xent", "EMC2 remembered"), (2, 5))
}
VARIANTS = {
    **{name: Variant(_method(name)) for name in ("NT-Xent", "SogCLR, gamma=0.3", "EMC2", "EMC2 remembered")},
    "EMC2, a coin": Variant(lambda samples, temperature, dim, steps: Coin(samples, temperature)),
    **{f"EMC2 remembered, reencode={rho:g}": Variant(_remembered(rho)) for rho in (0.0, 0.25, 1.0)},
    "EMC2 remembered, reencode falls": Variant(_remembered(1.0), adapt=falling),
    "EMC2 multiproposal": Variant(_method("EMC2 multiproposal")),
    "EMC2 multiproposal remembered": Variant(_method("EMC2 multiproposal remembered")),
    **_STAYING,
    "FastCLIP": Variant(lambda n, temperature, dim, steps: FastCLIPLoss(n, temperature, steps // 2)),
    "SCENT": Variant(lambda n, temperature, dim, steps: SCENTLoss(n, temperature)),
    "NeuCLIP": Variant(lambda n, temperature, dim, steps: NeuCLIPLoss(n, dim, temperature)),
}
Names = Annotated[Sequence[Literal[*VARIANTS]], Distinct()]  # type: ignore[valid-type]


@checked_settings
def variant_cells(
    *,
    variants: Names = tuple(VARIANTS),
    views: shared.Kinds = ("stored", "endless"),
    temperature: Temperature = 0.07,
    batch_size: BatchSize = 8,
    samples: shared.Digits = shared.DIGITS,
    visits: Count = 20,
    oracle_views: OracleViews = 4,
    learning_rate: LearningRate = 1e-3,
    seeds: Count = 5,
) -> Iterator[Row]:
    """Every variant at one place of the map, for the price of `visits` visits; stored views stay in any case.

    >>> next(variant_cells(views=["stored"], seeds=1))["method"]
    'NT-Xent'
    """
    common = {"temperature": temperature, "batch_size": batch_size, "visits": visits}
    rest: dict[str, Any] = {"samples": samples, "oracle_views": oracle_views, "learning_rate": learning_rate}
    for seed, kind, variant in product(range(seeds), views, variants):
        if kind == "endless" or variant not in _STAYING:
            yield {"method": variant, "views": kind, "seed": seed} | common | rest


def trained_variant(*, method: str, temperature: float, batch_size: int, samples: int, visits: int, **how: Any) -> Row:
    """Train with one variant at a price, and measure: a row of `trained_at_price`, for a cell of `variant_cells`.

    >>> small = {"samples": 8, "visits": 2, "oracle_views": 2, "learning_rate": 1e-3, "seed": 0, "views": "stored"}
    >>> trained_variant(method="SCENT", temperature=0.2, batch_size=4, **small)["relative_price"]
    1.0
    """
    chosen = VARIANTS[method]
    loss = chosen.make(samples, temperature, shared.DIM, visits * samples // batch_size)
    how |= {"batch_size": batch_size, "samples": samples, "visits": visits, "shown": chosen.shown}
    return {"method": method} | train_and_measure(loss, adapt=partial(chosen.adapt, loss), **how)
