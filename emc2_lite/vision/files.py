"""Random views of images that lie in files: decoded and cropped by threads, the rest on the device."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Annotated

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as pixels

from emc2_lite.checks import Bounds, checked_settings
from emc2_lite.vision.augmentation import (
    COLOUR_DRAWS,
    CROP_DRAWS,
    LONGEST,
    Augmentation,
    draw_colours,
    draw_crops,
    finish,
)
from emc2_lite.vision.folder import FolderImages
from emc2_lite.vision.views import Views, view_uniforms


class FileViews(Views):
    """Views as `ImageViews` makes them, of images of any size that are decoded when they are asked for.

    Threads decode, crop and resize on the CPU, to whole numbers from 0 to 255; colours and blur follow on the device.
    `prefetch` lets the threads begin early. Pixels depend on (index, view) alone, not on what was prefetched.

    Args:
        files: the images.
        augmentation: what is done to them.
        device: where views are to lie.
        workers: threads.

    Raises:
        ValueError: on workers outside 1 to 256; when called, see `Views`; and for a file that cannot be read, whose
            name it says.
    """

    @checked_settings
    def __init__(
        self,
        files: FolderImages,
        augmentation: Augmentation,
        device: torch.device | str,
        *,
        workers: Annotated[int, Bounds(least=1, most=256)] = 8,
    ):
        self.files = files
        self.augmentation = augmentation
        self.device = torch.device(device)
        self.pool = ThreadPoolExecutor(workers)
        self.coming: dict[tuple[int, int], Future] = {}

    def __len__(self) -> int:
        return len(self.files)

    def prefetch(self, index: Tensor, view: Tensor) -> None:
        """Begin to decode these views; those of an earlier hint that were never asked for are dropped."""
        pairs = list(zip(index.tolist(), view.tolist(), strict=True))
        for pair in self.coming.keys() - set(pairs):
            self.coming.pop(pair).cancel()
        for pair in pairs:
            self._begin(pair)

    def make(self, index: Tensor, view: Tensor) -> Tensor:
        begun = [self._begin(pair) for pair in zip(index.tolist(), view.tolist(), strict=True)]
        taken = set(begun)
        self.coming = {pair: work for pair, work in self.coming.items() if work not in taken}
        crops = self._to_device([work.result() for work in begun])
        uniforms = view_uniforms(index, view, CROP_DRAWS + COLOUR_DRAWS)
        return finish(crops, draw_colours(self.augmentation, uniforms[:, CROP_DRAWS:]), self.augmentation)

    def originals(self, index: Tensor) -> Tensor:
        """The images, their shorter side resized to S / 0.875, and S x S cut out of the middle, as is usual."""
        return self._to_device(list(self.pool.map(self._middle, index.tolist())))

    def _begin(self, pair: tuple[int, int]) -> Future:
        if pair not in self.coming:
            self.coming[pair] = self.pool.submit(self._crop, *pair)
        return self.coming[pair]

    def _crop(self, index: int, view: int) -> Tensor:
        image = self.files[index]
        uniforms = view_uniforms(torch.tensor([index]), torch.tensor([view]), CROP_DRAWS)
        top, left, height, width, flip = (
            int(number) for number in draw_crops(self.augmentation, uniforms, *image.shape[1:])
        )
        size = [self.augmentation.size] * 2
        cut = pixels.resized_crop(image, top, left, height, width, size, antialias=True)
        return pixels.horizontal_flip(cut) if flip else cut

    def _middle(self, index: int) -> Tensor:
        image, size = _without_far_ends(self.files[index]), self.augmentation.size
        return pixels.center_crop(pixels.resize(image, [round(size / 0.875)], antialias=True), [size, size])

    def _to_device(self, images: list[Tensor]) -> Tensor:
        batch = torch.stack(images)
        if self.device.type == "cuda":
            batch = batch.pin_memory()
        return batch.to(self.device, non_blocking=True) / 255


def _without_far_ends(image: Tensor) -> Tensor:
    """The middle of a long picture, around the same centre, `LONGEST` times as long as wide or a pixel more; else
    1 x 65,000 pixels would become S x 65,000 S."""
    height, width = image.shape[1:]
    most = LONGEST * min(height, width)
    high, wide = (side if side <= most else most + (side - most) % 2 for side in (height, width))
    return pixels.center_crop(image, [high, wide])
