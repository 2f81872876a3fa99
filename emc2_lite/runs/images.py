"""The device, its settings, the images and the views that a configuration names."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from emc2_lite.training import Config
from emc2_lite.vision import DigitViews, FileViews, FolderImages, ImageViews, LabelledImages, load_images
from emc2_lite.vision.datasets import Part
from emc2_lite.vision.views import Views


def pick_device(name: str) -> torch.device:
    """The device that "cpu", "cuda" or "auto" names.

    Raises: ValueError: on "cuda" where torch finds no GPU.

    >>> pick_device("cpu")
    device(type='cpu')
    """
    if name == "cuda" and not torch.cuda.is_available():
        words = "A GPU is asked for, and torch finds none: on Colab choose a GPU runtime; "
        raise ValueError(words + "elsewhere say training.device cpu, or auto.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """The name of the GPU, or "cpu", as records have it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def load_views(config: Config, part: Part, device: torch.device, *, download: bool = False) -> tuple[Views, Tensor]:
    """Views of a part of the configured images, on the device, and their labels (N,), -1 where an image has none.

    `part` is "train", "labelled" or "test", see `emc2_lite.vision.load_images`; `download` fetches a missing data set.

    Raises: FileNotFoundError, ValueError: if the images are missing or damaged.

    >>> views, labels = load_views(Config(), "test", torch.device("cpu"))
    >>> len(views), len(labels)
    (360, 360)
    """
    data = config.data
    samples = data.samples if part == "train" else None
    images = load_images(
        data.name, part, data.folder, samples=samples, download=download, skip_corrupt=data.skip_corrupt
    )
    if isinstance(images, FolderImages) and data.in_memory:
        images = images.in_memory()
    if isinstance(images, LabelledImages):
        resident = images.images.to(device)
        views: Views = ImageViews(resident, config.views) if config.views else DigitViews(resident)
    else:
        assert config.views is not None  # a Config of colour images has views
        views = FileViews(images, config.views, device, workers=data.workers)
    views.identity, views.classes = images.identity, images.classes
    return views, images.labels


def images_in_words(labels: Tensor, classes: tuple[str, ...]) -> str:
    """Such as "40 images of 2 classes (cats 25, dogs 15)"."""
    images, counts = f"{len(labels):,} images", labels[labels >= 0].bincount().tolist()
    found = {class_name(label, classes): count for label, count in enumerate(counts) if count}
    if not found:
        return f"{images} without labels"
    if len(found) > 12:
        return f"{images} of {len(found)} classes, {min(found.values()):,} to {max(found.values()):,} each"
    listed = ", ".join(f"{name} {count:,}" for name, count in found.items())
    return f"{images} of {len(found)} {'class' if len(found) == 1 else 'classes'} ({listed})"


def class_name(label: int, classes: tuple[str, ...]) -> str:
    return classes[label] if label < len(classes) else str(label)


@contextmanager
def settings_of(config: Config, device: torch.device) -> Iterator[None]:
    """While entered, threads as configured, and on a GPU deterministic operations, which resuming bit for bit needs."""
    threads, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    if config.training.threads:
        torch.set_num_threads(config.training.threads)
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic matrix products need it
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark
