"""Random views of colour images: SimCLR's transformations, each view with its own parameters, a batch at a time.

Law and pixels are torchvision's, but (index, view number) alone decides the parameters, and a batch takes a few tensor
operations. (kornia's batches draw from a stream, share one order of the jitter, and resize with another filter.)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from emc2_lite.checks import Bounds, Share, Unread, check_fields

ATTEMPTS = 10
HUE = 3
CROP_DRAWS, COLOUR_DRAWS = 2 * ATTEMPTS + 3, 12  # uniforms a view
DRAWS = CROP_DRAWS + COLOUR_DRAWS
LONGEST = 4  # images whose longer side is more than this many shorter sides are cut before they are resized
Area = Annotated[float, Bounds(above=0, most=1)]
Positive = Annotated[float, Bounds(least=0.001, most=1_000)]
Strength = Annotated[float, Bounds(least=0, most=100), Unread("jitter", 0.0)]


@dataclass(frozen=True)
class Augmentation:
    """RandomResizedCrop, horizontal flip, colour jitter in a random order, grayscale and blur, with torchvision's
    settings; the defaults are the paper's for STL-10.

    Args:
        size: S, the side of a view in pixels.
        scale, ratio: ranges of the crop's share of the area (uniform) and of width / height (uniform in logarithm).
        flip, jitter, grayscale, blur: probabilities of a mirror image, the colour jitter, a grey image and the blur.
        brightness, contrast, saturation: the jitter's factors are uniform in 1 +- these, and at least 0.
        hue: the jitter's shift is uniform in +- this, in turns of the colour circle, at most 0.5.
        sigma, kernel: range of the Gaussian blur's width in pixels, and its taps, an odd number up to 2 S - 1.

    Raises: ValueError: on a setting outside its range, or of a jitter or blur of probability 0, which nothing reads.
    Source: Chen et al. 2020, A simple framework for contrastive learning of visual representations, appendix A.

    >>> Augmentation(size=32, blur=0.0).hue
    0.2
    """

    size: Annotated[int, Bounds(least=1, most=4096)]
    scale: tuple[Area, Area] = (0.08, 1.0)
    ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    flip: Share = 0.5
    jitter: Share = 0.8
    brightness: Strength = 0.8
    contrast: Strength = 0.8
    saturation: Strength = 0.8
    hue: Annotated[float, Bounds(least=0, most=0.5), Unread("jitter", 0.0)] = 0.2
    grayscale: Share = 0.2
    blur: Share = 1.0
    sigma: Annotated[tuple[Positive, Positive], Unread("blur", 0.0)] = (0.1, 2.0)
    kernel: Annotated[int, Bounds(least=1, most=8191), Unread("blur", 0.0)] = 9

    def __post_init__(self):
        check_fields(self)
        for name in ("scale", "ratio", "sigma"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} is ({low}, {high}): the smaller number comes first.")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel is {self.kernel}: it must be odd.")
        if self.blur and self.kernel > 2 * self.size - 1:
            raise ValueError(
                f"kernel is {self.kernel} and size {self.size}: a blur of views of this size has at most "
                f"{2 * self.size - 1} taps; set kernel to that, or leave the blur out, blur = 0."
            )


class Crops(NamedTuple):
    """Each view's box in pixels, and whether the view is mirrored; each (k,), float32 but for `flip`."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    flip: Tensor


class Colours(NamedTuple):
    """Each view's colour operations."""

    order: Tensor  # (k, 4), the operations in turn: 0 brightness, 1 contrast, 2 saturation, 3 hue
    factors: Tensor  # (k, 4), by operation; 1 and, for the hue, 0 change nothing
    grayscale: Tensor  # (k,) bool
    blur: Tensor  # (k,) bool
    sigma: Tensor  # (k,), pixels


