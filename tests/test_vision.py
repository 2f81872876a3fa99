"""A pair (index, view number) names a view: its pixels are always the same, and pairs are as good as independent."""

import math
import subprocess
import sys

import pytest
import torch
from scipy.stats import kstest

from emc2_lite.vision import DigitEncoder, DigitViews, load_digits, view_uniforms
from emc2_lite.vision.views import _affine_maps

DIGITS = load_digits("all")
VIEWS = DigitViews(DIGITS.images)


def test_digits_are_the_real_ones():
    assert DIGITS.images.shape == (1797, 1, 8, 8)
    assert DIGITS.images.min() == 0
    assert DIGITS.images.max() == 1
    assert DIGITS.labels.unique().tolist() == list(range(10))


def test_splits_are_disjoint_stratified_and_complete():
    train, test = load_digits("train"), load_digits("test")
    assert (len(train.images), len(test.images)) == (1437, 360)
    both = torch.cat((train.images, test.images)).flatten(1)
    assert torch.equal(both.unique(dim=0), DIGITS.images.flatten(1).unique(dim=0))
    for split in (train, test):
        shares = torch.bincount(split.labels) / len(split.labels)
        assert (shares - torch.bincount(DIGITS.labels) / 1797).abs().max() < 0.002


def test_the_same_pair_gives_the_same_pixels_in_any_batch():
    index, view = torch.arange(100), torch.arange(100) % 7
    together = VIEWS(index, view)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    assert torch.equal(VIEWS(index[order], view[order]), together[order])
    assert torch.equal(torch.cat([VIEWS(i, v) for i, v in zip(index.split(9), view.split(9), strict=True)]), together)


def test_different_pairs_give_different_pixels():
    index, view = torch.tensor([5, 5, 6, 6, 5]), torch.tensor([0, 1, 0, 1, 2**40])
    assert len(VIEWS(index, view).flatten(1).unique(dim=0)) == 5


def test_views_are_images_without_gradient():
    images = DIGITS.images.clone().requires_grad_()
    views = DigitViews(images)(torch.arange(1797), torch.full((1797,), 3))
    assert views.shape == images.shape
    assert not views.requires_grad
    assert views.min() >= 0
    assert views.max() <= 1


def test_each_view_of_a_batch_has_parameters_of_its_own():
    same_image = DigitViews(DIGITS.images[:1].expand(50, -1, -1, -1))
    assert len(same_image(torch.arange(50), torch.zeros(50, dtype=torch.int64)).flatten(1).unique(dim=0)) == 50


def test_uniforms_are_uniform():
    """Null: independent Uniform(0, 1). Kolmogorov-Smirnov, n = 1,000,000; false-alarm rate 2 exp(-2 * 2.4^2) < 2e-5."""
    index = torch.arange(10_000)
    draws = view_uniforms(index, index % 10, 100).flatten().double().sort().values
    n = len(draws)
    distance = (draws - (torch.arange(n) + 0.5) / n).abs().max()
    assert distance < 2.4 / math.sqrt(n)
    assert draws[0] > 0
    assert draws[-1] < 1


def test_neighbouring_uniforms_are_uncorrelated():
    """Null: independent numbers. Three correlations of n = 99,000 pairs each, |r| < 5 / sqrt(n): rate below 2e-6."""
    index, view = torch.meshgrid(torch.arange(100), torch.arange(100), indexing="ij")
    draws = view_uniforms(index.flatten(), view.flatten(), 10).view(100, 100, 10).double() - 0.5
    for one, other in ((draws[1:], draws[:-1]), (draws[:, 1:], draws[:, :-1]), (draws[..., 1:], draws[..., :-1])):
        assert (12 * (one * other).mean()).abs() < 5 / math.sqrt(90_000)


def test_uniforms_do_not_change_with_the_library():
    """The first two numbers of pair (3, 4) by SplitMix64 in plain Python integers."""
    mask, golden = 2**64 - 1, 0x9E3779B97F4A7C15

    def mix(x):
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        return x ^ (x >> 31)

    key = mix((mix((3 + golden) & mask) + 4 * golden) & mask)
    expected = [((mix((key + j * golden) & mask) >> 41) + 0.5) / 2**23 for j in (1, 2)]
    assert view_uniforms(torch.tensor([3]), torch.tensor([4]), 2)[0].tolist() == expected


