"""Views by any random transform, such as torchvision's or lightly's, that depend on (index, view number) alone."""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emc2_lite.checks import Seed, checked_settings
from emc2_lite.splitmix import GAMMA, as_signed, mix
from emc2_lite.vision.views import Views

_one_at_a_time = Lock()  # the generators of torch, numpy and random belong to the whole process


def _new_lock() -> None:
    """In a forked process: the thread that may have held the lock is not there to release it."""
    global _one_at_a_time
    _one_at_a_time = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


@contextmanager
def seeded(*numbers: int) -> Iterator[None]:
    """While entered, torch (on the CPU), numpy and random draw what the numbers decide, by SplitMix64; afterwards their
    generators go on as if nothing had been drawn. Threads that enter at once take turns; a thread that draws without
    entering would disturb the others.

    >>> with seeded(0, 3, 4):
    ...     first = random.random(), np.random.rand(), torch.rand(())
    >>> with seeded(0, 3, 4):
    ...     first == (random.random(), np.random.rand(), torch.rand(()))
    True
    """
    key, step = torch.zeros((), dtype=torch.int64), as_signed(GAMMA)
    for number in numbers:
        key = mix(key + torch.tensor(number) * step + step)
    seed = int(key) % 2**64
    with _one_at_a_time:
        states = torch.get_rng_state(), np.random.get_state(), random.getstate()
        try:
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed GPUs too
            np.random.seed(seed % 2**32)
            random.seed(seed)
            yield
        finally:
            torch.set_rng_state(states[0])
            np.random.set_state(states[1])
            random.setstate(states[2])


class SeededViews(Views):
    """Views of any dataset by any random transform: the same index and view number always give the same pixels.

    Called with index, view: (k,) int64, as any `Views`, so that EMC2 can encode a view again:

        encode = lambda index, view: encoder(views(index, view))

    And itself a dataset for a `DataLoader`, with any sampler and any workers: item i is ``(x1, x2, i, view)``, two
    views of image i and their numbers, (2,) int64, drawn at random from 2^62. A batch is then

        for x1, x2, index, view in DataLoader(views, ...):
            loss = criterion(encoder(x1), encoder(x2), index, view.T, encode)

    Args:
        dataset: gives an image, or a tuple that begins with one, for each index from 0 to ``len(dataset) - 1``. It must
            not transform at random itself.
        transform: makes a view, a tensor (C, S, S), of an image. Its random numbers must come from torch's, numpy's or
            Python's global generators, on the CPU; a transform with a generator of its own is refused where its views
            differ.
        plain: makes a tensor of an image without random numbers, for `originals`, which evaluations read.
        seed: another seed gives all pairs other pixels.

    Raises: ValueError: on a seed below 0; on a transform that returns no tensor, or other pixels at its second call;
        when called, see `Views`.

    >>> from torchvision.transforms import v2
    >>> dataset = torch.rand(10, 3, 8, 8)
    >>> views = SeededViews(dataset, v2.RandomResizedCrop(4))
    >>> pixels, again = (views(torch.tensor([5]), torch.tensor([2])) for _ in range(2))
    >>> pixels.shape, torch.equal(pixels, again)
    (torch.Size([1, 3, 4, 4]), True)
    """

    images: Any

    @checked_settings
    def __init__(
        self,
        dataset: Any,
        transform: Callable[[Any], Tensor],
        *,
        plain: Callable[[Any], Tensor] | None = None,
        seed: Seed = 0,
    ):
        self.images, self.transform, self.plain, self.seed = dataset, transform, plain, seed
        first, again = (self.pixels(0, 0) for _ in range(2))
        if not isinstance(first, Tensor):
            raise ValueError(
                f"transform returned a {type(first).__name__}: it must return one view, a tensor (C, S, S); give it "
                "the transform of a single view, and a conversion to a tensor at its end."
            )
        if not torch.equal(first, again):
            raise ValueError(
                "transform gave other pixels at its second call from the same seed: let its random numbers come from "
                "torch's, numpy's or Python's global generators."
            )

    def pixels(self, index: int, view: int) -> Tensor:
        """One view: (C, S, S)."""
        image = self._image(index)
        with seeded(self.seed, index, view):
            return self.transform(image)

    def _image(self, index: int) -> Any:
        item = self.images[index]
        return item[0] if isinstance(item, tuple | list) else item

    def make(self, index: Tensor, view: Tensor) -> Tensor:
        pixels = [self.pixels(*pair) for pair in zip(index.tolist(), view.tolist(), strict=True)]
        return torch.stack(pixels).to(index.device)

    def originals(self, index: Tensor) -> Tensor:
        if self.plain is None:
            raise ValueError("These views have no plain images: make them with plain, a transform without chance.")
        return torch.stack([self.plain(self._image(i)) for i in index.tolist()]).to(index.device)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int, Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(f"index is {index}, in a set of {len(self)} images")
        view = torch.randint(2**62, (2,))
        first, second = (self.pixels(index, number) for number in view.tolist())
        return first, second, index, view
