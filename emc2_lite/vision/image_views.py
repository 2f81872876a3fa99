"""Random views of colour images that lie in memory."""

import torch
from torch import Tensor
from torch.nn import functional as F

from emc2_lite.checks import check_tensor
from emc2_lite.vision.augmentation import (
    COLOUR_DRAWS,
    CROP_DRAWS,
    Augmentation,
    draw_colours,
    draw_crops,
    finish,
    resized_crops,
)
from emc2_lite.vision.views import Views, view_uniforms


class ImageViews(Views):
    """Random views of colour images that lie in memory, made on their device.

    Args:
        images: (N, 3, H, W), uint8, or floating point in [0, 1].
        augmentation: what is done to them.

    Call with index, view: (k,) int64 on that device -> (k, 3, S, S) float32.

    Raises:
        ValueError: on images of another shape or range; when called, see `Views`.
    """

    def __init__(self, images: Tensor, augmentation: Augmentation):
        check_tensor(images, "images")
        if images.dim() != 4 or images.shape[1] != 3 or not images.numel():
            raise ValueError(f"images has shape {tuple(images.shape)}: pass (N, 3, H, W).")
        if images.dtype != torch.uint8 and not (images.is_floating_point() and images.min() >= 0 and images.max() <= 1):
            raise ValueError(f"images is {images.dtype}: pass torch.uint8, or floating point from 0 to 1.")
        self.images = images
        self.augmentation = augmentation

    def __len__(self) -> int:
        return len(self.images)

    def make(self, index: Tensor, view: Tensor) -> Tensor:
        uniforms = view_uniforms(index, view, CROP_DRAWS + COLOUR_DRAWS)
        crops = draw_crops(self.augmentation, uniforms[:, :CROP_DRAWS], *self.images.shape[2:])
        colours = draw_colours(self.augmentation, uniforms[:, CROP_DRAWS:])
        return finish(resized_crops(self._pixels(index), crops, self.augmentation.size), colours, self.augmentation)

    def originals(self, index: Tensor) -> Tensor:
        """The images, resized to S x S if they have another size."""
        images, size = self._pixels(index), self.augmentation.size
        if images.shape[2:] == (size, size):
            return images
        return F.interpolate(images, (size, size), mode="bilinear", antialias=True)

    def _pixels(self, index: Tensor) -> Tensor:
        images = self.images[index]
        return images / 255 if images.dtype == torch.uint8 else images.float()
