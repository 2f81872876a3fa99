"""A folder of images: which files, which labels, which pixels, and what becomes of damaged ones."""

import re
import warnings

import image_files
import numpy as np
import pytest
import torch
from PIL import Image

from emc2_lite.vision import FolderImages


def test_subfolders_are_classes_in_alphabetical_order(tmp_path):
    written = image_files.image_folder(tmp_path, {"zebra": 2, "ant": 3})
    files = FolderImages(tmp_path)
    assert files.classes == ("ant", "zebra")
    assert files.labels.tolist() == [0, 0, 0, 1, 1]
    assert files.labels.dtype == torch.int64
    for path, image in zip(files.paths, (files[i] for i in range(5)), strict=True):
        expected = written[str(path.relative_to(tmp_path))]
        assert image.dtype == torch.uint8
        assert np.array_equal(image.permute(1, 2, 0).numpy(), expected)


def test_a_folder_without_subfolders_has_no_labels(tmp_path):
    image_files.image_folder(tmp_path, {".": 3})
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden.png").write_bytes(b"")
    files = FolderImages(tmp_path)
    assert (len(files), files.labels.tolist(), files.classes) == (3, [-1, -1, -1], ())


def test_images_may_lie_deeper(tmp_path):
    image_files.image_folder(tmp_path, {"a/b": 1, "a/c": 1, "d": 1})
    files = FolderImages(tmp_path)
    assert (files.classes, files.labels.tolist()) == (("a", "d"), [0, 0, 1])


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA", "I;16"])
def test_every_kind_of_image_becomes_red_green_and_blue(tmp_path, mode):
    colour = Image.fromarray(image_files.pixels(1, 9, 7, 3)[0])
    if mode == "I;16":
        grey = Image.fromarray(np.arange(63, dtype=np.uint16).reshape(9, 7))
        grey.save(tmp_path / "x.png")
    else:
        image = colour.convert("L").convert("LA") if mode == "LA" else colour.convert(mode)
        image.save(tmp_path / ("x.tif" if mode == "CMYK" else "x.png"))
    image = FolderImages(tmp_path)[0]
    assert (image.shape, image.dtype) == ((3, 9, 7), torch.uint8)
    if mode in ("L", "LA", "1"):
        assert torch.equal(image[0], image[1]) and torch.equal(image[1], image[2])


def test_jpeg_files_are_read_as_pillow_reads_them(tmp_path):
    image_files.image_folder(tmp_path, {"a": 2}, ending="jpg")
    files = FolderImages(tmp_path)
    for i in range(2):
        with Image.open(files.paths[i]) as image:
            assert np.array_equal(files[i].permute(1, 2, 0).numpy(), np.asarray(image))


def damage(path, kind):
    content = path.read_bytes()
    path.write_bytes({"cut short": content[: len(content) // 2], "empty": b"", "text": b"this is no image"}[kind])


@pytest.mark.parametrize("kind", ["cut short", "empty", "text"])
@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_damaged_file_is_named_and_left_out_only_if_asked(tmp_path, kind, ending):
    image_files.image_folder(tmp_path, {"a": 3, "b": 2}, ending=ending)
    bad = tmp_path / "a" / f"001.{ending}"
    damage(bad, kind)
    files = FolderImages(tmp_path)
    assert len(files) == 5
    files[0]
    with pytest.raises(ValueError, match=re.escape(f"{bad} cannot be read as an image (")) as refusal:
        files[1]
    assert "delete or replace it, or leave such files out, --skip-corrupt" in str(refusal.value)
    with pytest.raises(ValueError, match=re.escape(str(bad))):
        files.in_memory()
    with pytest.warns(UserWarning, match=re.escape(f"1 files cannot be read and are left out: {bad}")):
        left = FolderImages(tmp_path, skip_corrupt=True)
    assert (len(left), left.labels.tolist()) == (4, [0, 0, 1, 1])
    assert bad not in left.paths


def test_many_damaged_files_make_one_warning(tmp_path):
    image_files.image_folder(tmp_path, {"a": 9})
    for path in sorted((tmp_path / "a").iterdir())[:8]:
        damage(path, "empty")
    with pytest.warns(UserWarning, match="8 files cannot be read and are left out: .* and 3 more") as seen:
        FolderImages(tmp_path, skip_corrupt=True)
    assert len(seen) == 1
    damage(tmp_path / "a" / "008.png", "empty")
    with pytest.raises(ValueError, match=r"None of the 9 files can be read as an image, such as .*000.png"):
        FolderImages(tmp_path, skip_corrupt=True)


def test_a_sound_folder_gives_no_warning(tmp_path):
    image_files.image_folder(tmp_path, {"a": 2})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(FolderImages(tmp_path, skip_corrupt=True)) == 2


def test_images_of_one_size_can_lie_in_memory(tmp_path):
    image_files.image_folder(tmp_path, {"a": 2, "b": 2})
    files = FolderImages(tmp_path)
    resident = files.in_memory()
    assert resident.images.shape == (4, 3, 12, 14)
    assert all(torch.equal(resident.images[i], files[i]) for i in range(4))
    assert torch.equal(resident.labels, files.labels)
    image_files.image_folder(tmp_path, {"c": 1}, side=5)
    with pytest.raises(ValueError, match=r"000.png has 14 x 12 pixels and .*c/000.png 7 x 5: images of several sizes"):
        FolderImages(tmp_path).in_memory()


def test_empty_folders_say_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There are no images in .*: files are known by endings such as \.jpg"):
        FolderImages(tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(FileNotFoundError, match="There are no images in"):
        FolderImages(tmp_path)


def test_named_classes_are_taken_in_their_order(tmp_path):
    image_files.image_folder(tmp_path, {"a": 1, "b": 2, "c": 3})
    files = FolderImages(tmp_path, classes=["c", "a"])
    assert (files.classes, files.labels.tolist()) == (("c", "a"), [0, 0, 0, 1])
    with pytest.raises(FileNotFoundError, match="lacks 1 of the 2 classes, such as d: each must be a subfolder"):
        FolderImages(tmp_path, classes=["a", "d"])
