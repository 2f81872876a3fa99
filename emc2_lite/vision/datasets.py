"""Data sets by name: handwritten digits, CIFAR-10, STL-10, ImageNet-100, and any folder of images."""

from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from emc2_lite.checks import Bounds, checked_settings
from emc2_lite.vision.downloads import fetch_archive, take_copy
from emc2_lite.vision.images import FolderImages, LabelledImages
from emc2_lite.vision.listing import class_names, parts_among, place


class DatasetSize(NamedTuple):
    """What is known of a data set before it is read; None where the reader's folder decides."""

    samples: int | None  # images to train an encoder on
    shape: tuple[int, int, int] | None  # (C, H, W) of each
    in_memory: bool  # whether they are held as one tensor
    download_bytes: int  # of the archive, 0 if there is none


DATASETS = {
    "digits": DatasetSize(1437, (1, 8, 8), True, 0),
    "cifar10": DatasetSize(50_000, (3, 32, 32), True, 170_498_071),
    "stl10": DatasetSize(100_000, (3, 96, 96), True, 2_640_397_119),
    "imagenet100": DatasetSize(126_689, None, False, 0),
    "folder": DatasetSize(None, None, False, 0),
}
_STL10_SPLITS = {"train": "unlabelled", "labelled": "train", "test": "test"}
_STL10_COUNTS = {"unlabelled": 100_000, "train": 5_000, "test": 8_000}
_STL10_CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
Count = Annotated[int, Bounds(least=1)]
Part = Literal["train", "labelled", "test"]


@checked_settings
def load_images(
    name: str,
    part: Part,
    folder: str | Path = "data/downloads",
    *,
    samples: Count | None = None,
    download: bool = False,
    skip_corrupt: bool = False,
) -> LabelledImages | FolderImages:
    """A part of a data set: images with their `labels`, the names of their `classes`, and an `identity`.

    Args:
        name: a key of `DATASETS`.
        part: "train", for an encoder; "labelled", for probes, which differs from "train" for STL-10 alone; "test".
        folder: where the data lie, or are downloaded to; "~" is the reader's home. The parts of "folder" are its
            subfolders train/ and test/ (or val/), with the same classes; without train/, all its images are "train".
        samples: the number of images, drawn without replacement by a fixed seed, in their order; all by default.
        download: fetch CIFAR-10 or STL-10 if the folder lacks them.
        skip_corrupt: leave out image files that cannot be read, with a warning.

    Raises: ValueError: on another name, part or number of samples, damaged files, or parts with different classes;
        FileNotFoundError: if the folder lacks the data.

    >>> len(load_images("digits", "test", samples=10))
    10
    """
    if name not in DATASETS:
        raise ValueError(f"The data set is {name!r}: use one of {', '.join(DATASETS)}.")
    split = part if name == "stl10" or part == "test" else "train"
    if name == "imagenet100":
        images: LabelledImages | FolderImages = load_imagenet100(split, folder, skip_corrupt=skip_corrupt)
    elif name == "stl10":
        images = load_stl10(_STL10_SPLITS[part], folder, count=samples, at_random=bool(samples), download=download)
    elif name == "folder":
        images = FolderImages(_part_of(place(folder), split), skip_corrupt=skip_corrupt)
    else:
        images = load_digits(split) if name == "digits" else load_cifar10(split, folder, download=download)
    if samples is not None and name != "stl10":
        if samples > len(images):
            raise ValueError(f"{samples} images of {name} are asked for, and there are {len(images)}: ask for fewer.")
        images = images.subset(_sample(len(images), samples))
    if isinstance(images, LabelledImages):
        images = replace(images, identity=f"{name} {split}, {' x '.join(map(str, images.images.shape))}")
    return images


