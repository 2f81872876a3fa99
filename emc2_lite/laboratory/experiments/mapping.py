"""When does EMC2 pay? Training runs at equal price: a map over batch sizes, temperatures and views, and longer runs.

The two experiments yield cells, the arguments of `trained_at_price`, which makes a row of each. A cell depends on its
arguments alone, so that cells can run in several processes, and finished ones can be kept.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from emc2_lite.checks import Bounds, Distinct, Seed, Temperature, checked_settings
from emc2_lite.laboratory.experiments import at_rest as shared
from emc2_lite.laboratory.gradients import BatchSize, Count
from emc2_lite.laboratory.statistics import Row
from emc2_lite.laboratory.training import priced_steps
from emc2_lite.losses import METHODS, Criterion, global_contrastive_loss
from emc2_lite.training.optimisers import LearningRate
from emc2_lite.training.price import visit_price
from emc2_lite.vision import DigitEncoder
from emc2_lite.vision.views import Views

UNSEEN = 2**40  # the first view number of the endless oracle: no training run comes so far

Method = Literal[*METHODS]  # type: ignore[valid-type]
Kind = Literal["stored", "endless"]
OracleViews = Annotated[int, Bounds(least=2, most=64)]
Budgets = Annotated[Sequence[Count], Distinct()]


@checked_settings
def map_cells(
    *,
    methods: shared.Methods = (
        *("NT-Xent", "DCL", "SogCLR", "SogCLR, gamma=0.3"),
        *("cache", "EMC2", "EMC2 remembered"),
    ),
    temperatures: shared.Temperatures = (0.07, 0.1, 0.2),
    batch_sizes: shared.BatchSizes = (2, 4, 8, 32, 160),
    views: shared.Kinds = ("stored", "endless"),
    samples: shared.Digits = shared.DIGITS,
    visits: Count = 30,
    oracle_views: OracleViews = 4,
    learning_rate: LearningRate = 1e-3,
    seeds: Count = 5,
) -> Iterator[Row]:
    """The map: every method at every temperature, batch size and kind of views, at the price of `visits` visits.

    With the defaults N / b is 718, 359, 180, 45 and 9. Batch size 8 has Adam's `learning_rate`, and the others this
    times sqrt(b / 8), the rule of Malladi et al. 2022, On the SDEs and scaling rules for adaptive gradient algorithms.
    Left out: rates tuned for each method, other lengths of a run (`patience_cells`), and other variants of a method
    (`emc2_lite.laboratory.experiments.variants`).

    >>> [cell["seed"] for cell in map_cells(methods=["DCL"], temperatures=[0.2], batch_sizes=[4], views=["stored"])]
    [0, 1, 2, 3, 4]
    """
    common = {"samples": samples, "visits": visits, "oracle_views": oracle_views}
    # Small batches take the most steps: the longest cells come first, so that no process waits for a late one.
    places = product(range(seeds), sorted(batch_sizes), views, temperatures, methods)
    for seed, size, kind, temperature, method in places:
        place = {"method": method, "temperature": temperature, "batch_size": size, "views": kind, "seed": seed}
        yield place | common | {"learning_rate": learning_rate * math.sqrt(size / 8)}


@checked_settings
def patience_cells(
    *,
    methods: shared.Methods = ("NT-Xent", "SogCLR, gamma=0.3", "EMC2", "EMC2 remembered"),
    visits: Budgets = (30, 120),
    views: shared.Kinds = ("stored", "endless"),
    temperature: Temperature = 0.07,
    batch_size: BatchSize = 8,
    samples: shared.Digits = shared.DIGITS,
    oracle_views: OracleViews = 4,
    learning_rate: LearningRate = 1e-3,
    seeds: Count = 5,
) -> Iterator[Row]:
    """How the lead depends on the length of the run: as the map at batch size 8, for several budgets of `visits`.

    >>> [cell["visits"] for cell in patience_cells(methods=["DCL"], views=["stored"], seeds=1)]
    [120, 30]
    """
    common = {"samples": samples, "oracle_views": oracle_views, "learning_rate": learning_rate}
    for seed, budget, kind, method in product(range(seeds), sorted(visits, reverse=True), views, methods):
        place = {"method": method, "temperature": temperature, "batch_size": batch_size, "views": kind, "seed": seed}
        yield place | {"visits": budget} | common


@checked_settings
def trained_at_price(
    *,
    method: Method,
    temperature: Temperature,
    batch_size: BatchSize,
    views: Kind,
    seed: Seed,
    samples: shared.Digits,
    visits: Count,
    oracle_views: OracleViews,
    learning_rate: LearningRate,
) -> Row:
    """Train a new encoder on digits for the price of `visits` visits, and measure the exact global loss at the end.

    Adam with a learning rate that falls linearly to 0 with the share of the price spent. "stored" views: training and
    the exact loss have views 0 and 1 of each sample. "endless": each epoch shows two new views of each sample, and the
    exact loss is over `oracle_views` others, which training never shows.

    Returns the place (method, temperature, batch_size, views, visits, seed) with
        loss: exact global loss at the end, nats;
        steps: updates; the last one may exceed the budget by part of its price;
        relative_price: mean price of a step over that of NT-Xent's, 6b encodings;
        mean_cosine: mean of <z, z'> over pairs of views of different samples; 1 is collapse to a point.

    Raises: ValueError: on a setting that its description refuses, and on a run that ends with a loss that is no number.

    >>> small = {"samples": 8, "visits": 2, "oracle_views": 2, "learning_rate": 1e-3, "seed": 0, "views": "stored"}
    >>> row = trained_at_price(method="DCL", temperature=0.2, batch_size=4, **small)
    >>> row["steps"], row["relative_price"]
    (4, 1.0)
    """
    how: dict[str, Any] = {"samples": samples, "oracle_views": oracle_views, "learning_rate": learning_rate}
    how |= {"batch_size": batch_size, "views": views, "visits": visits, "seed": seed}
    return {"method": method} | train_and_measure(shared.criterion(method, samples, temperature), **how)


def train_and_measure(
    loss: Criterion,
    *,
    batch_size: int,
    views: Kind,
    visits: int,
    seed: int,
    samples: int,
    oracle_views: int,
    learning_rate: float,
    shown: Callable[[Views], Views] = lambda views: views,
    adapt: Callable[[float], object] = lambda share: None,
) -> Row:
    """`trained_at_price` for any loss; the row has no method.

    Args:
        shown: the views -> the views that training shows in their place.
        adapt: called after each step with the share of the price spent.
    """
    digits = shared.digit_views(samples)
    stored = MadeViews(digits, range(2)) if views == "stored" else None
    torch.manual_seed(seed)
    encoder = DigitEncoder(shared.DIM)
    optimiser = torch.optim.Adam(encoder.parameters(), learning_rate, fused=True)
    budget, steps, spent = visits * visit_price(samples), 0, 0
    how: dict[str, Any] = {"batch_size": batch_size, "budget": budget, "fixed_views": views == "stored", "seed": seed}
    run = priced_steps(encoder, shown(stored or digits), loss, optimiser, **how)
    while spent < budget:
        (spent, _), steps = next(run), steps + 1
        adapt(spent / budget)
    oracle = stored or MadeViews(digits, range(UNSEEN, UNSEEN + oracle_views))
    with torch.no_grad():
        table = encoder(oracle.made.flatten(0, 1)).double().unflatten(0, oracle.made.shape[:2])
    exact = global_contrastive_loss(table, loss.temperature).item()
    place = {"temperature": loss.temperature, "batch_size": batch_size, "views": views, "visits": visits, "seed": seed}
    measured = {"loss": exact, "steps": steps, "relative_price": spent / (6 * batch_size * steps)}
    return place | measured | {"mean_cosine": mean_cosine(table)}


class MadeViews(Views):
    """Views made once and kept: made[i, v] is view number `numbers[v]` of sample i, and is called view v here.

    >>> MadeViews(shared.digit_views(5), range(3)).made.shape
    torch.Size([5, 3, 1, 8, 8])
    """

    def __init__(self, views: Views, numbers: Sequence[int]):
        self.views, self.images = views, views.images
        index, view = torch.cartesian_prod(torch.arange(len(views)), torch.tensor(numbers)).unbind(dim=1)
        self.made = views(index, view).unflatten(0, (len(views), -1))

    def make(self, index: Tensor, view: Tensor) -> Tensor:
        return self.made[index, view]

    def originals(self, index: Tensor) -> Tensor:
        return self.views.originals(index)


def mean_cosine(table: Tensor) -> float:
    """Mean of <z, z'> over all pairs of views of different samples: (N, V, d) -> a number.

    >>> mean_cosine(torch.eye(6).view(3, 2, 6))
    0.0
    """
    samples, views, _ = table.shape
    of_samples = table.sum(dim=1)
    products = of_samples.sum(dim=0).square().sum() - of_samples.square().sum()
    return products.item() / (samples * (samples - 1) * views**2)