def test_no_uniform_is_zero_or_one(monkeypatch):
    for extreme in (0, -1):  # all bits 0, all bits 1
        monkeypatch.setattr("emc2_lite.vision.views.mix", lambda x, extreme=extreme: torch.full_like(x, extreme))
        draws = view_uniforms(torch.tensor([0]), torch.tensor([0]), 3)
        assert ((draws > 0) & (draws < 1)).all()


def test_affine_maps_have_the_announced_ranges():
    extremes = torch.tensor([[a, b, c, d, e, f] for a in (-1, 0, 1) for b in (-1, 1) for c in (-1, 1) for d in (-1, 1)
                             for e in (-1, 1) for f in (-1, 1)]).float()  # fmt: skip
    maps, contrast = _affine_maps(extremes, torch.Size((8, 8)))
    scale = maps[:, :, :2].det().pow(-0.5)
    torch.testing.assert_close(scale.min(), torch.tensor(0.85))
    torch.testing.assert_close(scale.max(), torch.tensor(1.15))
    angle = torch.atan2(maps[:, 1, 0], maps[:, 0, 0]).rad2deg()
    torch.testing.assert_close(angle.abs().max(), torch.tensor(15.0))
    assert maps[:, :, 2].abs().unique().tolist() == [0.25]  # a pixel of eight, in a range of length 2
    torch.testing.assert_close(contrast.flatten().unique(), torch.tensor([0.6, 1.4]))


def test_affine_map_is_rotation_times_shear_over_scale_and_a_shift():
    """From a point of the view to the point of the image that is seen there, in units of half an image."""
    angle, scale, shear = math.radians(7.5), 1.06, -0.06
    rotation = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    expected = rotation @ torch.tensor([[1, shear], [0, 1]]) / scale
    maps, contrast = _affine_maps(torch.tensor([[0.5, 0.4, -0.3, 0.7, -0.9, 0.25]]), torch.Size((8, 8)))
    torch.testing.assert_close(maps[0], torch.cat((expected, torch.tensor([[0.7 / 4], [-0.9 / 4]])), dim=1))
    assert contrast.item() == pytest.approx(1.1)


@pytest.mark.parametrize(("right", "down"), [(1, 0), (0, 1), (-1, 1)])
def test_a_full_shift_is_one_pixel(monkeypatch, right, down):
    uniforms = torch.full((1, 70), 0.5)
    uniforms[0, 3:5] = torch.tensor([right + 1, down + 1]) / 2
    monkeypatch.setattr("emc2_lite.vision.views.view_uniforms", lambda *_: uniforms)
    view = VIEWS(torch.tensor([5]), torch.tensor([0]))[0, 0]
    padded = torch.nn.functional.pad(DIGITS.images[5, 0], (1, 1, 1, 1))
    torch.testing.assert_close(view, padded[1 + down : 9 + down, 1 + right : 9 + right])


def test_noise_is_gaussian_of_the_announced_size():
    """Null: normal, deviation 0.05, at 64,000 pixels of a level image. Kolmogorov-Smirnov, false-alarm rate 1e-6."""
    index = torch.arange(4_000)
    views = DigitViews(torch.full((4_000, 1, 12, 12), 0.5))(index, index % 3)
    contrast = 1 + 0.4 * (2 * view_uniforms(index, index % 3, 6)[:, 5] - 1)
    noise = views[:, 0, 4:8, 4:8] - 0.5 * contrast[:, None, None]
    assert kstest(noise.flatten().double() / 0.05, "norm").pvalue > 1e-6


def test_without_randomness_a_view_is_the_image(monkeypatch):
    monkeypatch.setattr("emc2_lite.vision.views.view_uniforms", lambda i, v, n: torch.full((len(i), n), 0.5))
    index = torch.arange(20)
    torch.testing.assert_close(VIEWS(index, index), DIGITS.images[:20])


@pytest.mark.parametrize("dim", [2, 32])
def test_embeddings_have_length_one(dim):
    encoder = DigitEncoder(dim)
    embeddings = encoder(DIGITS.images[:30])
    assert embeddings.shape == (30, dim)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(30))
    assert encoder.features(DIGITS.images[:30]).shape == (30, 128)


def test_slow_packages_are_imported_by_the_functions_that_use_them():
    """torchvision, with torch's compiler behind it, took half of the time that the command line took to start."""
    program = "; ".join(
        [
            "import sys, emc2_lite.vision",
            "print({'numba'} & set(sys.modules))",
            "import emc2_lite.runs",
            "print({'torchvision', 'sklearn', 'torch._dynamo'} & set(sys.modules))",
        ]
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True).split("\n") == ["set()", "set()", ""]
