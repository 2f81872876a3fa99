"""Files below a folder that count as images: all that Pillow opens, also behind links, and no hidden files."""

import re
import warnings

import image_files
import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from emc2_lite.vision import FolderImages, load_images


def names(folder):
    return [path.relative_to(folder).as_posix() for path in FolderImages(folder).paths]


def quietly(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return names(folder)


def test_links_to_folders_are_followed_as_torchvision_does(tmp_path):
    image_files.image_folder(tmp_path / "here", {"cat": 2, "dog": 1})
    image_files.image_folder(tmp_path / "elsewhere", {"more/deep": 3, "other": 2})
    (tmp_path / "here" / "cat" / "more").symlink_to(tmp_path / "elsewhere" / "more")
    (tmp_path / "here" / "dog" / "twin").symlink_to(tmp_path / "elsewhere" / "other", target_is_directory=True)
    (tmp_path / "here" / "dog" / "again").symlink_to(tmp_path / "elsewhere" / "other")
    ours, theirs = FolderImages(tmp_path / "here"), ImageFolder(tmp_path / "here")
    assert len(ours) == 2 + 3 + 1 + 2 + 2
    assert sorted(zip(map(str, ours.paths), ours.labels.tolist(), strict=True)) == sorted(theirs.imgs)


@pytest.mark.parametrize("target", [".", "..", "../..", "deep"])
def test_a_link_back_is_refused_and_not_followed_for_ever(tmp_path, target):
    image_files.image_folder(tmp_path / "images", {"cat/deep": 1, "dog": 1})
    (tmp_path / "images" / "cat" / "deep" / "back").symlink_to(tmp_path / "images" / "cat" / target)
    with pytest.raises(
        ValueError, match=r"leads back to .*, a folder that it lies in: take the link away, or the same"
    ):
        FolderImages(tmp_path / "images")


def test_two_links_into_each_other_are_refused(tmp_path):
    image_files.image_folder(tmp_path, {"images/cat": 1, "one": 1, "two": 1})
    (tmp_path / "one" / "on").symlink_to(tmp_path / "two")
    (tmp_path / "two" / "on").symlink_to(tmp_path / "one")
    (tmp_path / "images" / "cat" / "in").symlink_to(tmp_path / "one")
    with pytest.raises(ValueError, match="cat/in/on/on leads back to"):
        FolderImages(tmp_path / "images")


@pytest.mark.parametrize("place", ["bird", "cat/more"])
def test_a_link_to_a_folder_that_is_gone_is_named(tmp_path, place):
    """Such as a drive that is not mounted: a class or a part of a class would be missing in silence."""
    image_files.image_folder(tmp_path, {"cat": 2, "dog": 1})
    (tmp_path / place).symlink_to("/not/mounted/folder")
    with pytest.raises(ValueError, match=f"{place} is a link to /not/mounted/folder, which is not there: .* mend the"):
        FolderImages(tmp_path)
    assert len(FolderImages(tmp_path, classes=["dog"])) == 1


@pytest.mark.parametrize("hidden", [".ipynb_checkpoints", ".thumbnails", "__MACOSX", "@eaDir", ".git/deep"])
def test_images_in_hidden_folders_are_not_counted(tmp_path, hidden):
    image_files.image_folder(
        tmp_path, {"cat": 2, "cat/deep": 1, f"cat/{hidden}": 3, f"cat/deep/{hidden}": 3, hidden: 1}
    )
    assert quietly(tmp_path) == ["cat/000.png", "cat/001.png", "cat/deep/000.png"]
    image_files.image_folder(tmp_path / "flat", {".": 2, hidden: 3})
    assert quietly(tmp_path / "flat") == ["000.png", "001.png"]


def test_a_hidden_folder_may_be_named_itself(tmp_path):
    image_files.image_folder(tmp_path / ".cache" / "images", {"cat": 2})
    assert len(FolderImages(tmp_path / ".cache" / "images")) == 2


def test_files_come_by_class_and_by_the_parts_of_their_names(tmp_path):
    """Chains and checkpoints know images by their place in this order."""
    places = {"b": 1, "a": 2, "a/z": 1, "a/b": 2, "a/b-c": 1, "a/b c": 1, "A": 1, "ä": 1, "10": 1, "9": 1}
    image_files.image_folder(tmp_path, places)
    image_files.image_folder(tmp_path, {"a": 2, "a/b": 1, "9": 3}, ending="jpg")
    expected = [
        path
        for name in sorted(path.name for path in tmp_path.iterdir())
        for path in sorted((tmp_path / name).rglob("*"))
        if path.suffix in (".jpg", ".png")
    ]
    assert FolderImages(tmp_path).paths == expected


ENDINGS = "apng avif bmp dds dib gif ico j2k jfif jp2 jpe jpeg jpg mpo msp pbm pcx pgm png ppm qoi rgb sgi tga tif"
ENDINGS = [*ENDINGS.split(), "tiff", "webp", "xbm", "JPG", "Png", "GIF"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_kind_that_pillow_opens_is_an_image(tmp_path, ending):
    kind = Image.registered_extensions().get(f".{ending.lower()}")
    if kind not in Image.SAVE:
        pytest.skip(f"Pillow cannot write .{ending} here")
    colour = Image.fromarray(image_files.pixels(1, 32, 32, 3)[0])
    picture = colour.convert("1") if ending in ("msp", "xbm", "pbm") else colour
    (tmp_path / "cat").mkdir()
    picture.save(tmp_path / "cat" / f"x.{ending}")
    files = FolderImages(tmp_path)
    assert len(files) == 1
    assert files[0].shape == (3, 32, 32)


NO_IMAGES = (
    "txt csv json xml html md pdf eps ps wmf emf mpg mpeg mp4 h5 hdf pcd pfm gbr fits grib bufr npy pt zip db py"
)


def test_documents_films_and_numbers_are_no_images(tmp_path):
    image_files.image_folder(tmp_path, {"cat": 1})
    for ending in NO_IMAGES.split():
        (tmp_path / "cat" / f"x.{ending}").write_bytes(b"%PDF-1.4")
        (tmp_path / f"x.{ending}").write_bytes(b"%PDF-1.4")
    (tmp_path / "cat" / "README").write_text("of the cats")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert names(tmp_path) == ["cat/000.png"]


def test_a_folder_with_an_images_ending_is_a_folder(tmp_path):
    image_files.image_folder(tmp_path, {"cat/a.jpg": 2, "dog.png": 1})
    assert quietly(tmp_path) == ["cat/a.jpg/000.png", "cat/a.jpg/001.png", "dog.png/000.png"]


def test_the_first_picture_of_an_animation_is_taken(tmp_path):
    frames = [Image.fromarray(image) for image in image_files.pixels(3, 8, 8, 3)]
    first = frames[0].quantize(64)
    first.save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    image = FolderImages(tmp_path)[0]
    assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(first.convert("RGB")))


def test_pictures_that_cannot_be_opened_are_counted_in_one_warning(tmp_path):
    image_files.image_folder(tmp_path, {"cat": 2, "dog": 1})
    for name in ("cat/a.jxl", "cat/b.JXL", "dog/c.jxl", "dog/d.svg", "dog/.hidden.jxl", "dog/notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.warns(UserWarning) as seen:
        assert len(FolderImages(tmp_path)) == 3
    assert [str(warning.message) for warning in seen] == [
        f"{tmp_path} holds 3 .jxl and 1 .svg files that cannot be read as images here, and they are left out: turn "
        "them into .jpg or .png to have them"
    ]
    assert seen[0].filename == __file__


def test_a_folder_without_images_says_what_it_holds(tmp_path):
    (tmp_path / "cat").mkdir()
    for name in ("a.jxl", "b.jxl", "c", "d.txt"):
        (tmp_path / "cat" / name).write_bytes(b"x")
    there = re.escape("there are 2 .jxl, 1 without an ending and 1 .txt files.")
    with pytest.raises(FileNotFoundError, match=f"There are no images in .* such as .jpg and .png; {there}"):
        FolderImages(tmp_path)
    image_files.image_folder(tmp_path, {"dog": 1})
    with pytest.raises(FileNotFoundError, match=f"no images for 1 of its 2 classes, such as cat: fill .*; {there}"):
        FolderImages(tmp_path)


@pytest.mark.parametrize(
    "subfolders",
    ["Training Testing", "Train Test", "TRAIN VAL", "training", "test", "train valid", "training_set test_set"],
)
def test_parts_are_not_taken_for_classes(tmp_path, subfolders):
    image_files.image_folder(tmp_path, {f"{part}/cat": 2 for part in subfolders.split()} | {"__MACOSX": 1})
    sentence = (
        f"has the subfolders {', '.join(sorted(subfolders.split()))}, which read like parts of a data set and not"
    )
    with pytest.raises(ValueError, match=f"{sentence} like classes: name them train and test, or give one"):
        FolderImages(tmp_path)
    if "train" in subfolders.split():
        assert len(load_images("folder", "train", tmp_path)) == 2
    else:
        with pytest.raises(ValueError, match=sentence):
            load_images("folder", "train", tmp_path)


def test_classes_may_have_the_names_of_parts(tmp_path):
    image_files.image_folder(tmp_path, {"train": 2, "bus": 1, "Testing": 1})
    images = load_images("folder", "train", tmp_path)
    assert (images.classes, images.labels.tolist()) == (("Testing", "bus", "train"), [0, 1, 2, 2])
    with pytest.raises(FileNotFoundError, match="has no test images"):
        load_images("folder", "test", tmp_path)


@pytest.mark.parametrize("name", ["valid", "Testing", "test_set"])
def test_a_test_part_under_another_name_is_named(tmp_path, name):
    image_files.image_folder(tmp_path, {"train/cat": 2, f"{name}/cat": 1})
    assert len(load_images("folder", "train", tmp_path)) == 2
    with pytest.raises(FileNotFoundError, match=f"has no test images: .*/train; {name} must have one of these names"):
        load_images("folder", "test", tmp_path)


def test_other_folders_may_lie_beside_the_parts(tmp_path):
    image_files.image_folder(tmp_path, {"train/cat": 2, "sketches": 3})
    assert len(load_images("folder", "train", tmp_path)) == 2
    image_files.image_folder(tmp_path, {"test/cat": 1})
    assert [len(load_images("folder", part, tmp_path)) for part in ("train", "test")] == [2, 1]


def test_a_tilde_is_the_readers_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    image_files.image_folder(tmp_path / "pictures", {"train/cat": 2, "test/cat": 1})
    image_files.stl10(tmp_path / "data")
    assert len(FolderImages("~/pictures/train")) == 2
    assert len(load_images("folder", "test", "~/pictures")) == 1
    assert len(load_images("stl10", "test", "~/data", samples=3)) == 3
    image_files.cifar10(tmp_path / "data", monkeypatch)
    assert len(load_images("cifar10", "test", "~/data")) == 3
    with pytest.raises(FileNotFoundError, match=f"There is no {tmp_path}/none/train: ImageNet"):
        load_images("imagenet100", "train", "~/none")
    with pytest.raises(FileNotFoundError, match="There is no folder ~nobody-here/x: say where"):
        FolderImages("~nobody-here/x")
