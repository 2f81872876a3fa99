"""What a configuration names, found: the device, its settings, the images and views of them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from emc2_lite.training import Config
from emc2_lite.vision import DigitViews, FileViews, FolderImages, ImageViews, LabelledImages, load_images
from emc2_lite.vision.views import Views


def pick_device(name: str) -> torch.device:
    """The device that "cpu", "cuda" or "auto" names.

    Raises:
        ValueError: if a GPU is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "A GPU is asked for, and torch finds none: on Colab choose a GPU runtime; "
            "elsewhere say training.device cpu, or auto."
        )
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def load_views(config: Config, part: str, device: torch.device, *, download: bool = False) -> tuple[Views, Tensor]:
    """Views of a part of the configured images, on the device, and their labels (N,), -1 where there is none.

    Args:
        part: "train", "labelled" or "test", see `emc2_lite.vision.load_images`.
        download: fetch a data set that is not there.

    Raises:
        FileNotFoundError, ValueError: if the images are missing or damaged.
    """
    data = config.data
    images = load_images(
        data.name,
        part,
        data.folder,
        samples=data.samples if part == "train" else None,
        download=download,
        skip_corrupt=data.skip_corrupt,
    )
    if isinstance(images, FolderImages) and data.in_memory:
        images = images.in_memory()
    if isinstance(images, LabelledImages):
        resident = images.images.to(device)
        views = ImageViews(resident, config.views) if config.views else DigitViews(resident)
    else:
        views = FileViews(images, config.views, device, workers=data.workers)
    views.identity, views.classes = images.identity, images.classes
    return views, images.labels


def images_in_words(labels: Tensor, classes: tuple[str, ...]) -> str:
    """Such as "40 images of 2 classes (cats 25, dogs 15)"."""
    images = f"{len(labels):,} images"
    counts = labels[labels >= 0].bincount().tolist()
    found = [(class_name(label, classes), count) for label, count in enumerate(counts) if count]
    if not found:
        return f"{images} without labels"
    if len(found) > 12:
        sizes = [count for _, count in found]
        return f"{images} of {len(found)} classes, {min(sizes):,} to {max(sizes):,} each"
    listed = ", ".join(f"{name} {count:,}" for name, count in found)
    return f"{images} of {len(found)} {'class' if len(found) == 1 else 'classes'} ({listed})"


def class_name(label: int, classes: tuple[str, ...]) -> str:
    return classes[label] if label < len(classes) else str(label)


@contextmanager
def settings_of(config: Config, device: torch.device) -> Iterator[None]:
    """Threads as configured, and on a GPU operations that give the same bits every time, as resuming needs."""
    threads = torch.get_num_threads()
    deterministic, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    benchmark = torch.backends.cudnn.benchmark
    if config.training.threads:
        torch.set_num_threads(config.training.threads)
    if device.type == "cuda":
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark
