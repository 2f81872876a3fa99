"""Random views have the law of torchvision's, and with the same parameters its pixels; (index, view) decides them.

Statistical tests: the null is that ours and torchvision's parameters have one law; 3,000 draws each; every single test
rejects below p = 1e-6, and there are under 60 of them, so that the false-alarm rate of the file is below 1e-4.
"""

import math
import re

import pytest
import torch
from scipy import stats
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from emc2_lite.vision import Augmentation, ImageViews, augmentation, view_uniforms
from emc2_lite.vision.augmentation import (
    COLOUR_DRAWS,
    CROP_DRAWS,
    Colours,
    Crops,
    blur,
    draw_colours,
    draw_crops,
    recolour,
    resized_crops,
)

DRAWS = 3000
ALPHA = 1e-6
ADJUST = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)


def uniforms(count: int, seed: int = 0) -> torch.Tensor:
    index = torch.arange(DRAWS)
    return view_uniforms(index, torch.full_like(index, seed), count)


def same_law(ours, theirs) -> bool:
    return stats.ks_2samp([round(float(x), 4) for x in ours], [round(float(x), 4) for x in theirs]).pvalue > ALPHA


def share_is(flags: torch.Tensor, probability: float) -> bool:
    return stats.binomtest(int(flags.sum()), len(flags), probability).pvalue > ALPHA


@pytest.mark.parametrize("size", [(96, 96), (40, 90), (200, 30), (10, 300)], ids=str)
def test_crops_have_torchvisions_law(size):
    """The last two are so elongated that the ten attempts often fail, or always."""
    torch.manual_seed(0)
    theirs = v2.RandomResizedCrop(32)
    drawn = [theirs.make_params([torch.empty(3, *size)]) for _ in range(DRAWS)]
    ours = draw_crops(Augmentation(size=32), uniforms(CROP_DRAWS), *size)
    for name in ("top", "left", "height", "width"):
        assert same_law(getattr(ours, name), [params[name] for params in drawn]), name
    assert same_law(ours.width / ours.height, [params["width"] / params["height"] for params in drawn])
    assert same_law(ours.width * ours.height, [params["width"] * params["height"] for params in drawn])
    assert (ours.top >= 0).all() and (ours.top + ours.height <= size[0]).all()
    assert (ours.left >= 0).all() and (ours.left + ours.width <= size[1]).all()
    assert share_is(ours.flip, 0.5)


@pytest.mark.parametrize(("height", "width", "ratio"), [(1, 24, (0.1, 0.2)), (24, 1, (5.0, 6.0))], ids=str)
def test_no_box_is_thinner_than_a_pixel(height, width, ratio):
    """Here the largest box of an allowed shape would be 0.2 pixels thin, and a resized view not a number."""
    crops = draw_crops(Augmentation(size=8, ratio=ratio), uniforms(CROP_DRAWS), height, width)
    assert (crops.height == 1).all() and (crops.width == 1).all()


def test_the_first_box_that_fits_is_taken():
    crops = draw_crops(Augmentation(size=8, scale=(0.9, 1.0)), uniforms(CROP_DRAWS), 60, 60)
    area, ratio = uniforms(CROP_DRAWS)[:, :10], uniforms(CROP_DRAWS)[:, 10:20]
    for row in range(50):
        for attempt in range(10):
            pixels = 3600 * (0.9 + 0.1 * area[row, attempt].item())
            shape = math.exp(math.log(3 / 4) + (math.log(4 / 3) - math.log(3 / 4)) * ratio[row, attempt].item())
            width, height = round(math.sqrt(pixels * shape)), round(math.sqrt(pixels / shape))
            if width <= 60 and height <= 60:
                assert (crops.width[row], crops.height[row]) == (width, height)
                break


def test_colours_have_torchvisions_law():
    torch.manual_seed(0)
    augmentation = Augmentation(size=32, brightness=0.4, contrast=0.8, saturation=1.3, hue=0.2, sigma=(0.3, 1.5))
    jitter = v2.ColorJitter(0.4, 0.8, 1.3, 0.2)
    drawn = [jitter.make_params([]) for _ in range(DRAWS)]
    ours = draw_colours(augmentation, uniforms(COLOUR_DRAWS))
    changed = (ours.factors != torch.tensor([1.0, 1.0, 1.0, 0.0])).any(dim=1)
    assert share_is(changed, 0.8)
    for i, name in enumerate(("brightness", "contrast", "saturation", "hue")):
        assert same_law(ours.factors[changed, i], [params[f"{name}_factor"] for params in drawn]), name
    assert (ours.factors[:, 2] >= 0).all()
    codes = (ours.order * torch.tensor([64, 16, 4, 1])).sum(dim=1)
    assert torch.equal(ours.order.sort(dim=1).values, torch.arange(4).expand(DRAWS, 4))
    counts = torch.unique(codes, return_counts=True)[1]
    assert len(counts) == 24 and stats.chisquare(counts).pvalue > ALPHA
    assert share_is(ours.grayscale, 0.2)
    assert ours.blur.all()
    assert share_is(draw_colours(Augmentation(size=32, blur=0.3), uniforms(COLOUR_DRAWS)).blur, 0.3)
    sigma = [v2.GaussianBlur(9, (0.3, 1.5)).make_params([])["sigma"][0] for _ in range(DRAWS)]
    assert same_law(ours.sigma, sigma)


