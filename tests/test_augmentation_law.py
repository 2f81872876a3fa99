"""Each parameter of a random view has the announced law at all settings, and uniforms of its own.

Statistical tests: the null is the law named in the test's title. Every single test rejects below p = 1e-6, and there
are under 60 of them, so that the false-alarm rate of the file is below 1e-4. Seeds are fixed.
"""

import math

import pytest
import torch
from scipy import stats
from torchvision.transforms import v2

from emc2_lite.vision import Augmentation, view_uniforms
from emc2_lite.vision.augmentation import COLOUR_DRAWS, CROP_DRAWS, draw_colours, draw_crops

DRAWS = 100_000
ALPHA = 1e-6
UNIFORMS = view_uniforms(torch.arange(DRAWS), torch.arange(DRAWS) % 7, CROP_DRAWS + COLOUR_DRAWS)
CROP_UNIFORMS, COLOUR_UNIFORMS = UNIFORMS.split([CROP_DRAWS, COLOUR_DRAWS], dim=1)
LARGE = 4096  # a side at which the rounding to whole pixels is lost in the noise


def is_uniform(values: torch.Tensor, low: float, high: float) -> bool:
    """Kolmogorov-Smirnov: of 100,000 draws it sees a law that is off by 0.0085."""
    return stats.kstest(values.double(), "uniform", (low, high - low)).pvalue > ALPHA


def share_is(flags: torch.Tensor, probability: float) -> bool:
    return stats.binomtest(int(flags.sum()), len(flags), probability).pvalue > ALPHA


def small_crops():
    """So small that the first box always fits: its law is not that of the boxes that fit."""
    augmentation = Augmentation(size=32, scale=(0.2, 0.5), ratio=(0.5, 1.5))
    return draw_crops(augmentation, CROP_UNIFORMS, LARGE, LARGE)


def test_the_area_is_uniform_and_the_shape_uniform_in_logarithm():
    crops = small_crops()
    assert is_uniform(crops.width * crops.height / LARGE**2, 0.2, 0.5)
    assert is_uniform((crops.width / crops.height).log(), math.log(0.5), math.log(1.5))


def test_every_place_of_a_crop_is_equally_likely():
    """A box of 5 x 5 in 8 x 12 pixels has 4 x 8 places; n = 100,000, chi-square."""
    crops = draw_crops(Augmentation(size=8, scale=(0.25, 0.25), ratio=(1.0, 1.0)), CROP_UNIFORMS, 8, 12)
    assert (crops.height == 5).all() and (crops.width == 5).all()
    counts = torch.bincount((8 * crops.top + crops.left).long(), minlength=32)
    assert len(counts) == 32 and stats.chisquare(counts).pvalue > ALPHA


@pytest.mark.parametrize("uniform", [0, 2**23 - 1])
def test_the_smallest_and_the_largest_uniform_stay_inside(uniform):
    """For every number of places up to 3,000; rounding up would put a crop one pixel outside."""
    extreme = torch.full((1, CROP_DRAWS), 0.5)
    extreme[0, 20:22] = (uniform + 0.5) / 2**23
    for side in range(1, 3001):
        crops = draw_crops(Augmentation(size=8, scale=(0.25, 0.25), ratio=(1.0, 1.0)), extreme, side, side)
        last = side - crops.height if uniform else 0
        assert crops.top == last and crops.left == last


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (4, 2), (1, 6)], ids=str)
def test_crops_of_tiny_images_have_torchvisions_law(size):
    """Boxes of less than half a pixel count as failed attempts. All four numbers of a crop as one cell of a contingency
    table, n = 4,000 of torchvision's; cells that hold fewer than ten of both go together."""
    torch.manual_seed(0)
    theirs = v2.RandomResizedCrop(8)
    drawn = [tuple(theirs.make_params([torch.empty(3, *size)]).values()) for _ in range(4000)]
    ours = draw_crops(Augmentation(size=8), CROP_UNIFORMS, *size)
    crops = list(zip(*(part.int().tolist() for part in ours[:4]), strict=True))
    cells = sorted(set(drawn) | set(crops))
    table = torch.tensor([[both.count(cell) for cell in cells] for both in (drawn, crops)])
    rare = table.sum(dim=0) < 250
    table = torch.cat((table[:, ~rare], table[:, rare].sum(dim=1, keepdim=True)), dim=1)
    table = table[:, table.sum(dim=0) > 0]
    assert (ours.height >= 1).all() and (ours.width >= 1).all()
    assert table.shape[1] == 1 or stats.chi2_contingency(table).pvalue > ALPHA


