"""A folder of images as a data set: files that are decoded when they are asked for."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms.v2.functional import pil_to_tensor
from tqdm import tqdm

from emc2_lite.vision.images import LabelledImages


class FolderImages:
    """Images in files; `files[i]` decodes one, (3, H, W) uint8, and sizes may differ from image to image.

    Subfolders are classes, in alphabetical order, with all files in and below them; images in a folder without
    subfolders have no classes, and the label -1. No image is passed over: a folder with both is refused.

    Args:
        folder: where to look.
        classes: names of the subfolders to take, in the order of their labels; all of them if not given.
        skip_corrupt: decode every file once now, and leave out those that cannot be read, with one warning.

    Raises:
        FileNotFoundError: if the folder, one of the named classes or the images of a class are missing.
        ValueError: if images lie beside subfolders; from `files[i]`, if file i cannot be read.
    """

    def __init__(self, folder: str | Path, *, classes: Sequence[str] | None = None, skip_corrupt: bool = False):
        root = Path(folder)
        if not root.is_dir():
            raise FileNotFoundError(
                f"There is no folder {root}: say where the images lie, data.folder in a configuration."
            )
        found = class_names(root)
        if classes is not None and (missing := [name for name in classes if name not in found]):
            raise FileNotFoundError(
                f"{root} lacks {len(missing)} of the {len(classes)} classes, such as {', '.join(missing[:3])}: "
                "each must be a subfolder with its images."
            )
        self.classes = tuple(found if classes is None else classes)
        listed = _listed(root, self.classes)
        if skip_corrupt:
            listed = _readable(listed)
        self.paths = [path for path, _ in listed]
        self.labels = torch.tensor([label for _, label in listed])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> Tensor:
        return decode(self.paths[i])

    def first(self, count: int | None) -> "FolderImages":
        """The first so many images, or all of them; the classes stay."""
        part = object.__new__(FolderImages)
        part.classes, part.paths, part.labels = self.classes, self.paths[:count], self.labels[:count]
        return part

    def in_memory(self) -> LabelledImages:
        """All images as one tensor, (N, 3, H, W) uint8.

        Raises:
            ValueError: if they have not all one size, or a file cannot be read.
        """
        first = self[0]
        images = torch.empty((len(self), *first.shape), dtype=torch.uint8)

        def place(i: int) -> None:
            image = self[i]
            if image.shape != first.shape:
                raise ValueError(
                    f"{self.paths[0]} has {_size(first)} pixels and {self.paths[i]} {_size(image)}: images of several "
                    "sizes cannot lie in memory together; leave data.in_memory out."
                )
            images[i] = image

        _threads(place, range(len(self)), "images")
        return LabelledImages(images, self.labels)


def class_names(folder: Path) -> tuple[str, ...]:
    """Subfolders in alphabetical order."""
    return tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")))


def decode(path: Path) -> Tensor:
    """An image file of any kind that Pillow reads, as (3, H, W) uint8; of 16 bits a pixel the upper 8.

    Raises:
        ValueError: if it cannot be read, or has 32 bits a pixel, with its name.
    """
    try:
        with Image.open(path) as image:
            if image.mode in ("I", "F"):
                raise ValueError("32 bits a pixel, of which none says what is white")
            if image.mode.startswith("I;16"):  # Pillow would clip at 255 and make nearly everything white
                return torch.from_numpy((np.asarray(image) >> 8).astype(np.uint8)).repeat(3, 1, 1)
            return pil_to_tensor(image.convert("RGB"))
    except Exception as problem:  # Pillow's readers raise a dozen kinds for damaged files
        raise ValueError(
            f"{path} cannot be read as an image ({problem}): delete or replace it, or leave such files out, "
            "--skip-corrupt (data.skip_corrupt)."
        ) from None


def _listed(root: Path, classes: tuple[str, ...]) -> list[tuple[Path, int]]:
    """Every image file and its label; nothing that looks like an image is passed over, and no class is empty."""
    beside = sorted(path.name for path in root.iterdir() if _is_image(path))
    if classes and beside:
        raise ValueError(
            f"{root} has subfolders, and {len(beside)} images beside them, such as {beside[0]}: move these into the "
            "subfolder of their class, or all images into a folder without subfolders."
        )
    places = [(root / name, label) for label, name in enumerate(classes)] or [(root, -1)]
    listed = [(path, label) for place, label in places for path in sorted(place.rglob("*")) if _is_image(path)]
    if not listed:
        raise FileNotFoundError(f"There are no images in {root}: files are known by endings such as .jpg and .png.")
    filled = {label for _, label in listed}
    if empty := [name for label, name in enumerate(classes) if label not in filled]:
        raise FileNotFoundError(
            f"{root} has no images for {len(empty)} of its {len(classes)} classes, such as {', '.join(empty[:3])}: "
            "fill these subfolders or take them away."
        )
    return listed


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMG_EXTENSIONS and not path.name.startswith(".")


def _readable(listed: list[tuple[Path, int]]) -> list[tuple[Path, int]]:
    def problem(item: tuple[Path, int]) -> bool:
        try:
            decode(item[0])
        except ValueError:
            return True
        return False

    corrupt = _threads(problem, listed, "files looked at")
    bad = [str(path) for (path, _), is_bad in zip(listed, corrupt, strict=True) if is_bad]
    if len(bad) == len(listed):
        raise ValueError(f"None of the {len(bad)} files can be read as an image, such as {bad[0]}.")
    if bad:
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        warnings.warn(f"{len(bad)} files cannot be read and are left out: {', '.join(bad[:5])}{more}", stacklevel=4)
    return [item for item, is_bad in zip(listed, corrupt, strict=True) if not is_bad]


def _threads(work: Callable[[Any], Any], items: Sequence[Any], unit: str) -> list[Any]:
    with ThreadPoolExecutor() as pool:
        done: Iterable[Any] = pool.map(work, items)
        return list(tqdm(done, total=len(items), unit=f" {unit}", disable=None))


def _size(image: Tensor) -> str:
    return f"{image.shape[2]} x {image.shape[1]}"
