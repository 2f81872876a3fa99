"""Data sets are read from files in their own formats, pixel by pixel, or refused with advice."""

import re

import image_files
import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10

from emc2_lite.vision import DATASETS, load_cifar10, load_digits, load_imagenet100, load_images, load_stl10
from emc2_lite.vision.datasets import _STL10_SPLITS


def test_cifar10_is_read_in_order(tmp_path, monkeypatch):
    images, labels = image_files.cifar10(tmp_path, monkeypatch)
    train, test = load_cifar10("train", tmp_path), load_cifar10("test", tmp_path)
    assert np.array_equal(train.images.numpy(), images[:15]) and train.labels.tolist() == labels[:15]
    assert np.array_equal(test.images.numpy(), images[15:]) and test.labels.tolist() == labels[15:]
    assert (train.images.dtype, train.labels.dtype) == (torch.uint8, torch.int64)
    assert train.images.is_contiguous()


def test_a_pickle_with_another_checksum_is_not_opened(tmp_path, monkeypatch):
    image_files.cifar10(tmp_path, monkeypatch)
    path = tmp_path / CIFAR10.base_folder / "data_batch_3"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(
        ValueError, match=r"cifar-10-batches-py is not whole, or a file in it has another checksum: delete"
    ):
        load_cifar10("train", tmp_path)


def test_missing_data_are_named_with_how_to_get_them(tmp_path):
    sentences = {
        "cifar10": "cifar-10-batches-py: CIFAR-10 can be fetched, 0.2 GB, by emc2-lite fetch cifar10",
        "stl10": "stl10_binary/unlabeled_X.bin: STL-10 can be fetched, 2.6 GB, by emc2-lite fetch stl10",
        "imagenet100": "train: ImageNet must be fetched by you, who accepts its terms, and unpacked there,",
        "folder": f"There is no folder {tmp_path}/none: say where the images lie, data.folder",
    }
    for name, sentence in sentences.items():
        with pytest.raises(FileNotFoundError, match=re.escape(sentence)):
            load_images(name, "train", tmp_path / "none")


def test_stl10_has_its_images_upright_and_its_labels_from_zero(tmp_path):
    images, _ = image_files.stl10(tmp_path)
    for split in ("unlabelled", "train", "test"):
        read = load_stl10(split, tmp_path, count=3)
        assert np.array_equal(read.images.numpy(), images[:3])
        assert read.labels.tolist() == ([-1, -1, -1] if split == "unlabelled" else [0, 1, 2])


def test_a_part_of_stl10_is_the_right_split(tmp_path, monkeypatch):
    image_files.stl10(tmp_path)
    asked = []
    monkeypatch.setattr("emc2_lite.vision.datasets._STL10_COUNTS", {"unlabelled": 1, "train": 2, "test": 3})
    for part in ("train", "labelled", "test"):
        images = load_images("stl10", part, tmp_path)
        asked.append((len(images), images.labels.tolist()))
    assert asked == [(1, [-1]), (2, [0, 1]), (3, [0, 1, 2])]
    assert set(_STL10_SPLITS) == {"train", "labelled", "test"}


def test_the_whole_of_stl10_is_asked_for_by_default(tmp_path):
    image_files.stl10(tmp_path)
    for split, count in (("unlabelled", 100_000), ("train", 5_000), ("test", 8_000)):
        with pytest.raises(ValueError, match=f"holds 4 images, {count} were asked for: it is damaged or cut short"):
            load_stl10(split, tmp_path)


def test_damaged_labels_of_stl10_are_refused(tmp_path):
    image_files.stl10(tmp_path)
    path = tmp_path / "stl10_binary" / "train_y.bin"
    for content in (b"", bytes([1, 2]), bytes([0, 1, 2, 3]), bytes([1, 2, 3, 11])):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=re.escape(f"{path} lacks labels, or holds others than 1 to 10")):
            load_stl10("train", tmp_path, count=4)
    path.unlink()
    with pytest.raises(ValueError, match="lacks labels"):
        load_stl10("train", tmp_path, count=4)


