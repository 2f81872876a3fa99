"""Small files in the data sets' own formats."""

import hashlib
import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image
from torchvision.datasets import CIFAR10


def pixels(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def cifar10(folder: Path, monkeypatch, per_batch: int = 3) -> tuple[np.ndarray, list[int]]:
    """Write six batches in the Python format, patch torchvision's checksums to fit; return all images and labels."""
    base = folder / CIFAR10.base_folder
    base.mkdir(parents=True)
    images, labels = pixels(6 * per_batch, 3, 32, 32), [i % 10 for i in range(6 * per_batch)]

    def write(name: str, content: dict) -> tuple[str, str]:
        raw = pickle.dumps(content)
        (base / name).write_bytes(raw)
        return name, hashlib.md5(raw).hexdigest()

    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    sums = []
    for i, name in enumerate(names):
        part = slice(i * per_batch, (i + 1) * per_batch)
        sums.append(write(name, {"data": images[part].reshape(per_batch, -1), "labels": labels[part]}))
    meta = write("batches.meta", {"label_names": [f"class {i}" for i in range(10)]})
    monkeypatch.setattr(CIFAR10, "train_list", [list(item) for item in sums[:5]])
    monkeypatch.setattr(CIFAR10, "test_list", [list(sums[5])])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": meta[0], "key": "label_names", "md5": meta[1]})
    return images, labels


def stl10(folder: Path, count: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Write all splits, each with the same few images and the labels 1, 2, ...; pixels are stored column by column."""
    base = folder / "stl10_binary"
    base.mkdir(parents=True)
    images, labels = pixels(count, 3, 96, 96), np.arange(1, count + 1, dtype=np.uint8)
    for stem in ("unlabeled", "train", "test"):
        images.transpose(0, 1, 3, 2).tofile(base / f"{stem}_X.bin")
        if stem != "unlabeled":
            labels.tofile(base / f"{stem}_y.bin")
    return images, labels


def image_folder(folder: Path, classes: dict[str, int], side: int = 12, ending: str = "png") -> dict[str, np.ndarray]:
    """Write `count` random images for each class; return the pixels by path relative to the folder."""
    written = {}
    for seed, (name, count) in enumerate(classes.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i, image in enumerate(pixels(count, side, side + 2, 3, seed=seed)):
            path = f"{name}/{i:03}.{ending}"
            Image.fromarray(image).save(folder / path)
            written[path] = image
    return written


def tar_of(folder: Path, name: str) -> tuple[bytes, str]:
    """A gzipped tar archive of a folder, and its md5."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(folder / name, arcname=name)
    return buffer.getvalue(), hashlib.md5(buffer.getvalue()).hexdigest()
