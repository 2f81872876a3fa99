"""Views: random transformations of an image that depend on (index, view number) alone.

The same pair gives the same pixels in any batch, at any time: a pair names a view. The random numbers are a hash of the
pair and no stream, so that any view can be made again without its predecessors.
"""

import math
from abc import ABC, abstractmethod
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from emc2_lite.checks import Bounds, check_tensor, checked_settings
from emc2_lite.splitmix import GAMMA, as_signed, mix, shifted
from emc2_lite.vision.augmentation import DRAWS, LONGEST, Augmentation, draw_crops, finish, resized_crops
from emc2_lite.vision.images import FolderImages

Workers = Annotated[int, Bounds(least=1, most=256)]


def view_uniforms(index: Tensor, view: Tensor, count: int) -> Tensor:
    """`count` Uniform(0, 1) numbers for each (index, view) pair: (k,), (k,) int64 -> (k, count) float32.

    SplitMix64 of the pair and the column, the same on every device. A number keeps 23 bits, so that adding one half is
    exact and neither 0 nor 1 occurs.

    Raises: ValueError: on an index or view that is no tensor.

    >>> view_uniforms(torch.tensor([3]), torch.tensor([4]), 2)
    tensor([[0.7888, 0.8122]])
    """
    check_tensor(index, "index")
    check_tensor(view, "view")
    step = as_signed(GAMMA)
    key = mix(mix(index + step) + view * step)
    bits = mix(key[:, None] + torch.arange(1, count + 1, device=index.device) * step)
    return (shifted(bits, 41).float() + 0.5) / 2**23


class Views(ABC):
    """Views of N `images`, called with index, view: (k,) int64 on the views' device -> (k, C, S, S) floating point in
    [0, 1], without gradient.

    `identity` differs where the images do, such as a digest of their names and sizes, and `classes` names the labels;
    both are empty where unknown. `recordable` says that a CUDA graph can hold `make`: it does the same to any k views,
    reads no number on the host, and never changes.

    Raises: ValueError: on an index or view that is no tensor, shapes that differ or are not (k,), k = 0, a dtype other
        than int64, indices outside 0 to N - 1, or negative view numbers.
    """

    images: Tensor | FolderImages
    identity: str = ""
    classes: tuple[str, ...] = ()
    recordable: bool = False

    def __len__(self) -> int:
        return len(self.images)

    @abstractmethod
    def make(self, index: Tensor, view: Tensor) -> Tensor:
        """The views, after the checks."""

    @abstractmethod
    def originals(self, index: Tensor) -> Tensor:
        """The images themselves in the form of views, without random changes: (k,) -> (k, C, S, S)."""

    def prefetch(self, index: Tensor, view: Tensor) -> None:
        """A hint that these views come next, which images in memory do not need."""
        return None

    @torch.no_grad()
    def trusted(self, index: Tensor, view: Tensor) -> Tensor:
        """As a call, without its checks: for pairs that are known to be good. With images in memory the host does not
        wait for the device."""
        with torch.autocast(index.device.type, enabled=False):
            return self.make(index, view)

    def __call__(self, index: Tensor, view: Tensor) -> Tensor:
        check_tensor(index, "index")
        check_tensor(view, "view")
        if index.shape != view.shape or index.dim() != 1 or not index.numel():
            raise ValueError(
                f"index has shape {tuple(index.shape)} and view {tuple(view.shape)}: pass two of the same (k,), k >= 1."
            )
        if index.dtype != torch.int64 or view.dtype != torch.int64:
            raise ValueError(f"index is {index.dtype} and view {view.dtype}: pass torch.int64, the hash is of 64 bits.")
        low, high, first = torch.stack((index.min(), index.max(), view.min())).tolist()
        if not (low >= 0 and high < len(self) and first >= 0):
            raise ValueError(
                f"Asked for index {low} to {high} and view {first} on, in a set of {len(self)} images: "
                f"indices must be from 0 to {len(self) - 1}, view numbers 0 or more."
            )
        return self.trusted(index, view)


