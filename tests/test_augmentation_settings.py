"""Settings of an augmentation are taken as described, or refused in one sentence."""

import dataclasses
import math
import re

import pytest
import torch

from emc2_lite.checks import descriptions
from emc2_lite.vision import Augmentation, ImageViews

IMAGES = torch.rand(3, 3, 24, 24, generator=torch.Generator().manual_seed(0))

REFUSALS = {
    "size is 0: it must be a whole number from 1 to 4,096.": {"size": 0},
    "size is 5000: it must be a whole number from 1 to 4,096.": {"size": 5000},
    "size is 32.5: it must be a whole number": {"size": 32.5},
    "size is '32': it must be a whole number": {"size": "32"},
    "flip is 1.5: it must be a number from 0 to 1.": {"flip": 1.5},
    "flip is True: it must be a number from 0 to 1.": {"flip": True},
    "blur is -0.1: it must be a number from 0 to 1.": {"blur": -0.1},
    "jitter is nan: it must be a number from 0 to 1.": {"jitter": math.nan},
    "jitter is None: it must be a number from 0 to 1.": {"jitter": None},
    "grayscale is 2: it must be a number from 0 to 1.": {"grayscale": 2},
    "scale holds 0.0: it must be a number above 0": {"scale": (0.0, 1.0)},
    "scale holds 1.1: it must be a number above 0": {"scale": (0.5, 1.1)},
    "scale is (0.5, 0.2): the smaller number comes first.": {"scale": (0.5, 0.2)},
    "scale is 0.2: it must be a list of 2 values.": {"scale": 0.2},
    "scale is (0.2, 0.5, 1): it must be a list of 2 values.": {"scale": (0.2, 0.5, 1)},
    "scale is '0.2, 1': it must be a list of 2 values.": {"scale": "0.2, 1"},
    "ratio is (2.0, 1.0): the smaller number comes first.": {"ratio": (2, 1)},
    "ratio holds 1e-300: it must be a number from 0.001 to 1,000.": {"ratio": (1e-300, 1.0)},
    "sigma holds 0: it must be a number from 0.001 to 1,000.": {"sigma": (0, 1)},
    "sigma holds inf: it must be a number from 0.001 to 1,000.": {"sigma": (1, math.inf)},
    "sigma is (2.0, 1.0): the smaller number comes first.": {"sigma": (2, 1)},
    "hue is 0.6: it must be a number from 0 to 0.5.": {"hue": 0.6},
    "brightness is -1: it must be a number from 0 to 100.": {"brightness": -1},
    "contrast is inf: it must be a number from 0 to 100.": {"contrast": math.inf},
    "saturation is nan: it must be a number from 0 to 100.": {"saturation": math.nan},
    "kernel is 8: it must be odd.": {"kernel": 8},
    "kernel is -1: it must be a whole number from 1 to 8,191.": {"kernel": -1},
    "kernel is 65 and size 32: a blur of views of this size has at most 63 taps; set kernel": {"kernel": 65},
    "kernel is 9 and size 4: a blur of views of this size has at most 7 taps; set kernel to that, or leave": {
        "size": 4
    },
    "kernel is 5, and nothing reads it where blur is 0.0: leave it out.": {"kernel": 5, "blur": 0.0},
    "sigma is (1, 2), and nothing reads it where blur is 0.0: leave it out.": {"sigma": (1, 2), "blur": 0},
    **{
        f"{name} is 0.3, and nothing reads it where jitter is 0.0: leave it out.": {name: 0.3, "jitter": 0.0}
        for name in ("brightness", "contrast", "saturation", "hue")
    },
}


@pytest.mark.parametrize(("sentence", "settings"), REFUSALS.items(), ids=REFUSALS)
def test_settings_out_of_range_are_refused(sentence, settings):
    with pytest.raises(ValueError, match=re.escape(sentence)) as refusal:
        Augmentation(**({"size": 32} | settings))
    assert "\n" not in str(refusal.value)


def test_every_field_has_a_description():
    """Configurations read the descriptions: every field has one."""
    assert list(descriptions(Augmentation)) == [field.name for field in dataclasses.fields(Augmentation)]


def test_settings_become_what_their_descriptions_say():
    made = Augmentation(size=32, scale=[1, 1], flip=1, sigma=[1, 2])
    assert (made.scale, made.flip, made.sigma) == ((1.0, 1.0), 1.0, (1.0, 2.0))
    assert made == Augmentation(size=32, scale=(1.0, 1.0), flip=1.0, sigma=(1.0, 2.0))
    assert isinstance(made.flip, float) and isinstance(made.scale, tuple)
    hash(made)


def test_views_smaller_than_the_blurs_kernel_need_no_kernel_without_a_blur():
    views = ImageViews(IMAGES, Augmentation(size=2, blur=0.0))
    assert views(torch.arange(3), torch.arange(3)).shape == (3, 3, 2, 2)


def test_the_widest_kernel_is_taken():
    views = ImageViews(IMAGES, Augmentation(size=8, kernel=15))
    assert views(torch.arange(3), torch.arange(3)).isfinite().all()