def draw_crops(augmentation: Augmentation, uniforms: Tensor, height: int, width: int) -> Crops:
    """Crops of images of height x width from the first of a view's uniforms (k, DRAWS): the first of ten random boxes
    that fits, or else the largest central box of an allowed shape."""
    area = height * width * _within(augmentation.scale, uniforms[:, :ATTEMPTS])
    ratio = _within([math.log(bound) for bound in augmentation.ratio], uniforms[:, ATTEMPTS : 2 * ATTEMPTS]).exp()
    widths, heights = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    first = fits.int().argmax(dim=1, keepdim=True)
    h, w = heights.gather(1, first).squeeze(1), widths.gather(1, first).squeeze(1)
    y, x, mirror = uniforms[:, 2 * ATTEMPTS : CROP_DRAWS].unbind(dim=1)
    top, left = (y * (height - h + 1)).floor(), (x * (width - w + 1)).floor()
    central_w = min(width, max(1, round(height * augmentation.ratio[1])))
    central_h = min(height, max(1, round(width / augmentation.ratio[0])))
    central = (height - central_h) // 2, (width - central_w) // 2, central_h, central_w
    top, left, h, w = (torch.where(fits.any(dim=1), *pair) for pair in zip((top, left, h, w), central, strict=True))
    return Crops(top, left, h, w, mirror < augmentation.flip)


def draw_colours(augmentation: Augmentation, uniforms: Tensor) -> Colours:
    """Colours from uniforms (k, COLOUR_DRAWS)."""
    reaches = augmentation.brightness, augmentation.contrast, augmentation.saturation
    ranges = [(max(0.0, 1 - reach), 1 + reach) for reach in reaches] + [(-augmentation.hue, augmentation.hue)]
    factors = torch.stack([_within(limits, uniforms[:, i]) for i, limits in enumerate(ranges)], dim=1)
    jitter, grayscale, blur, sigma = uniforms[:, 8:].unbind(dim=1)
    unchanged = _constants((1.0, 1.0, 1.0, 0.0), factors.device)
    factors = torch.where((jitter < augmentation.jitter)[:, None], factors, unchanged)
    grey, blurred = grayscale < augmentation.grayscale, blur < augmentation.blur
    return Colours(uniforms[:, 4:8].argsort(dim=1), factors, grey, blurred, _within(augmentation.sigma, sigma))


@cache  # a CUDA graph may hold the place of each
def _constants(values: tuple[float, ...], device: torch.device) -> Tensor:
    """The values on the device, float32: made anew in each call, they would be copied there each time."""
    return torch.tensor(values, dtype=torch.float32, device=device)


def _within(limits: Sequence[float], uniform: Tensor) -> Tensor:
    return limits[0] + (limits[1] - limits[0]) * uniform


def resized_crops(images: Tensor, crops: Crops, size: int) -> Tensor:
    """Cut out, and resize to S x S, antialiased and bilinear, by two matrix products: (k, 3, H, W) -> (k, 3, S, S)."""
    if max(images.shape[2:]) > LONGEST * min(images.shape[2:]):
        images, crops = _without_far_ends(images, crops)
    rows = _resizing(crops.top, crops.height, images.shape[2], size)
    columns = _resizing(crops.left, crops.width, images.shape[3], size)
    columns = torch.where(crops.flip[:, None, None], columns.flip(1), columns)
    return rows[:, None] @ images @ columns.transpose(1, 2)[:, None]


def _without_far_ends(images: Tensor, crops: Crops) -> tuple[Tensor, Crops]:
    """Images cut along the longer side to the longest crop; the weights of 1 x 65,000 pixels would take gigabytes."""
    axis, begin, length = (2, "top", crops.height) if images.shape[2] > images.shape[3] else (3, "left", crops.width)
    start, most = getattr(crops, begin), int(length.max())
    first = start.clamp_max(images.shape[axis] - most)
    window = (first[:, None] + torch.arange(most, device=start.device)).long()
    shape = (-1, 1, most, 1) if axis == 2 else (-1, 1, 1, most)
    return images.take_along_dim(window.view(shape), dim=axis), crops._replace(**{begin: start - first})


def _resizing(start: Tensor, length: Tensor, pixels: int, size: int) -> Tensor:
    """Weights (k, size, pixels) of a line's old pixels in each new pixel of its resized part: a triangle around the new
    pixel's centre, wide enough to reach every old pixel, and 0 outside the part."""
    scale, begin, end = (number[:, None, None] for number in (length / size, start, start + length))
    old = torch.arange(pixels, device=start.device) + 0.5
    new = torch.arange(size, device=start.device)[:, None] + 0.5
    weights = (1 - (old - begin - scale * new).abs() / scale.clamp_min(1)).clamp_min(0) * ((old > begin) & (old < end))
    return weights / weights.sum(dim=2, keepdim=True)