class DigitViews(Views):
    """Views of small grey images, (N, 1, H, W) in [0, 1], on their device.

    Each view is rotated up to 15 degrees, scaled by 0.85 to 1.15, sheared up to 0.2, shifted up to 1 pixel in each
    direction, with 0.6 to 1.4 times the contrast, all uniform, and Gaussian noise of deviation 0.05, clipped to [0, 1].

    Raises: ValueError: on images of another shape or range; when called, see `Views`.

    >>> DigitViews(torch.rand(10, 1, 8, 8))(torch.tensor([3, 3]), torch.tensor([0, 1])).shape  # two views of image 3
    torch.Size([2, 1, 8, 8])
    """

    def __init__(self, images: Tensor):
        check_tensor(images, "images")
        if images.dim() != 4 or images.shape[1] != 1 or not images.is_floating_point():
            raise ValueError(
                f"images is {images.dtype} of shape {tuple(images.shape)}: pass floating-point (N, 1, H, W) in [0, 1]."
            )
        if not (images.numel() and images.min() >= 0 and images.max() <= 1):
            raise ValueError("images holds numbers outside [0, 1] or NaN, or nothing: scale the pixels to [0, 1].")
        self.images: Tensor = images
        self.recordable = type(self).make is DigitViews.make

    def originals(self, index: Tensor) -> Tensor:
        return self.images[index]

    def make(self, index: Tensor, view: Tensor) -> Tensor:
        images = self.images[index]
        uniforms = view_uniforms(index, view, 6 + images[0].numel()).to(images.dtype)
        parameters, noise = uniforms[:, :6], torch.special.ndtri(uniforms[:, 6:]).view_as(images)
        maps, contrast = _affine_maps(2 * parameters - 1, images.shape[-2:])
        grid = F.affine_grid(maps, list(images.shape), align_corners=False)
        return (contrast * F.grid_sample(images, grid, align_corners=False) + 0.05 * noise).clamp_(0, 1)


def _affine_maps(signed: Tensor, size: torch.Size) -> tuple[Tensor, Tensor]:
    """(k, 6) numbers in (-1, 1) -> (k, 2, 3) maps from view to image coordinates, and (k, 1, 1, 1) contrasts."""
    angle, scale, shear = signed[:, 0] * math.radians(15), 1 + 0.15 * signed[:, 1], 0.2 * signed[:, 2]
    shift = torch.stack((signed[:, 3] * (2 / size[1]), signed[:, 4] * (2 / size[0])), dim=1)
    cos, sin = angle.cos() / scale, angle.sin() / scale
    rows = torch.stack((cos, shear * cos - sin, sin, shear * sin + cos), dim=1).view(-1, 2, 2)
    maps = torch.cat((rows, shift[:, :, None]), dim=2)
    return maps, (1 + 0.4 * signed[:, 5])[:, None, None, None]


class ImageViews(Views):
    """Random views of colour images in memory, (N, 3, H, W) uint8 or floating point in [0, 1], on their device; a call
    gives (k, 3, S, S) float32.

    Raises: ValueError: on images of another shape or range; when called, see `Views`.

    >>> views = ImageViews(torch.rand(10, 3, 32, 32), Augmentation(size=24))
    >>> views(torch.tensor([3, 3]), torch.tensor([0, 1])).shape  # two views of image 3
    torch.Size([2, 3, 24, 24])
    """

    def __init__(self, images: Tensor, augmentation: Augmentation):
        check_tensor(images, "images")
        if images.dim() != 4 or images.shape[1] != 3 or not images.numel():
            raise ValueError(f"images has shape {tuple(images.shape)}: pass (N, 3, H, W).")
        if images.dtype != torch.uint8 and not (images.is_floating_point() and images.min() >= 0 and images.max() <= 1):
            raise ValueError(f"images is {images.dtype}: pass torch.uint8, or floating point from 0 to 1.")
        self.images: Tensor = images
        self.augmentation = augmentation
        short = max(images.shape[2:]) <= LONGEST * min(images.shape[2:])
        self.recordable = short and type(self).make is ImageViews.make

    def make(self, index: Tensor, view: Tensor) -> Tensor:
        uniforms = view_uniforms(index, view, DRAWS)
        crops = draw_crops(self.augmentation, uniforms, *self.images.shape[2:])
        return finish(resized_crops(self._pixels(index), crops, self.augmentation.size), uniforms, self.augmentation)

    def originals(self, index: Tensor) -> Tensor:
        """The images, resized to S x S if they have another size."""
        images, size = self._pixels(index), (self.augmentation.size, self.augmentation.size)
        return images if images.shape[2:] == size else F.interpolate(images, size, mode="bilinear", antialias=True)

    def _pixels(self, index: Tensor) -> Tensor:
        images = self.images[index]
        return images / 255 if images.dtype == torch.uint8 else images.float()


