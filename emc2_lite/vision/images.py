"""Images and their labels, in memory or in the files of a folder."""

import copy
import hashlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm.contrib.concurrent import thread_map

from emc2_lite.vision.listing import check_classes, class_names, listed_images, place


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images in memory, and their classes; ``images, labels = load_digits("train")`` takes the two tensors."""

    images: Tensor  # (N, C, H, W), float32 in [0, 1] for digits, uint8 for colour images
    labels: Tensor  # (N,) int64, -1 for none
    classes: tuple[str, ...] = ()  # names of the labels 0, 1, ...; empty where unknown
    identity: str = ""  # filled by `load_images`: differs where name, part or shape of the images differ

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.images, self.labels))

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, chosen: Tensor) -> "LabelledImages":
        """The images of these indices, (k,) int64; the classes stay."""
        return replace(self, images=self.images[chosen], labels=self.labels[chosen])


class FolderImages:
    """Images in files; `files[i]` decodes one, (3, H, W) uint8, and sizes may differ from image to image.

    Subfolders are classes, in alphabetical order, with all files in and below them; images in a folder without
    subfolders have no classes, and the label -1. Every file that Pillow opens counts, an animation with its first
    picture, and folders behind links too; hidden files and folders do not.

    Args:
        folder: where to look; "~" is the reader's home.
        classes: names of the subfolders to take, in the order of their labels; all of them by default.
        skip_corrupt: decode every file once now, and leave out unreadable ones, with one warning.

    Raises: FileNotFoundError: if the folder, one of the named classes or the images of a class are missing; ValueError:
        if images lie beside subfolders, the subfolders read like parts (Training, Testing), or a link leads nowhere or
        back to a folder above it; from `files[i]`, if file i cannot be read.
    """

    def __init__(self, folder: str | Path, *, classes: Sequence[str] | None = None, skip_corrupt: bool = False):
        self.root = root = place(folder)
        if not root.is_dir():
            raise FileNotFoundError(
                f"There is no folder {root}: say where the images lie, data.folder in a configuration."
            )
        found = class_names(root)
        if classes is None:
            check_classes(root, found)
        elif missing := [name for name in classes if name not in found]:
            raise FileNotFoundError(
                f"{root} lacks {len(missing)} of the {len(classes)} classes, such as {', '.join(missing[:3])}: "
                "each must be a subfolder with its images."
            )
        self.classes = tuple(found if classes is None else classes)
        listed = listed_images(root, self.classes)
        listed = _readable(listed) if skip_corrupt else listed
        self.paths = [path for path, _ in listed]
        self.labels = torch.tensor([label for _, label in listed])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> Tensor:
        return decode(self.paths[i])

    @property
    def identity(self) -> str:
        """A digest of the files' names below the folder and their sizes, in order: the same wherever the folder lies.

        Raises: ValueError: if a file is gone.
        """
        digest = hashlib.sha256()
        for path in self.paths:
            try:
                size = path.stat().st_size
            except OSError as problem:
                raise _unreadable(path, problem.strerror) from None
            digest.update(f"{path.relative_to(self.root).as_posix()}\0{size}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()

    def subset(self, chosen: Tensor) -> "FolderImages":
        """The images of these indices, (k,) int64; the classes stay."""
        part = copy.copy(self)
        part.paths, part.labels = [self.paths[i] for i in chosen.tolist()], self.labels[chosen]
        return part

    def in_memory(self) -> LabelledImages:
        """All images as one tensor, (N, 3, H, W) uint8.

        Raises: ValueError: if their sizes differ, or a file cannot be read.
        """
        first = self[0]
        images = torch.empty((len(self), *first.shape), dtype=torch.uint8)

        def read(i: int) -> None:
            image = self[i]
            if image.shape != first.shape:
                sizes = [f"{tensor.shape[2]} x {tensor.shape[1]}" for tensor in (first, image)]
                raise ValueError(
                    f"{self.paths[0]} has {sizes[0]} pixels and {self.paths[i]} {sizes[1]}: images of several "
                    "sizes cannot lie in memory together; leave data.in_memory out."
                )
            images[i] = image

        thread_map(read, range(len(self)), unit=" images", disable=None)
        return LabelledImages(images, self.labels, self.classes, self.identity)


def decode(path: Path) -> Tensor:
    """A file's image as (3, H, W) uint8, of 16 bits the upper 8; ValueError on 32 bits a pixel or a broken file."""
    try:
        with Image.open(path) as image:
            if image.mode in ("I", "F"):
                raise ValueError("32 bits a pixel, of which none says what is white")
            if image.mode.startswith("I;16"):  # Pillow would clip at 255 and make nearly everything white
                return torch.from_numpy((np.asarray(image) >> 8).astype(np.uint8)).repeat(3, 1, 1)
            return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise _unreadable(path, f"it has more than {limit:,} pixels, Pillow's limit") from None
    except Exception as problem:  # Pillow's readers raise a dozen kinds for damaged files
        raise _unreadable(path, problem) from None


def _unreadable(path: Path, problem: object) -> ValueError:
    return ValueError(
        f"{path} cannot be read as an image ({problem}): delete or replace it, or leave such files out, "
        "--skip-corrupt (data.skip_corrupt)."
    )


def _readable(listed: list[tuple[Path, int]]) -> list[tuple[Path, int]]:
    def can_be_read(item: tuple[Path, int]) -> bool:
        with suppress(ValueError):
            decode(item[0])
            return True
        return False

    sound = thread_map(can_be_read, listed, unit=" files looked at", disable=None)
    bad = [str(path) for (path, _), is_sound in zip(listed, sound, strict=True) if not is_sound]
    if len(bad) == len(listed):
        raise ValueError(f"None of the {len(bad)} files can be read as an image, such as {bad[0]}.")
    if bad:
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        warnings.warn(f"{len(bad)} files cannot be read and are left out: {', '.join(bad[:5])}{more}", stacklevel=4)
    return list(compress(listed, sound))
