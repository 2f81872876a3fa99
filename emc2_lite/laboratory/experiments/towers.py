"""Two towers: digits and their spelled names, trained with CLIP's loss and with EMC2 between two encoders."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emc2_lite.checks import Distinct, Seed, Temperature, checked_settings
from emc2_lite.evaluation import wilson
from emc2_lite.laboratory.experiments import at_rest as shared
from emc2_lite.laboratory.gradients import BatchSize, Count
from emc2_lite.laboratory.statistics import Row
from emc2_lite.losses import METHODS, global_contrastive_loss, make_criterion
from emc2_lite.training.loop import EpochSampler
from emc2_lite.training.optimisers import LearningRate
from emc2_lite.training.price import step_price, visit_price
from emc2_lite.vision import DigitEncoder, load_digits

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LETTERS, LONGEST = 26, max(map(len, NAMES))

Methods = Annotated[Sequence[Literal[*METHODS]], Distinct()]  # type: ignore[valid-type]


def spelled(labels: Tensor) -> Tensor:
    """The names of digits letter by letter, one-hot, blanks behind: (n,) -> (n, 5, 26) float32.

    >>> spelled(torch.tensor([1])).sum(dim=(1, 2))
    tensor([3.])
    """
    letters = torch.zeros(len(NAMES), LONGEST, LETTERS)
    for number, name in enumerate(NAMES):
        for place, letter in enumerate(name):
            letters[number, place, ord(letter) - ord("a")] = 1
    return letters[labels]


class NameEncoder(nn.Module):
    """Spelled names -> embeddings of length 1: (n, 5, 26) -> (n, dim).

    >>> NameEncoder(8)(spelled(torch.arange(10))).shape
    torch.Size([10, 8])
    """

    def __init__(self, dim: int):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(LONGEST * LETTERS, 64), nn.ReLU(), nn.Linear(64, dim))

    def forward(self, names: Tensor) -> Tensor:
        return F.normalize(self.layers(names), dim=1)


@checked_settings
def tower_cells(
    *,
    methods: Methods = ("NT-Xent", "DCL", "SogCLR", "EMC2", "EMC2 remembered"),
    batch_size: BatchSize = 16,
    temperature: Temperature = 0.07,
    samples: shared.Digits = shared.DIGITS,
    visits: Count = 10,
    learning_rate: LearningRate = 1e-3,
    seeds: Count = 5,
) -> Iterator[Row]:
    """Every method for the price of `visits` visits; NT-Xent between two encoders is the loss of CLIP.

    >>> next(tower_cells(seeds=1))["method"]
    'NT-Xent'
    """
    common = {"batch_size": batch_size, "temperature": temperature, "samples": samples, "visits": visits}
    for seed in range(seeds):
        for method in methods:
            yield {"method": method, "seed": seed, "learning_rate": learning_rate} | common


@checked_settings
def trained_towers(
    *,
    method: Literal[*METHODS],  # type: ignore[valid-type]
    batch_size: BatchSize,
    temperature: Temperature,
    samples: shared.Digits,
    visits: Count,
    learning_rate: LearningRate,
    seed: Seed,
) -> Row:
    """Train an encoder of digits and one of names together, for a price; an encoding costs the same in both.

    A digit shows a new view in each epoch, its name stays. Adam's learning rate falls linearly with the price spent.

    Returns the place with
        loss: exact loss between the two encoders over the images without augmentation and their names, nats;
        accuracy: share of the 360 test digits that are nearest to their own name among the ten; low, high: Wilson's
            95 % interval;
        steps, relative_price: as `trained_at_price`.

    >>> small = {"samples": 16, "visits": 1, "learning_rate": 1e-3, "seed": 0, "temperature": 0.2, "batch_size": 4}
    >>> trained_towers(method="NT-Xent", **small)["steps"]
    4
    """
    torch.manual_seed(seed)
    images, labels = load_digits("train").images[:samples], load_digits("train").labels[:samples]
    digits, names = shared.digit_views(samples), spelled(labels)
    of_images, of_names = DigitEncoder(shared.DIM), NameEncoder(shared.DIM)
    weights = [*of_images.parameters(), *of_names.parameters()]
    optimiser = torch.optim.Adam(weights, learning_rate)
    generator = torch.Generator().manual_seed(seed)
    sizes: dict[str, Any] = {"num_samples": samples, "dim": shared.DIM}
    criterion = make_criterion(method, **sizes, temperature=temperature, two_towers=True)

    def encode(index: Tensor, view: Tensor) -> Tensor:
        """Even views are of images, and odd ones names."""
        embeddings, named = torch.empty(len(index), shared.DIM), view % 2 == 1
        if named.any():
            embeddings = embeddings.masked_scatter(named[:, None], of_names(names[index[named]]))
        if not named.all():
            pictures = digits(index[~named], view[~named] // 2)
            embeddings = embeddings.masked_scatter(~named[:, None], of_images(pictures))
        return embeddings

    budget, spent, steps = visits * visit_price(samples), 0, 0
    for epoch, index in EpochSampler(samples, batch_size, generator):
        view = torch.stack((torch.full_like(index, 2 * epoch), torch.ones_like(index)))
        both = encode(index.repeat(2), view.flatten())
        loss = criterion(*both.chunk(2), index, view, encode, generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.param_groups[0]["lr"] = learning_rate * (1 - spent / budget)
        optimiser.step()
        steps, spent = steps + 1, spent + step_price(criterion.stats, batch_size)
        if spent >= budget:
            break
    with torch.no_grad():
        table = torch.stack((of_images(images), of_names(names)), dim=1).double()
        test = load_digits("test")
        nearest = (of_images(test.images) @ of_names(spelled(torch.arange(10))).T).argmax(dim=1)
    right = wilson(int((nearest == test.labels).sum()), len(test.labels))
    place = {"method": method, "batch_size": batch_size, "temperature": temperature, "seed": seed}
    measured = {"loss": global_contrastive_loss(table, temperature, two_towers=True).item()}
    measured |= {"accuracy": right.value, "low": right.low, "high": right.high}
    return place | measured | {"steps": steps, "relative_price": spent / (6 * batch_size * steps)}