def test_parameters_of_a_view_are_independent():
    """Correlations of 3,000 draws: a standard error of 0.018; 0.12 is over six of them, for some 300 pairs."""
    ours = draw_crops(Augmentation(size=32), uniforms(CROP_DRAWS + COLOUR_DRAWS)[:, :CROP_DRAWS], 96, 96)
    colours = draw_colours(Augmentation(size=32, jitter=1.0), uniforms(CROP_DRAWS + COLOUR_DRAWS)[:, CROP_DRAWS:])
    area = ours.width * ours.height
    columns = [area, ours.width / ours.height, ours.flip, *colours.factors.T, colours.grayscale, colours.sigma]
    columns += list(colours.order.T.float())[:3]
    table = torch.corrcoef(torch.stack([column.float() for column in columns])).fill_diagonal_(0)
    table[-3:, -3:] = 0  # places in one order exclude each other
    assert table.abs().max() < 0.12


def smooth(count: int, height: int, width: int) -> torch.Tensor:
    coarse = torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)


def plain(count: int, height: int, width: int) -> torch.Tensor:
    """Black, white, grey, and pure colours, in turn."""
    colours = torch.tensor([[0.0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]])
    return colours[torch.arange(count) % 7][:, :, None, None].expand(-1, -1, height, width).contiguous()


def noisy(count: int, height: int, width: int) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


KINDS = {"noise": noisy, "smooth": smooth, "plain": plain}
every_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)


def check_crops(images: torch.Tensor, crops: Crops, size: int) -> None:
    """Our crops are torchvision's, pixel by pixel."""
    ours = resized_crops(images, crops, size)
    for image, view, top, left, h, w, flip in zip(images, ours, *(c.tolist() for c in crops), strict=True):
        expected = tv.resized_crop(image, int(top), int(left), int(h), int(w), [size, size], antialias=True)
        torch.testing.assert_close(view, tv.horizontal_flip(expected) if flip else expected, rtol=0, atol=1e-5)


@every_kind
@pytest.mark.parametrize("shape", [(50, 70, 32), (20, 20, 20), (9, 40, 16), (64, 48, 8), (8, 8, 33)], ids=str)
def test_crops_are_torchvisions_pixels(make, shape):
    height, width, size = shape
    images = make(40, height, width)
    check_crops(images, draw_crops(Augmentation(size=size), uniforms(CROP_DRAWS)[:40], height, width), size)


@pytest.mark.parametrize("box", [(0, 0, 1, 1), (29, 39, 1, 1), (0, 0, 1, 40), (5, 7, 25, 1), (0, 0, 30, 40)], ids=str)
def test_extreme_crops_are_torchvisions_pixels(box):
    images = noisy(1, 30, 40)
    crops = Crops(*(torch.tensor([float(number)]) for number in box), torch.tensor([False]))
    check_crops(images, crops, 12)


@pytest.mark.parametrize("shape", [(2, 900), (900, 2), (9, 200)], ids=str)
def test_only_the_crops_of_a_long_picture_are_weighed(shape, monkeypatch):
    """torchvision's pixels still, in weights as long as the longest crop and not as the picture."""
    images, lengths = noisy(40, *shape), []
    resizing = augmentation._resizing
    monkeypatch.setattr(augmentation, "_resizing", lambda *given: lengths.append(given[2]) or resizing(*given))
    check_crops(images, draw_crops(Augmentation(size=12), uniforms(CROP_DRAWS)[:40], *shape), 12)
    assert max(lengths) < 100


def recoloured(image, order, factors, grayscale):
    for operation in order.tolist():
        image = ADJUST[operation](image, factors[operation].item())
    return tv.rgb_to_grayscale(image, 3) if grayscale else image


@every_kind
def test_colours_are_torchvisions_pixels(make):
    """In every order of the four operations."""
    images = make(480, 6, 7)
    colours = draw_colours(Augmentation(size=8, jitter=0.9, hue=0.5), uniforms(COLOUR_DRAWS)[:480])
    assert len(torch.unique(colours.order, dim=0)) == 24
    ours = recolour(images, colours)
    for image, view, order, factors, grey in zip(images, ours, *colours[:3], strict=True):
        torch.testing.assert_close(view, recoloured(image, order, factors, grey), rtol=0, atol=1e-5)


def test_operations_that_are_not_drawn_change_nothing():
    images = noisy(24, 5, 5)
    order = draw_colours(Augmentation(size=8), uniforms(COLOUR_DRAWS)[:24]).order
    off = torch.zeros(24, dtype=torch.bool)
    factors = torch.tensor([1.0, 1.0, 1.0, 0.0]).expand(24, 4)
    assert torch.equal(recolour(images, Colours(order, factors, off, off, torch.ones(24))), images)


