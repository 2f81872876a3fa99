"""Pixels of random views at large and tiny sides, of each stage alone, and at any batch size."""

import pytest
import torch
from test_augmentation import check_crops, noisy
from torchvision.transforms.v2 import functional as tv

from emc2_lite.vision import Augmentation, ImageViews, view_uniforms
from emc2_lite.vision.augmentation import (
    CROP_DRAWS,
    DRAWS,
    Colours,
    blur,
    draw_crops,
    finish,
    recolour,
)

STAGES_OFF = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "flip": 0.0, "jitter": 0.0, "grayscale": 0.0, "blur": 0.0}


def colours_of(count: int, factors: list[float], *, first: int = 0, grayscale: bool = False, blurred: bool = False):
    """The same colours for `count` views; `first` is the first operation."""
    order = torch.tensor([first, *(i for i in range(4) if i != first)]).expand(count, 4)
    flags = torch.tensor([[grayscale], [blurred]]).expand(2, count)
    return Colours(order, torch.tensor([factors]).expand(count, 4), *flags, torch.full((count,), 1.5))


@pytest.mark.parametrize("shape", [(96, 96, 96), (120, 61, 96), (1, 50, 8), (50, 1, 9), (2, 3, 96)], ids=str)
def test_crops_of_every_side_are_torchvisions_pixels(shape):
    height, width, size = shape
    images, index = noisy(12, height, width), torch.arange(12)
    crops = draw_crops(Augmentation(size=size), view_uniforms(index, index, CROP_DRAWS), height, width)
    check_crops(images, crops, size)


@pytest.mark.parametrize("operation", range(4), ids=["brightness", "contrast", "saturation", "hue"])
@pytest.mark.parametrize("strength", [-1, -0.4, 0.6, 1])
def test_each_operation_alone_is_torchvisions_pixels(operation, strength):
    """To 1e-5 on colours at least 0.1 from grey, even the hue; from no colour at all to twice as much."""
    adjust = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)[operation]
    images = noisy(60, 6, 5)
    images = torch.where(images.amax(dim=1, keepdim=True) - images.amin(dim=1, keepdim=True) > 0.1, images, 0.0)
    factors = [1.0, 1.0, 1.0, 0.0]
    factors[operation] += strength / 2 if operation == 3 else strength
    ours = recolour(images, colours_of(60, factors, first=operation))
    for image, view in zip(images, ours, strict=True):
        torch.testing.assert_close(view, adjust(image, factors[operation]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("jitter", [0.0, 0.5])
@pytest.mark.parametrize("grayscale", [0.0, 0.5])
@pytest.mark.parametrize("blurring", [0.0, 0.5])
def test_every_stage_that_is_set_is_done_and_no_other(monkeypatch, jitter, grayscale, blurring):
    images = noisy(2, 9, 9)
    settings = Augmentation(size=9, jitter=jitter, grayscale=grayscale, blur=blurring)
    factors = [0.5, 1.0, 1.0, 0.0] if jitter else [1.0, 1.0, 1.0, 0.0]
    colours = colours_of(2, factors, grayscale=grayscale > 0, blurred=blurring > 0)
    expected = images / 2 if jitter else images
    expected = tv.rgb_to_grayscale(expected, 3) if grayscale else expected
    expected = tv.gaussian_blur(expected, [9, 9], [1.5, 1.5]) if blurring else expected
    monkeypatch.setattr("emc2_lite.vision.augmentation.draw_colours", lambda *_: colours)
    torch.testing.assert_close(finish(images, torch.zeros(2, DRAWS), settings), expected, rtol=0, atol=1e-5)


def test_the_strongest_settings_give_finite_views_in_range():
    """White and the strongest colours, through sums that exceed 1 by rounding."""
    images = torch.ones(64, 3, 16, 16)
    images[:32, 1] = 0
    index = torch.arange(64)
    views = ImageViews(images, Augmentation(size=61, brightness=3, contrast=3, saturation=3, hue=0.5))(index, index)
    assert views.min() >= 0 and views.max() <= 1 and views.isfinite().all()


@pytest.mark.parametrize("shape", [(32, 32, 32), (50, 70, 24)], ids=str)
@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_a_pair_gives_the_same_pixels_at_any_batch_size(shape, batch_size):
    height, width, size = shape
    views = ImageViews((255 * noisy(64, height, width)).byte(), Augmentation(size=size, blur=0.5))
    index, view = torch.arange(64), torch.arange(64) % 5
    parts = zip(index.split(batch_size), view.split(batch_size), strict=True)
    together = torch.cat([views(some, numbers) for some, numbers in parts])
    torch.testing.assert_close(together, views(index, view), rtol=0, atol=1e-6)


def test_whole_and_floating_pixels_agree_to_their_rounding():
    images, index = noisy(20, 24, 24), torch.arange(20)
    whole = ImageViews((255 * images).round().byte(), Augmentation(**STAGES_OFF | {"size": 12}))(index, index)
    floating = ImageViews(images, Augmentation(**STAGES_OFF | {"size": 12}))(index, index)
    torch.testing.assert_close(whole, floating, rtol=0, atol=0.5 / 255 + 1e-6)
    assert not torch.equal(whole, floating)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_pixels_of_any_floating_type_become_float32(dtype):
    images, index = noisy(4, 12, 12).to(dtype), torch.arange(4)
    views = ImageViews(images, Augmentation(size=8))
    assert views(index, index).dtype == views.originals(index).dtype == torch.float32
    assert torch.equal(views(index, index), ImageViews(images.float(), Augmentation(size=8))(index, index))


def test_blurs_of_one_size_do_not_disturb_those_of_another():
    """The matrices of a blur are kept from call to call."""
    small, large, sigma = noisy(2, 9, 9), noisy(2, 13, 17), torch.tensor([0.5, 1.7])
    for images, kernel in ((small, 5), (large, 5), (small, 7), (small, 5), (large, 7), (large, 5)):
        expected = [tv.gaussian_blur(x, [kernel] * 2, [s] * 2) for x, s in zip(images, sigma.tolist(), strict=True)]
        torch.testing.assert_close(blur(images, sigma, kernel), torch.stack(expected), rtol=0, atol=1e-5)