class FileViews(Views):
    """Views as in `ImageViews`, of files of any size: `workers` threads decode, crop and resize on the CPU, to whole
    numbers from 0 to 255; colours and blur follow on `device`. `prefetch` starts the threads early; pixels stay.

    Raises: ValueError: on workers outside 1 to 256; when called, see `Views`, and on an unreadable file, by name.
    """

    @checked_settings
    def __init__(
        self, files: FolderImages, augmentation: Augmentation, device: torch.device | str, *, workers: Workers = 8
    ):
        from torchvision.transforms.v2 import functional  # here, because torchvision takes seconds, and before threads

        self.images: FolderImages = files
        self.augmentation, self.transforms = augmentation, functional
        self.device, self.pool = torch.device(device), ThreadPoolExecutor(workers)
        self.coming: dict[tuple[int, int], Future[Tensor]] = {}

    def prefetch(self, index: Tensor, view: Tensor) -> None:
        """Begin to decode these views; earlier hints that were never asked for are dropped."""
        pairs = list(zip(index.tolist(), view.tolist(), strict=True))
        for pair in self.coming.keys() - set(pairs):
            self.coming.pop(pair).cancel()
        for pair in pairs:
            self._begin(pair)

    def make(self, index: Tensor, view: Tensor) -> Tensor:
        begun = [self._begin(pair) for pair in zip(index.tolist(), view.tolist(), strict=True)]
        taken = set(begun)
        self.coming = {pair: work for pair, work in self.coming.items() if work not in taken}
        images = self._to_device([work.result() for work in begun])
        return finish(images, view_uniforms(index, view, DRAWS), self.augmentation)

    def originals(self, index: Tensor) -> Tensor:
        """The images, their shorter side resized to S / 0.875, and S x S cut out of the middle, as is usual."""
        return self._to_device(list(self.pool.map(self._middle, index.tolist())))

    def _begin(self, pair: tuple[int, int]) -> Future[Tensor]:
        if pair not in self.coming:
            self.coming[pair] = self.pool.submit(self._crop, *pair)
        return self.coming[pair]

    def _crop(self, index: int, view: int) -> Tensor:
        image, size = self.images[index], self.augmentation.size
        uniforms = view_uniforms(torch.tensor([index]), torch.tensor([view]), DRAWS)
        *box, flip = map(int, draw_crops(self.augmentation, uniforms, *image.shape[1:]))
        cut = self.transforms.resized_crop(image, *box, [size, size], antialias=True)
        return cut.flip(-1) if flip else cut

    def _middle(self, index: int) -> Tensor:
        """An original. A long image is first cut around its centre to `LONGEST` times its width, or a pixel more; else
        1 x 65,000 pixels would become S x 65,000 S."""
        image, size = self.images[index], self.augmentation.size
        most = LONGEST * min(image.shape[1:])
        sides = [side if side <= most else most + (side - most) % 2 for side in image.shape[1:]]
        middle = self.transforms.center_crop(image, sides)
        resized = self.transforms.resize(middle, [round(size / 0.875)], antialias=True)
        return self.transforms.center_crop(resized, [size, size])

    def _to_device(self, images: list[Tensor]) -> Tensor:
        batch = torch.stack(images)
        batch = batch.pin_memory() if self.device.type == "cuda" else batch
        return batch.to(self.device, non_blocking=True) / 255
