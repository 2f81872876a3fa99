"""Images and names of views that are no tensors are refused in one sentence."""

import numpy as np
import pytest
import torch

from emc2_lite.vision import Augmentation, DigitViews, ImageViews, view_uniforms

GREY, COLOUR = torch.rand(3, 1, 8, 8), torch.rand(3, 3, 8, 8)
MAKE = {"DigitViews": DigitViews, "ImageViews": lambda images: ImageViews(images, Augmentation(size=8))}
VIEWS = {
    "DigitViews": DigitViews(GREY),
    "ImageViews": ImageViews(COLOUR, Augmentation(size=8)),
    "view_uniforms": lambda index, view: view_uniforms(index, view, 3),
}
OTHERS = {"ndarray": np.zeros(2, dtype=np.int64), "list": [0, 1], "NoneType": None, "int": 1, "str": "01"}


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_images_are_tensors(make, kind):
    with pytest.raises(ValueError, match=rf"^images is a {kind}: pass a torch\.Tensor\.$"):
        make(OTHERS[kind])


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("views", VIEWS.values(), ids=VIEWS)
def test_the_names_of_views_are_tensors(views, kind):
    names = torch.tensor([0, 1])
    assert len(views(names, names)) == 2
    for name, given in (("index", (OTHERS[kind], names)), ("view", (names, OTHERS[kind]))):
        with pytest.raises(ValueError, match=rf"^{name} is a {kind}: pass a torch\.Tensor\.$"):
            views(*given)
