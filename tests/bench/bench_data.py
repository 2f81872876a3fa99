"""Views per second, and nearest neighbours."""

import pytest
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from bench.bench_steps import photographs
from bench.conftest import DEVICE
from emc2_lite.evaluation import nearest_neighbours
from emc2_lite.vision import Augmentation, ImageViews

COUNT = 128


class PerImage(Dataset):
    """torchvision's SimCLR transformations, one image at a time."""

    def __init__(self, images, size):
        self.images = images.cpu()
        self.transform = v2.Compose(
            [
                v2.RandomResizedCrop(size, antialias=True),
                v2.RandomHorizontalFlip(),
                v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], 0.8),
                v2.RandomGrayscale(0.2),
                v2.GaussianBlur(9, (0.1, 2.0)),
                v2.ToDtype(torch.float32, scale=True),
            ]
        )

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        return self.transform(self.images[index % len(self.images)])


@pytest.mark.parametrize("size", [32, 96])
def test_views(compare, size):
    images = photographs()
    views = ImageViews(images, Augmentation(size))
    index = torch.arange(COUNT, device=DEVICE)
    # Its workers are no copies of this process, whose threads might hold a lock at that moment.
    how = {"num_workers": 2, "persistent_workers": True, "multiprocessing_context": "forkserver", "timeout": 120}
    workers = DataLoader(PerImage(images, size), batch_size=64, **how)
    row = compare(
        "views",
        f"{COUNT} of {size} x {size}",
        ("ImageViews", lambda: views(index % len(images), index)),
        ("torchvision in 2 workers", lambda: [batch.to(DEVICE) for batch in workers]),
        rounds=10,
        faster=True,
    )
    row["note"] = f"{1000 * COUNT / row['ms']:,.0f} views a second"


@pytest.mark.parametrize("points", [1_000, 20_000])
def test_nearest_neighbours(compare, points):
    """The limit is the product of the features."""
    features, queries = torch.randn(points, 512, device=DEVICE), torch.randn(1_000, 512, device=DEVICE)
    compare(
        "20 nearest neighbours",
        f"1000 of {points}, f=512",
        ("nearest_neighbours", lambda: nearest_neighbours(features, queries, 20)),
        ("limit: the product", lambda: queries @ features.T),
        rounds=15,
    )