def test_imagenet100_takes_its_hundred_classes_in_the_lists_order(tmp_path):
    from importlib.resources import files

    lines = (files("emc2_lite.vision") / "imagenet100.txt").read_text().splitlines()
    classes = [line for line in lines if not line.startswith("#")]
    assert len(set(classes)) == len(classes) == 100
    assert all(re.fullmatch(r"n\d{8}", name) for name in classes)
    for part in ("train", "val"):
        image_files.image_folder(tmp_path / part, dict.fromkeys([*classes, "n00000000"], 1), side=2, ending="JPEG")
    for split, part in (("train", "train"), ("test", "val")):
        images = load_imagenet100(split, tmp_path)
        assert len(images) == 100
        assert [path.parent.name for path in images.paths] == classes
        assert images.labels.tolist() == list(range(100))
        assert all(path.parents[1].name == part for path in images.paths)
    for name in (classes[0], classes[60]):
        (tmp_path / "train" / name).rename(tmp_path / name)
    with pytest.raises(
        FileNotFoundError, match=f"lacks 2 of the 100 classes, such as {classes[0]}, {classes[60]}: each"
    ):
        load_imagenet100("train", tmp_path)


def test_a_folder_has_parts_if_it_has_the_layout(tmp_path):
    image_files.image_folder(tmp_path / "plain", {"a": 2, "b": 3})
    assert len(load_images("folder", "train", tmp_path / "plain")) == 5
    assert len(load_images("folder", "labelled", tmp_path / "plain")) == 5
    with pytest.raises(
        FileNotFoundError, match=r"plain has no test images: lay them in .*plain/test, and the others in"
    ):
        load_images("folder", "test", tmp_path / "plain")
    image_files.image_folder(tmp_path / "alone" / "test", {"a": 1})
    with pytest.raises(FileNotFoundError, match=r"the others in .*alone/train"):
        load_images("folder", "test", tmp_path / "alone")
    image_files.image_folder(tmp_path / "parts" / "train", {"a": 2})
    image_files.image_folder(tmp_path / "parts" / "val", {"a": 4})
    assert [len(load_images("folder", part, tmp_path / "parts")) for part in ("train", "labelled", "test")] == [2, 2, 4]
    image_files.image_folder(tmp_path / "parts" / "test", {"a": 6})
    assert len(load_images("folder", "test", tmp_path / "parts")) == 6


@pytest.mark.parametrize("names", ["ab", "abcd", "abx", ""])
def test_the_parts_of_a_folder_have_the_same_classes(tmp_path, names):
    """Else label 1 would be one class in training and another in the test."""
    image_files.image_folder(tmp_path / "train", dict.fromkeys("abc", 1))
    image_files.image_folder(tmp_path / "test", dict.fromkeys(names or ".", 1))
    odd = ", ".join(sorted(set("abc") ^ set(names)))
    with pytest.raises(
        ValueError, match=f"train and .*test have not the same classes: {odd} only in one of them; give"
    ):
        load_images("folder", "test", tmp_path)
    assert len(load_images("folder", "train", tmp_path)) == 3


def test_samples_are_drawn_from_all_images_in_their_order(tmp_path, monkeypatch):
    """The first images of a folder that is sorted by class would be one class."""
    classes = dict.fromkeys("abcdefgh", 25)
    image_files.image_folder(tmp_path, classes, side=2)
    every = load_images("folder", "train", tmp_path)
    some, again = (load_images("folder", "train", tmp_path, samples=40) for _ in range(2))
    assert (len(some), some.classes) == (40, tuple(classes))
    assert some.paths == again.paths == sorted(some.paths)
    assert set(some.paths) < set(every.paths)
    assert some.labels.tolist() == [every.labels[every.paths.index(path)].item() for path in some.paths]
    assert set(some.labels.tolist()) == set(range(8))

    chosen = torch.randperm(1437, generator=torch.Generator().manual_seed(0))[:10].sort().values
    digits, train = load_images("digits", "train", samples=10), load_digits("train")
    assert torch.equal(digits.images, train.images[chosen]) and torch.equal(digits.labels, train.labels[chosen])

    images, labels = image_files.cifar10(tmp_path / "cifar", monkeypatch)
    chosen = torch.randperm(15, generator=torch.Generator().manual_seed(0))[:6].sort().values
    read = load_images("cifar10", "train", tmp_path / "cifar", samples=6)
    assert (
        np.array_equal(read.images.numpy(), images[chosen])
        and read.labels.tolist() == np.array(labels)[chosen].tolist()
    )