def _sample(count: int, samples: int) -> Tensor:
    """Indices of `samples` out of `count` images, always the same ones."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[:samples].sort().values


def load_digits(split: str = "all") -> LabelledImages:
    """The UCI handwritten digits that ship with scikit-learn, 8 x 8, one channel, ten classes: "all" 1,797 images, or
    "train" (1,437) or "test" (360), a split that is stratified by class and always the same.

    Raises: ValueError: on another split.
    Source: Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository.

    >>> images, labels = load_digits("train")
    >>> images.shape, labels.shape
    (torch.Size([1437, 1, 8, 8]), torch.Size([1437]))
    """
    from sklearn import datasets, model_selection  # here, because scikit-learn takes seconds

    _check_split(split, "all", "train", "test")
    raw = datasets.load_digits()
    images, labels = torch.from_numpy(raw.images).float().unsqueeze(1) / 16, torch.from_numpy(raw.target).long()
    digits = LabelledImages(images, labels, tuple(map(str, raw.target_names)))
    if split == "all":
        return digits
    parts = model_selection.train_test_split(range(len(digits)), test_size=0.2, random_state=0, stratify=raw.target)
    return digits.subset(torch.tensor(sorted(parts[split == "test"])))


def load_cifar10(split: str, folder: str | Path, *, download: bool = False) -> LabelledImages:
    """CIFAR-10: 50,000 ("train") or 10,000 ("test") images of 32 x 32, uint8, ten classes. The files are pickles, which
    can run code: torchvision checks their checksums first.

    Raises: ValueError: on another split, or damaged files; FileNotFoundError: if `cifar-10-batches-py/` is missing;
        ConnectionError: if a download fails; it can be continued.
    Source: Krizhevsky 2009, Learning multiple layers of features from tiny images.
    """
    from torchvision.datasets import CIFAR10

    _check_split(split, "train", "test")
    content = place(folder) / CIFAR10.base_folder
    _fetch("cifar10", "CIFAR-10", CIFAR10, content.parent, content, download)
    try:
        data = CIFAR10(content.parent, train=split == "train")
    except RuntimeError:
        raise ValueError(
            f"{content} is not whole, or a file in it has another checksum: delete it and download it again."
        ) from None
    images = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
    return LabelledImages(images, torch.tensor(data.targets), tuple(data.classes))


@checked_settings
def load_stl10(
    split: str, folder: str | Path, *, count: Count | None = None, at_random: bool = False, download: bool = False
) -> LabelledImages:
    """STL-10: 100,000 "unlabelled", 5,000 "train" or 8,000 "test" images of 96 x 96, uint8, ten classes, from
    `stl10_binary/` in `folder`; the first `count` images or, `at_random`, a sample by a fixed seed, all by default.

    Raises: ValueError: on another split, a count below 1, or a file that holds fewer images; FileNotFoundError: if the
        split's files are missing; ConnectionError: if a download fails; it can be continued.
    Source: Coates, Lee and Ng 2011, An analysis of single-layer networks in unsupervised feature learning.
    """
    from torchvision.datasets import STL10

    _check_split(split, *_STL10_COUNTS)
    root, stem = place(folder), "unlabeled" if split == "unlabelled" else split
    path = root / STL10.base_folder / f"{stem}_X.bin"
    _fetch("stl10", "STL-10", STL10, root, path, download)
    found, wanted = path.stat().st_size // (3 * 96 * 96), count or _STL10_COUNTS[split]
    if found < wanted:
        raise ValueError(
            f"{path} holds {found} images, {wanted} were asked for: it is damaged or cut short, or the count too high; "
            "delete it and download it again, or ask for fewer."
        )
    chosen = _sample(found, wanted) if at_random else torch.arange(wanted)
    stored = np.memmap(path, np.uint8, "r", shape=(found, 3, 96, 96))
    images = torch.empty((wanted, 3, 96, 96), dtype=torch.uint8)
    for part, numbers in zip(images.split(100), chosen.split(100), strict=True):
        part.copy_(torch.from_numpy(stored[numbers.numpy()]).transpose(2, 3))  # the file goes column by column
    if split == "unlabelled":
        return LabelledImages(images, torch.full((wanted,), -1))
    beside = path.with_name(f"{stem}_y.bin")
    labels = np.fromfile(beside, np.uint8)[:found] if beside.is_file() else np.empty(0, np.uint8)
    if len(labels) < (found if at_random else wanted) or labels.min() < 1 or labels.max() > 10:
        raise ValueError(f"{beside} lacks labels, or holds others than 1 to 10: delete it and download it again.")
    return LabelledImages(images, torch.from_numpy(labels)[chosen].long() - 1, _STL10_CLASSES)


@checked_settings
def fetch(
    name: Literal["cifar10", "stl10"], folder: str | Path = "data/downloads", keep: str | Path | None = None
) -> bool:
    """Fetch a data set into the folder and unpack it there, or do nothing where it is.

    With `keep`, a folder that outlives the machine, the archive is taken from there if it is there, and a copy is left
    there otherwise. Returns whether `keep` has the archive: not where the data were unpacked earlier, and their archive
    deleted.

    Raises: ValueError: on another name, or an archive in `keep` with another checksum; ConnectionError, OSError: as
        `emc2_lite.vision.downloads.fetch_archive`.
    """
    from torchvision import datasets

    source = getattr(datasets, name.upper())
    archive = place(folder) / source.filename
    kept = None if keep is None else place(keep) / source.filename
    if kept is not None and kept.exists() and not archive.exists():
        take_copy(kept, archive, source.tgz_md5)
    wanted = archive.parent / source.base_folder
    fetch_archive(source.url, archive.parent, archive.name, source.tgz_md5, source.base_folder, wanted)
    if kept is not None and not kept.exists() and archive.exists():
        take_copy(archive, kept, source.tgz_md5)
    return kept is not None and kept.exists()


def _fetch(name: str, title: str, source: Any, folder: Path, wanted: Path, download: bool) -> None:
    """Download a torchvision archive if `wanted`, a part of the content, is missing and `download` is set."""
    if download:
        fetch_archive(source.url, folder, source.filename, source.tgz_md5, source.base_folder, wanted)
    if not wanted.exists():
        raise FileNotFoundError(
            f"There is no {wanted}: {title} can be fetched, {DATASETS[name].download_bytes / 1e9:.1f} GB, by emc2-lite "
            f"fetch {name}, or with download=True."
        )


def load_imagenet100(split: str, folder: str | Path, *, skip_corrupt: bool = False) -> FolderImages:
    """The 100 classes of ImageNet that `imagenet100.txt` lists. The reader's folder holds "train" in train/ and "test",
    ImageNet's validation set, in val/, with a subfolder for each class, named by the WordNet id.

    Raises: ValueError: on another split; FileNotFoundError: if the folder or one of the classes is missing.
    Source: Russakovsky et al. 2015, ImageNet large scale visual recognition challenge; the list is that of Tian,
    Krishnan and Isola 2019, Contrastive multiview coding.
    """
    _check_split(split, "train", "test")
    listed = (files("emc2_lite.vision") / "imagenet100.txt").read_text(encoding="utf-8").splitlines()
    classes = [line for line in listed if not line.startswith("#")]
    root = place(folder) / ("train" if split == "train" else "val")
    if not root.is_dir():
        raise FileNotFoundError(
            f"There is no {root}: ImageNet must be fetched by you, who accepts its terms, and unpacked there, "
            "a subfolder for each class in train/ and val/; say where it is with data.folder."
        )
    return FolderImages(root, classes=classes, skip_corrupt=skip_corrupt)


def _part_of(folder: Path, split: str) -> Path:
    """The folder of a part: train/, test/ or val/ where train/ is a part, else the folder itself."""
    if not folder.is_dir():
        return folder
    train, names = folder / "train", class_names(folder)
    parts = parts_among(names)
    test = next((folder / name for name in ("test", "val") if (folder / name).is_dir()), None)
    # A folder train among others may be the class of trains, as in CIFAR-100: such a class holds no subfolders.
    has_parts = train.is_dir() and (test is not None or len(parts) == len(names) or bool(class_names(train)))
    if split == "train":
        return train if has_parts else folder
    if test is None or not has_parts:
        odd = [name for name in parts if name not in ("train", "test", "val")]
        named = f"; {', '.join(odd)} must have one of these names to be read" if odd else ""
        raise FileNotFoundError(
            f"{folder} has no test images: lay them in {folder}/test, and the others in {folder}/train{named}."
        )
    if odd := sorted(set(class_names(train)) ^ set(class_names(test))):
        raise ValueError(
            f"{train} and {test} have not the same classes: {', '.join(odd[:3])} only in one of them; give both the "
            "same subfolders, or one label would mean two things."
        )
    return test


def _check_split(split: str, *allowed: str) -> None:
    if split not in allowed:
        *others, last = (f'"{name}"' for name in allowed)
        raise ValueError(f"split is {split!r}: use {', '.join(others)} or {last}.")