@every_kind
@pytest.mark.parametrize("kernel", [1, 3, 9, 23])
def test_blur_is_torchvisions_pixels(make, kernel):
    images = make(10, 16, 20)
    sigma = torch.linspace(0.1, 2.0, 10)
    for image, view, width in zip(images, blur(images, sigma, kernel), sigma.tolist(), strict=True):
        expected = tv.gaussian_blur(image, [kernel, kernel], [width, width])
        torch.testing.assert_close(view, expected, rtol=0, atol=1e-5)


def test_a_whole_view_is_torchvisions_pipeline():
    images = noisy(60, 50, 70)
    augmentation = Augmentation(size=32, blur=0.5)
    index, view = torch.arange(60), torch.full((60,), 3)
    ours = ImageViews(images, augmentation)(index, view)
    numbers = view_uniforms(index, view, CROP_DRAWS + COLOUR_DRAWS)
    crops = draw_crops(augmentation, numbers[:, :CROP_DRAWS], 50, 70)
    colours = draw_colours(augmentation, numbers[:, CROP_DRAWS:])
    for i in range(60):
        box = [int(part[i]) for part in crops[:4]]
        expected = tv.resized_crop(images[i], *box, [32, 32], antialias=True)
        expected = tv.horizontal_flip(expected) if crops.flip[i] else expected
        expected = recoloured(expected, colours.order[i], colours.factors[i], colours.grayscale[i])
        if colours.blur[i]:
            expected = tv.gaussian_blur(expected, [9, 9], [colours.sigma[i].item()] * 2)
        torch.testing.assert_close(ours[i], expected, rtol=0, atol=1e-5)
    assert 10 < colours.blur.sum() < 50


VIEWS = ImageViews((255 * noisy(20, 24, 24)).byte(), Augmentation(size=16))


def test_a_pair_gives_the_same_pixels_in_any_batch():
    index, view = torch.arange(20), torch.arange(20) % 5
    together = VIEWS(index, view)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(VIEWS(index[order], view[order]), together[order], rtol=0, atol=1e-6)
    for i in (0, 7):
        torch.testing.assert_close(VIEWS(index[i : i + 1], view[i : i + 1])[0], together[i], rtol=0, atol=1e-6)
    assert torch.equal(VIEWS(index, view), together)


def test_another_view_or_another_sample_looks_different():
    same_image = ImageViews(VIEWS.images[:1].expand(20, -1, -1, -1), VIEWS.augmentation)
    views = torch.cat(
        [
            VIEWS(torch.zeros(20, dtype=torch.int64), torch.arange(20)),
            same_image(torch.arange(1, 20), torch.zeros(19, dtype=torch.int64)),
        ]
    )
    distance = torch.cdist(views.flatten(1), views.flatten(1)).fill_diagonal_(9)
    assert distance.min() > 0.1


def test_views_are_float32_from_0_to_1_without_gradient_and_leave_no_trace():
    images, state = VIEWS.images.clone(), torch.get_rng_state()
    views = VIEWS(torch.arange(20), torch.arange(20))
    assert (views.dtype, views.shape, views.requires_grad) == (torch.float32, (20, 3, 16, 16), False)
    assert views.min() >= 0 and views.max() <= 1
    assert torch.equal(images, VIEWS.images) and torch.equal(state, torch.get_rng_state())


def test_mixed_precision_does_not_touch_the_pixels():
    index = torch.arange(20)
    plain_pixels = VIEWS(index, index)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(VIEWS(index, index), plain_pixels)


def test_images_in_floating_point_give_the_same_views():
    floating = ImageViews(VIEWS.images / 255, VIEWS.augmentation)
    index = torch.arange(20)
    assert torch.equal(floating(index, index), VIEWS(index, index))


def test_originals_are_the_images_brought_to_size():
    index = torch.tensor([3, 1])
    same_size = ImageViews(VIEWS.images, Augmentation(size=24))
    assert torch.equal(same_size.originals(index), VIEWS.images[index] / 255)
    expected = tv.resize(VIEWS.images[index] / 255, [16, 16], antialias=True)
    torch.testing.assert_close(VIEWS.originals(index), expected)


def test_stages_can_be_switched_off():
    off = Augmentation(size=24, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, jitter=0.0, grayscale=0.0, blur=0.0)
    index = torch.arange(20)
    torch.testing.assert_close(ImageViews(VIEWS.images, off)(index, index), VIEWS.images / 255)


def test_other_images_are_refused():
    for shape in ((2, 1, 8, 8), (0, 3, 8, 8)):
        with pytest.raises(ValueError, match=re.escape(f"images has shape {shape}: pass (N, 3, H, W).")):
            ImageViews(torch.zeros(shape), Augmentation(size=8))
    numbers = [torch.full((2, 3, 8, 8), number) for number in (1.5, -0.5, math.nan)]
    for images in (torch.zeros(2, 3, 8, 8, dtype=torch.int64), *numbers):
        with pytest.raises(ValueError, match=r"pass torch\.uint8, or floating point from 0 to 1"):
            ImageViews(images, Augmentation(size=8))
    with pytest.raises(ValueError, match="indices must be from 0 to 19"):
        VIEWS(torch.tensor([20]), torch.tensor([0]))