def test_as_many_samples_as_images_are_all_of_them():
    every, train = load_images("digits", "train", samples=1437), load_digits("train")
    assert torch.equal(every.images, train.images) and torch.equal(every.labels, train.labels)


def test_samples_are_one_or_more_and_no_more_than_there_are(tmp_path):
    image_files.image_folder(tmp_path, {"a": 2, "b": 3})
    for name in DATASETS:
        with pytest.raises(ValueError, match="samples is -1: it must be a whole number of 1 or more"):
            load_images(name, "train", tmp_path, samples=-1)
    for name, count in (("folder", 5), ("digits", 1437)):
        with pytest.raises(
            ValueError, match=f"9999 images of {name} are asked for, and there are {count}: ask for fewer"
        ):
            load_images(name, "train", tmp_path, samples=9999)
    with pytest.raises(ValueError, match="count is 0: it must be a whole number of 1 or more"):
        load_stl10("train", tmp_path, count=0)


def test_images_in_memory_are_two_tensors_and_class_names():
    images, labels = load_digits("test")
    digits = load_images("digits", "test")
    assert len(digits) == len(images) == len(labels) == 360
    assert digits.classes == tuple("0123456789")


def test_classes_are_those_that_the_data_sets_document(tmp_path, monkeypatch):
    image_files.stl10(tmp_path)
    labelled, unlabelled = (load_images("stl10", part, tmp_path, samples=2) for part in ("labelled", "train"))
    assert " ".join(labelled.classes) == "airplane bird car cat deer dog horse monkey ship truck"
    assert unlabelled.classes == ()
    image_files.cifar10(tmp_path, monkeypatch)
    assert load_images("cifar10", "train", tmp_path).classes == tuple(f"class {i}" for i in range(10))  # its own list


def test_every_set_of_images_has_an_identity_of_its_own(tmp_path, monkeypatch):
    image_files.stl10(tmp_path)
    image_files.cifar10(tmp_path, monkeypatch)
    image_files.image_folder(tmp_path, {"train/a": 3, "test/a": 2})
    asked = [
        (name, part, samples)
        for name in ("digits", "cifar10", "stl10", "folder")
        for part in ("train", "test")
        for samples in (1, 2)
    ]
    seen = [load_images(name, part, tmp_path, samples=samples).identity for name, part, samples in asked]
    assert all(seen) and len(set(seen)) == len(asked)
    assert seen == [load_images(name, part, tmp_path, samples=samples).identity for name, part, samples in asked]


def test_digits_have_their_two_parts():
    assert torch.equal(load_images("digits", "labelled").images, load_digits("train").images)
    assert torch.equal(load_images("digits", "test").images, load_digits("test").images)


def test_other_names_are_refused(tmp_path):
    with pytest.raises(
        ValueError, match="The data set is 'mnist': use one of digits, cifar10, stl10, imagenet100, folder"
    ):
        load_images("mnist", "train")
    with pytest.raises(ValueError, match="part is 'valid': use one of train, labelled, test"):
        load_images("digits", "valid")
    for load in (load_cifar10, load_imagenet100):
        with pytest.raises(ValueError, match=r'split is \'unlabelled\': use "train" or "test".'):
            load("unlabelled", tmp_path)
    with pytest.raises(ValueError, match=r'split is \'unlabeled\': use "unlabelled", "train" or "test".'):
        load_stl10("unlabeled", tmp_path)


def test_the_table_of_data_sets_is_true(tmp_path):
    digits = load_images("digits", "train")
    assert DATASETS["digits"][:2] == (len(digits.images), tuple(digits.images.shape[1:]))
    assert DATASETS["cifar10"].shape == (3, 32, 32) and DATASETS["stl10"].shape == (3, 96, 96)
    assert all(known.in_memory == (known.shape is not None) for known in DATASETS.values())