def recolour(images: Tensor, colours: Colours) -> Tensor:
    """Colour jitter, then grayscale: (k, 3, S, S) in [0, 1] -> the same.

    Brightness, contrast and saturation are one formula, clamp(f x + (1 - f) reference), with black, the mean of the
    grey image or the grey image as reference; f = 1 changes nothing, and grayscale is saturation with f = 0. Any order
    of the four is up to three of these, the hue, and up to three of these.
    """
    factors, hue_at = colours.factors.gather(1, colours.order), (colours.order == HUE).int().argmax(dim=1)
    for slot in range(3):
        images = _blend(images, colours.order[:, slot], torch.where(slot < hue_at, factors[:, slot], 1.0))
    images = _shift_hue(images, colours.factors[:, HUE])
    for slot in range(1, 4):
        images = _blend(images, colours.order[:, slot], torch.where(slot > hue_at, factors[:, slot], 1.0))
    return _blend(images, torch.full_like(hue_at, 2), torch.where(colours.grayscale, 0.0, 1.0))


def _blend(images: Tensor, operation: Tensor, factor: Tensor) -> Tensor:
    operation, factor = operation[:, None, None, None], factor[:, None, None, None]
    grey = (images * _constants((0.2989, 0.587, 0.114), images.device)[:, None, None]).sum(dim=1, keepdim=True)
    reference = torch.where(operation == 2, grey, (operation == 1) * grey.mean(dim=(2, 3), keepdim=True))
    return (factor * images + (1 - factor) * reference).clamp_(0, 1)


def _shift_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Turn the colour circle: with the hue h in sixths of a turn, a channel is max - (max - min) clamp(min(k, 4 - k),
    0, 1) with k = (5, 3, 1) + h modulo 6 for red, green and blue."""
    red, green, blue = images.unbind(dim=1)
    high, low = images.amax(dim=1), images.amin(dim=1)
    chroma = high - low
    width = torch.where(chroma > 0, chroma, 1.0)
    sixth = torch.where(high == green, 2 + (blue - red) / width, 4 + (red - green) / width)
    sixth = torch.where(high == red, (green - blue) / width, sixth) + 6 * turns[:, None, None]
    k = (_constants((5.0, 3.0, 1.0), images.device)[:, None, None] + sixth[:, None]) % 6
    shifted = high[:, None] - chroma[:, None] * torch.minimum(k, 4 - k).clamp_(0, 1)
    return torch.where((turns != 0)[:, None, None, None], shifted, images)


def blur(images: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    """Gaussian blur of width sigma (k,) in pixels, `kernel` taps, mirrored at the edges, by two matrix products."""
    taps = torch.arange(kernel, device=images.device) - kernel // 2
    weights = (-0.5 * (taps / sigma[:, None]) ** 2).softmax(dim=1)
    moves = [_reflections(side, kernel, images.device) for side in images.shape[2:]]
    rows, columns = (torch.einsum("kt,tij->kij", weights, matrices) for matrices in moves)
    return rows[:, None] @ images @ columns.transpose(1, 2)[:, None]


@cache  # as above
def _reflections(side: int, kernel: int, device: torch.device) -> Tensor:
    """For each tap the matrix that moves a line by the tap, mirrored at the line's ends: (kernel, side, side)."""
    line = F.pad(torch.arange(side, dtype=torch.float32)[None], (kernel // 2, kernel // 2), mode="reflect")[0].long()
    return F.one_hot(line.unfold(0, side, 1), side).float().to(device)


def finish(images: Tensor, uniforms: Tensor, augmentation: Augmentation) -> Tensor:
    """The stages after the crop, from a view's uniforms (k, DRAWS): (k, 3, S, S) in [0, 1] -> the same."""
    colours = draw_colours(augmentation, uniforms[:, CROP_DRAWS:])
    if augmentation.jitter or augmentation.grayscale:
        images = recolour(images, colours)
    if augmentation.blur:
        blurred = blur(images, colours.sigma, augmentation.kernel)
        images = torch.where(colours.blur[:, None, None, None], blurred, images)
    return images.clamp_(0, 1)
