"""Views that are made once and kept: a finite set, whose exact global loss can be computed."""

import torch
from torch import Tensor
from torchvision.transforms import v2

from emc2_lite.checks import check_tensor


class StoredViews:
    """Views as they lie in memory: (index, view) -> images[index, view].

    Args:
        images: (N, V, C, H, W) floating point.

    Raises:
        ValueError: on what is no tensor.
        IndexError: on indices or view numbers outside the set, negative ones too.
    """

    def __init__(self, images: Tensor):
        check_tensor(images, "images")
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __call__(self, index: Tensor, view: Tensor) -> Tensor:
        check_tensor(index, "index")
        check_tensor(view, "view")
        if index.numel() and min(index.min(), view.min()) < 0:
            raise IndexError(f"Asked for index {int(index.min())} and view {int(view.min())}: numbers start at 0.")
        return self.images[index, view]


def stored_stl10_views(images: Tensor, *, num_views: int = 2, seed: int = 0) -> StoredViews:
    """Random views by the paper's augmentation for STL-10: (N, 3, 96, 96) uint8 -> N x num_views stored views.

    RandomResizedCrop(96), horizontal flip, ColorJitter(0.8, 0.8, 0.8, 0.2) with probability 0.8, grayscale with
    probability 0.2, Gaussian blur with sigma 0.1 to 2; pixels in [0, 1], no normalisation. Each view draws its own
    parameters; the same seed gives the same pixels, and torch's global random state is left alone.
    """
    augment = v2.Compose(
        [
            v2.ToDtype(torch.float32, scale=True),
            v2.RandomResizedCrop(96, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
            v2.RandomGrayscale(0.2),
            v2.GaussianBlur(9, (0.1, 2.0)),
        ]
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        views = torch.stack([torch.stack([augment(image) for _ in range(num_views)]) for image in images])
    return StoredViews(views.clamp_(0, 1))
