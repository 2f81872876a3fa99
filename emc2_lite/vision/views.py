"""Views: random transformations of an image that depend on (index, view number) alone.

The same pair gives the same pixels, in any batch, at any time, so a pair names a view exactly. The random numbers come
from a hash of the pair, not from a stream: any view can be made again without replaying the ones before it.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional as F

from emc2_lite.checks import check_tensor
from emc2_lite.splitmix import GAMMA, as_signed, mix, shifted


def view_uniforms(index: Tensor, view: Tensor, count: int) -> Tensor:
    """`count` Uniform(0, 1) numbers for each (index, view) pair: (k,), (k,) int64 -> (k, count) float32.

    SplitMix64 of the pair and the position in the row, the same on every device. 23 bits survive, so that the half
    added to them is exact and neither 0 nor 1 ever occurs.

    Raises:
        ValueError: on what is no tensor.
    """
    check_tensor(index, "index")
    check_tensor(view, "view")
    step = as_signed(GAMMA)
    key = mix(mix(index + step) + view * step)
    bits = mix(key[:, None] + torch.arange(1, count + 1, device=index.device) * step)
    return (shifted(bits, 41).float() + 0.5) / 2**23


class Views(ABC):
    """Views of N images, called with index, view: (k,) int64 on their device -> (k, C, S, S) floating point in [0, 1].

    The same pair always gives the same pixels; a batch costs one pass, without gradient. `identity` tells these images
    from others, such as a digest of their names and sizes, and `classes` names the labels; empty where unknown.

    Raises:
        ValueError: on what is no tensor, shapes that differ or are not (k,), no views asked for, a dtype other than
            int64, indices outside the set, or negative view numbers.
    """

    identity: str = ""
    classes: tuple[str, ...] = ()

    @abstractmethod
    def __len__(self) -> int:
        """N, the number of images."""

    @abstractmethod
    def make(self, index: Tensor, view: Tensor) -> Tensor:
        """The views, after the checks."""

    @abstractmethod
    def originals(self, index: Tensor) -> Tensor:
        """The images themselves, in the form of views but without anything random: (k,) -> (k, C, S, S)."""

    def prefetch(self, index: Tensor, view: Tensor) -> None:
        """Take note that these views will be asked for next; images in memory need no such hint."""
        return None

    @torch.no_grad()
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
        with torch.autocast(index.device.type, enabled=False):
            return self.make(index, view)


class DigitViews(Views):
    """Views of small grey images: a random affine map, a random contrast, and pixel noise, each drawn per view.

    Rotation up to 15 degrees, scale 0.85 to 1.15, shear up to 0.2, shift up to 1 pixel in each direction (all uniform);
    contrast times 0.6 to 1.4; Gaussian noise of standard deviation 0.05; then clipped to [0, 1].

    Args:
        images: (N, 1, H, W) in [0, 1]; views are made on their device.

    Raises:
        ValueError: on images of another shape or range; when called, see `Views`.
    """

    noise_std = 0.05

    def __init__(self, images: Tensor):
        check_tensor(images, "images")
        if images.dim() != 4 or images.shape[1] != 1 or not images.is_floating_point():
            raise ValueError(
                f"images is {images.dtype} of shape {tuple(images.shape)}: pass floating-point (N, 1, H, W) in [0, 1]."
            )
        if not (images.numel() and images.min() >= 0 and images.max() <= 1):
            raise ValueError("images holds numbers outside [0, 1] or NaN, or nothing: scale the pixels to [0, 1].")
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def originals(self, index: Tensor) -> Tensor:
        return self.images[index]

    def make(self, index: Tensor, view: Tensor) -> Tensor:
        images = self.images[index]
        uniforms = view_uniforms(index, view, 6 + images[0].numel()).to(images.dtype)
        parameters, noise = uniforms[:, :6], torch.special.ndtri(uniforms[:, 6:]).view_as(images)
        maps, contrast = _affine_maps(2 * parameters - 1, images.shape[-2:])
        grid = F.affine_grid(maps, list(images.shape), align_corners=False)
        moved = F.grid_sample(images, grid, align_corners=False)
        return (contrast * moved + self.noise_std * noise).clamp_(0, 1)


def _affine_maps(signed: Tensor, size: torch.Size) -> tuple[Tensor, Tensor]:
    """(k, 6) numbers in (-1, 1) -> (k, 2, 3) maps from view to image coordinates, and (k, 1, 1, 1) contrasts."""
    angle = signed[:, 0] * math.radians(15)
    scale = 1 + 0.15 * signed[:, 1]
    shear = 0.2 * signed[:, 2]
    pixel = torch.tensor([2 / size[1], 2 / size[0]], device=signed.device, dtype=signed.dtype)
    cos, sin = angle.cos() / scale, angle.sin() / scale
    rows = torch.stack((cos, shear * cos - sin, sin, shear * sin + cos), dim=1).view(-1, 2, 2)
    maps = torch.cat((rows, (signed[:, 3:5] * pixel)[:, :, None]), dim=2)
    return maps, (1 + 0.4 * signed[:, 5])[:, None, None, None]
