"""A folder of images: its labels, pixels, identity, and damaged files."""

import hashlib
import re
import warnings
from pathlib import Path

import image_files
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from emc2_lite.vision import FolderImages, load_images


def test_subfolders_are_classes_in_alphabetical_order(tmp_path):
    written = image_files.image_folder(tmp_path, {"zebra": 2, "ant": 3})
    image_files.image_folder(tmp_path, {".ipynb_checkpoints": 1})
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


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA"])
def test_every_kind_of_image_becomes_red_green_and_blue(tmp_path, mode):
    colour = Image.fromarray(image_files.pixels(1, 9, 7, 3)[0])
    stored = colour.convert("L").convert("LA") if mode == "LA" else colour.convert(mode)
    stored.save(tmp_path / ("x.tif" if mode == "CMYK" else "x.png"))
    image = FolderImages(tmp_path)[0]
    assert (image.shape, image.dtype) == ((3, 9, 7), torch.uint8)
    assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(stored.convert("RGB")))


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_sixteen_bits_keep_their_upper_eight(tmp_path, order):
    """Both byte orders, 0 to white: black stays black, white white, and half is half."""
    grey = np.linspace(0, 65535, 63).astype(np.uint16).reshape(9, 7)
    mode = "I;16B" if order == ">u2" else "I;16"
    stored = Image.frombytes(mode, (7, 9), grey.astype(order).tobytes())
    stored.save(tmp_path / "x.tif")
    with Image.open(tmp_path / "x.tif") as image:
        assert image.mode == mode
    image = FolderImages(tmp_path)[0]
    assert (image.shape, image.dtype) == ((3, 9, 7), torch.uint8)
    assert all(np.array_equal(channel.numpy(), grey // 256) for channel in image)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_thirty_two_bits_are_refused(tmp_path, dtype):
    Image.fromarray(np.ones((4, 5), dtype)).save(tmp_path / "x.tif")
    with pytest.raises(ValueError, match=r"x.tif cannot be read as an image \(32 bits a pixel, of which none says"):
        FolderImages(tmp_path)[0]


def test_the_orientation_a_camera_noted_is_left_alone_as_in_torchvision(tmp_path):
    stored = Image.fromarray(image_files.pixels(1, 9, 7, 3)[0])
    turn = Image.Exif()
    turn[0x0112] = 6
    stored.save(tmp_path / "x.png", exif=turn)
    assert np.array_equal(FolderImages(tmp_path)[0].permute(1, 2, 0).numpy(), np.asarray(stored))


def test_files_and_classes_are_those_of_torchvision(tmp_path):
    """A class may be a link to a folder elsewhere, as parts of ImageNet often are."""
    image_files.image_folder(tmp_path / "here", {"b": 2, "a/deep": 2, "a": 1})
    image_files.image_folder(tmp_path / "elsewhere", {"x": 1})
    (tmp_path / "here" / "linked").symlink_to(tmp_path / "elsewhere")
    ours, theirs = FolderImages(tmp_path / "here"), ImageFolder(tmp_path / "here")
    assert ours.classes == tuple(theirs.classes)
    assert sorted(zip(map(str, ours.paths), ours.labels.tolist(), strict=True)) == sorted(theirs.imgs)
    for i, path in enumerate(ours.paths):
        assert np.array_equal(ours[i].permute(1, 2, 0).numpy(), np.asarray(theirs.loader(path)))


def test_no_image_is_passed_over(tmp_path):
    image_files.image_folder(tmp_path, {"a": 1, ".": 2})
    with pytest.raises(ValueError, match=r"has subfolders, and 2 images beside them, such as 000.png: move these into"):
        FolderImages(tmp_path)


def test_a_class_without_images_is_named(tmp_path):
    image_files.image_folder(tmp_path, {"a": 1, "b": 0, "c": 0})
    with pytest.raises(FileNotFoundError, match="has no images for 2 of its 3 classes, such as b, c: fill these"):
        FolderImages(tmp_path)
    assert len(FolderImages(tmp_path, classes=["a"])) == 1


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


@pytest.mark.parametrize("name", ["folder", "imagenet100"])
def test_damaged_files_of_a_data_set_are_left_out_if_asked(tmp_path, monkeypatch, name):
    if name == "imagenet100":
        monkeypatch.setattr(Path, "read_text", lambda *_, **__: "# the list\na\nb\n")
    image_files.image_folder(tmp_path / "train", {"a": 3, "b": 2})
    damage(tmp_path / "train" / "b" / "000.png", "empty")
    assert len(load_images(name, "train", tmp_path)) == 5
    with pytest.warns(UserWarning, match=r"1 files cannot be read and are left out: .*b/000.png"):
        assert load_images(name, "train", tmp_path, skip_corrupt=True).labels.tolist() == [0, 0, 0, 1]


def test_many_damaged_files_make_one_warning(tmp_path):
    image_files.image_folder(tmp_path, {"a": 9})
    for path in sorted((tmp_path / "a").iterdir())[:8]:
        damage(path, "empty")
    with pytest.warns(UserWarning, match="8 files cannot be read and are left out: .* and 3 more") as seen:
        FolderImages(tmp_path, skip_corrupt=True)
    assert len(seen) == 1
    assert str(seen[0].message).count(".png") == 5
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


def test_a_folders_identity_is_that_of_its_names_and_sizes(tmp_path):
    """SHA-256 over the names below the folder and the sizes in bytes, in order."""
    image_files.image_folder(tmp_path, {"a": 2, "b": 1})
    files = FolderImages(tmp_path)
    lines = [f"{path.relative_to(tmp_path)}\0{path.stat().st_size}\n" for path in sorted(tmp_path.rglob("*.png"))]
    assert files.identity == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert len(lines) == 3


def test_the_place_of_a_folder_is_no_part_of_its_identity(tmp_path, monkeypatch):
    image_files.image_folder(tmp_path / "here", {"a": 2, "b": 1})
    before = FolderImages(tmp_path / "here").identity
    (tmp_path / "here").rename(tmp_path / "there")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("there")
    for place in (tmp_path / "there", "there", "./there/", "link", "there/../there"):
        assert FolderImages(place).identity == before
    monkeypatch.chdir(tmp_path / "there")
    assert FolderImages(".").identity == before


def test_another_image_gives_another_identity(tmp_path):
    image_files.image_folder(tmp_path, {"a": 2, "b": 1})
    files = FolderImages(tmp_path)
    seen = {files.identity, files.subset(torch.tensor([1, 0, 2])).identity, files.subset(torch.tensor([0, 1])).identity}
    seen.add(FolderImages(tmp_path, classes=["b", "a"]).identity)
    (tmp_path / "a" / "000.png").rename(tmp_path / "a" / "0000.png")
    seen.add(FolderImages(tmp_path).identity)
    (tmp_path / "a" / "0000.png").rename(tmp_path / "b" / "000.jpg")
    seen.add(FolderImages(tmp_path).identity)
    Image.fromarray(image_files.pixels(1, 20, 20, 3)[0]).save(tmp_path / "b" / "000.jpg")
    seen.add(FolderImages(tmp_path).identity)
    image_files.image_folder(tmp_path, {"c": 1})
    seen.add(FolderImages(tmp_path).identity)
    assert len(seen) == 8


def test_images_that_are_read_into_memory_keep_their_identity_and_their_classes(tmp_path):
    image_files.image_folder(tmp_path, {"a": 2, "b": 1})
    files = FolderImages(tmp_path)
    resident = files.in_memory()
    assert (resident.identity, resident.classes, len(resident)) == (files.identity, ("a", "b"), 3)


def test_a_part_of_the_images_keeps_its_labels_and_classes(tmp_path):
    image_files.image_folder(tmp_path, {"a": 2, "b": 3})
    files = FolderImages(tmp_path)
    part = files.subset(torch.tensor([1, 4]))
    assert (len(part), part.labels.tolist(), part.classes) == (2, [0, 1], ("a", "b"))
    assert torch.equal(part[1], files[4])
    assert len(files) == 5


def test_a_link_to_nothing_is_named_and_left_out_if_asked(tmp_path):
    image_files.image_folder(tmp_path, {"a": 2})
    (tmp_path / "a" / "gone.png").symlink_to(tmp_path / "nothing.png")
    files = FolderImages(tmp_path)
    for call in (lambda: files[2], lambda: files.identity):
        with pytest.raises(ValueError, match=r"gone.png cannot be read as an image \(.*No such file .*--skip-corrupt"):
            call()
    with pytest.warns(UserWarning, match="1 files cannot be read and are left out: .*gone.png"):
        assert len(FolderImages(tmp_path, skip_corrupt=True)) == 2


def test_a_picture_beyond_pillows_limit_is_named(tmp_path, monkeypatch):
    image_files.image_folder(tmp_path, {"a": 1})
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 80)
    with pytest.raises(
        ValueError, match=r"a/000.png cannot be read as an image \(it has more than 160 pixels, Pillow's"
    ):
        FolderImages(tmp_path)[0]
