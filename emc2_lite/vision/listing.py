"""Which files below a folder are images, and of which class."""

import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

# Formats that Pillow registers and that hold no pixels of 8 or 16 bits, need another program to make some, or have an
# ending that mostly means something else (.pcd: clouds of points, .gbr: circuit boards).
_NO_PICTURES = {"BUFR", "EPS", "FITS", "GBR", "GRIB", "HDF5", "IPTC", "MPEG", "PALM", "PCD", "PDF", "WMF"}
_NO_ENDINGS = {".pfm"}
# Pictures that may be unreadable here, and are counted in a warning; files with other endings are ignored.
_PICTURES = re.compile(
    r"\.(3fr|ai|arw|avifs?|bpg|cdr|cr2|cr3|crw|dcm|dcr|dng|emf|eps|erf|exr|fits?|flif|hdr|hei[cf]s?|hif|j2k|jls|jp2|jpx|jxl"
    r"|jxr|kdc|mos|mrw|nef|nrw|orf|pef|pfm|psb|raf|raw|rw2|rwl|sr2|srf|srw|svgz?|webp|wdp|wmf|x3f|xcf)"
)
_MADE_BY_SYSTEMS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "lost+found")
_PART = re.compile(r"(train|training|test|testing|val|valid|validation)[ _-]?(set|data|images)?", re.IGNORECASE)


def place(folder: str | Path) -> Path:
    """The folder as a path, "~" being the reader's home."""
    return Path(os.path.expanduser(folder))


def class_names(folder: Path) -> tuple[str, ...]:
    """Subfolders in alphabetical order, without hidden ones and those that operating systems make."""
    return tuple(entry.name for entry in _visible(folder) if os.path.isdir(entry))


def parts_among(names: Sequence[str]) -> list[str]:
    """The names of subfolders that read like parts of a data set, such as Training or valid."""
    return [name for name in names if _PART.fullmatch(name)]


def check_classes(root: Path, names: Sequence[str]) -> None:
    """Refuse subfolders whose names all read like parts of a data set, and links that lead nowhere."""
    if names and len(parts_among(names)) == len(names):
        raise ValueError(
            f"{root} has the subfolders {', '.join(names)}, which read like parts of a data set and not like classes: "
            "name them train and test, or give one of them as the folder."
        )
    for entry in _visible(root):
        _check_link(entry)


def listed_images(root: Path, classes: Sequence[str]) -> list[tuple[Path, int]]:
    """Every image file that Pillow opens and its label, by class and name; other pictures are counted in a warning."""
    endings = _endings()
    images = [entry for entry in _visible(root) if Path(entry.name).suffix.lower() in endings] if classes else []
    if beside := [entry.name for entry in images if not os.path.isdir(entry)]:
        raise ValueError(
            f"{root} has subfolders, and {len(beside)} images beside them, such as {beside[0]}: move these into "
            "the subfolder of their class, or all images into a folder without subfolders."
        )
    above, folders = {os.path.realpath(root)} if classes else set(), list(enumerate(classes)) or [(-1, "")]
    files = [(path, label) for label, name in folders for path in _files(root / name, above)]
    listed = [(path, label) for path, label in files if path.suffix.lower() in endings]
    others = Counter(ending for path, _ in files if (ending := path.suffix.lower()) not in endings)
    seen = f"; there are {_counts(others)} files" if others else ""
    if not listed:
        raise FileNotFoundError(
            f"There are no images in {root}: files are known by endings such as .jpg and .png{seen}."
        )
    filled = {label for _, label in listed}
    if empty := [name for label, name in enumerate(classes) if label not in filled]:
        raise FileNotFoundError(
            f"{root} has no images for {len(empty)} of its {len(classes)} classes, such as {', '.join(empty[:3])}: "
            f"fill these subfolders or take them away{seen}."
        )
    if pictures := Counter({ending: count for ending, count in others.items() if _PICTURES.fullmatch(ending)}):
        warnings.warn(
            f"{root} holds {_counts(pictures)} files that cannot be read as images here, and they are left out: turn "
            "them into .jpg or .png to have them",
            stacklevel=3,
        )
    return listed


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    """A folder's entries by name, without hidden ones and those that operating systems make."""
    with os.scandir(folder) as entries:
        visible = (entry for entry in entries if not entry.name.startswith(".") and entry.name not in _MADE_BY_SYSTEMS)
        return sorted(visible, key=lambda entry: entry.name)


def _files(folder: Path, above: set[str]) -> Iterator[Path]:
    """All visible files in and below a folder, in order; `above` are the resolved folders above."""
    here = os.path.realpath(folder)
    if here in above:
        raise ValueError(
            f"{folder} leads back to {here}, a folder that it lies in: take the link away, or the same images would be "
            "found again and again."
        )
    for entry in _visible(folder):
        if entry.is_dir():
            yield from _files(folder / entry.name, above | {here})
        else:
            _check_link(entry)
            yield folder / entry.name


def _check_link(entry: os.DirEntry[str]) -> None:
    """Refuse a link that leads nowhere and may stand for a folder; lost images are named when they are read."""
    if entry.is_symlink() and not os.path.exists(entry) and Path(entry.name).suffix.lower() not in _endings():
        raise ValueError(
            f"{entry.path} is a link to {os.readlink(entry)}, which is not there: it may stand for a folder of images; "
            "mend the link or take it away."
        )


def _endings() -> set[str]:
    """Endings, such as ".jpg", of the picture formats that Pillow and its extensions can open here."""
    extensions = Image.registered_extensions()
    readable = {*Image.OPEN, "MPO"} - _NO_PICTURES  # Pillow opens MPO by way of JPEG
    return {ending for ending, kind in extensions.items() if kind in readable} - _NO_ENDINGS


def _counts(endings: Counter[str]) -> str:
    """Such as "12 .heic and 1 .svg", the most frequent first."""
    *words, last = [f"{count} {ending or 'without an ending'}" for ending, count in endings.most_common(5)]
    return f"{', '.join(words)} and {last}" if words else last