def test_factors_and_widths_are_uniform():
    augmentation = Augmentation(
        size=8, jitter=1.0, brightness=0.4, contrast=0.9, saturation=1.3, hue=0.3, sigma=(0.4, 3.0)
    )
    colours = draw_colours(augmentation, COLOUR_UNIFORMS)
    for values, low, high in zip(colours.factors.T, (0.6, 0.1, 0, -0.3), (1.4, 1.9, 2.3, 0.3), strict=True):
        assert is_uniform(values, low, high)
    assert is_uniform(colours.sigma, 0.4, 3.0)


def test_all_24_orders_are_equally_likely():
    order = draw_colours(Augmentation(size=8), COLOUR_UNIFORMS).order
    counts = torch.unique(order, dim=0, return_counts=True)[1]
    assert len(counts) == 24 and stats.chisquare(counts).pvalue > ALPHA


@pytest.mark.parametrize("probability", [0.0, 0.3, 0.6, 1.0])
def test_every_probability_is_the_one_that_is_set(probability):
    settings = dict.fromkeys(("flip", "jitter", "grayscale", "blur"), probability)
    augmentation = Augmentation(size=8, **settings)
    colours = draw_colours(augmentation, COLOUR_UNIFORMS)
    changed = (colours.factors != torch.tensor([1.0, 1.0, 1.0, 0.0])).any(dim=1)
    flip = draw_crops(augmentation, CROP_UNIFORMS, 40, 40).flip
    for flags in (flip, changed, colours.grayscale, colours.blur):
        assert share_is(flags, probability)


def test_every_parameter_has_uniforms_of_its_own():
    """Correlations of 100,000 independent draws have a standard error of 0.0032; 0.02 is over six of them, for some 130
    pairs: a rate below 1e-7. Factors are those that the jitter would have, so that its own draw is seen beside them."""
    crops = small_crops()
    places = (crops.top / (LARGE - crops.height), crops.left / (LARGE - crops.width))
    boxes = [crops.width * crops.height, (crops.width / crops.height).log(), *places, crops.flip]
    colours = draw_colours(Augmentation(size=8, jitter=0.5, grayscale=0.5, blur=0.5), COLOUR_UNIFORMS)
    always = draw_colours(Augmentation(size=8, jitter=1.0), COLOUR_UNIFORMS)
    jittered = (colours.factors == always.factors).all(dim=1)
    choices = [jittered, colours.grayscale, colours.blur, colours.sigma, *always.factors.T, *colours.order.T[:3]]
    table = torch.corrcoef(torch.stack([column.float() for column in boxes + choices])).fill_diagonal_(0)
    table[-3:, -3:] = 0  # places in one order exclude each other
    assert table.abs().max() < 0.02


def test_the_defaults_are_the_papers_for_stl10():
    jitter = {"jitter": 0.8, "brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2}
    others = {"flip": 0.5, "grayscale": 0.2, "blur": 1.0, "sigma": (0.1, 2.0), "kernel": 9}
    crop = {"scale": (0.08, 1.0), "ratio": (3 / 4, 4 / 3)}
    assert Augmentation(size=96) == Augmentation(size=96, **crop, **jitter, **others)
