"""Views of images in files: the pixels depend on (index, view) alone, not on threads or hints."""

import re
import threading

import image_files
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as tv

from emc2_lite.vision import Augmentation, FileViews, FolderImages, ImageViews, view_uniforms
from emc2_lite.vision.augmentation import CROP_DRAWS, DRAWS, draw_crops, finish

CPU = torch.device("cpu")
AUGMENTATION = Augmentation(size=16)


@pytest.fixture
def folder(tmp_path):
    image_files.image_folder(tmp_path, {"a": 4}, side=20, ending="jpg")
    image_files.image_folder(tmp_path, {"b": 4}, side=33)
    return tmp_path


@pytest.fixture
def views(folder):
    return FileViews(FolderImages(folder), AUGMENTATION, CPU, workers=2)


INDEX, VIEW = torch.tensor([0, 5, 5, 7, 2]), torch.tensor([3, 0, 1, 0, 9])


def test_a_view_is_torchvisions_crop_then_the_stages_of_images_in_memory(views):
    ours = views(INDEX, VIEW)
    numbers = view_uniforms(INDEX, VIEW, DRAWS)
    crops = []
    for row, i in enumerate(INDEX.tolist()):
        image = views.images[i]
        crop = draw_crops(AUGMENTATION, numbers[row : row + 1, :CROP_DRAWS], *image.shape[1:])
        box = [int(part) for part in crop[:4]]
        cut = tv.resized_crop(image, *box, [16, 16], antialias=True)
        crops.append(tv.horizontal_flip(cut) if crop.flip else cut)
    assert torch.equal(ours, finish(torch.stack(crops) / 255, numbers, AUGMENTATION))
    assert len({bool(draw_crops(AUGMENTATION, numbers[i : i + 1, :CROP_DRAWS], 20, 20).flip) for i in range(5)}) == 2


def test_prefetching_and_workers_do_not_change_the_pixels(views, folder):
    plain = views(INDEX, VIEW)
    views.prefetch(INDEX, VIEW)
    assert torch.equal(views(INDEX, VIEW), plain)
    views.prefetch(INDEX[:2], VIEW[:2])
    assert torch.equal(views(INDEX, VIEW), plain)
    views.prefetch(VIEW.clamp_max(7), INDEX)
    assert torch.equal(views(INDEX, VIEW), plain)
    alone = FileViews(FolderImages(folder), AUGMENTATION, CPU, workers=1)
    order = torch.tensor([4, 2, 0, 1, 3])
    assert torch.equal(alone(INDEX[order], VIEW[order]), plain[order])


class Counting:
    """Files that count how often each is decoded."""

    def __init__(self, files):
        self.files, self.decoded, self.lock = files, [], threading.Lock()

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        with self.lock:
            self.decoded.append(i)
        return self.files[i]


def test_prefetched_views_are_decoded_once_and_old_hints_are_dropped(folder):
    files = Counting(FolderImages(folder))
    views = FileViews(files, AUGMENTATION, CPU, workers=2)
    views.prefetch(INDEX, VIEW)
    views(INDEX, VIEW)
    assert sorted(files.decoded) == sorted(INDEX.tolist())
    assert views.coming == {}
    for number in range(20):
        views.prefetch(INDEX, VIEW + number)
        assert len(views.coming) == 5
    views(INDEX[:1], VIEW[:1] + 19)
    assert len(views.coming) == 4


def test_a_hint_that_is_dropped_is_never_decoded(folder):
    """One worker, held up until the second hint has taken the place of the first."""
    files, held = Counting(FolderImages(folder)), threading.Event()
    views = FileViews(files, AUGMENTATION, CPU, workers=1)
    views.pool.submit(held.wait, 10)
    views.prefetch(INDEX, VIEW)
    views.prefetch(INDEX[3:], VIEW[3:])
    held.set()
    views(INDEX[3:4], VIEW[3:4])
    views(INDEX[:1], VIEW[:1])  # comes after all that was begun
    assert files.decoded == [7, 2, 0]


def test_images_in_files_look_like_those_in_memory(tmp_path):
    """Without colours, to a level of 255: crops are rounded twice, along rows and columns, and so are their weights."""
    image_files.image_folder(tmp_path, {"a": 6}, side=40)
    files, plain = FolderImages(tmp_path), Augmentation(size=16, jitter=0.0, grayscale=0.0, blur=0.0)
    index = torch.arange(6).repeat(5)
    ours = FileViews(files, plain, CPU, workers=2)(index, index.sort().values)
    in_memory = ImageViews(files.in_memory().images, plain)(index, index.sort().values)
    torch.testing.assert_close(ours, in_memory, rtol=0, atol=1.1 / 255)


def test_a_damaged_file_is_named_to_the_caller(views, folder):
    bad = folder / "b" / "001.png"
    bad.write_bytes(bad.read_bytes()[:100])
    with pytest.raises(ValueError, match=re.escape(f"{bad} cannot be read as an image")):
        views(INDEX, VIEW)
    sound = torch.tensor([0, 1])
    assert views(sound, sound).isfinite().all()


def test_a_damaged_file_fails_only_when_asked_for_and_can_be_mended(views, folder):
    whole = views(INDEX, VIEW)
    path = folder / "b" / "001.png"
    sound = path.read_bytes()
    path.write_bytes(sound[:100])
    views.prefetch(INDEX, VIEW)
    with pytest.raises(ValueError, match="cannot be read as an image"):
        views(INDEX, VIEW)
    path.write_bytes(sound)
    assert torch.equal(views(INDEX, VIEW), whole)


def test_originals_are_cut_from_the_middle(folder):
    """Of 20 / 0.875 = 22.86 pixels, rounded to 23."""
    views = FileViews(FolderImages(folder), Augmentation(size=20), CPU, workers=2)
    for i in (1, 6):
        expected = tv.center_crop(tv.resize(views.images[i], [23], antialias=True), [20, 20])
        assert torch.equal(views.originals(torch.tensor([i]))[0], expected / 255)


def test_bad_names_are_refused_before_anything_is_decoded(views):
    with pytest.raises(ValueError, match="indices must be from 0 to 7"):
        views(torch.tensor([8]), torch.tensor([0]))


def usual(views, i):
    """The whole picture resized and the middle cut out, as is usual."""
    size = views.augmentation.size
    resized = tv.resize(views.images[i], [round(size / 0.875)], antialias=True)
    return tv.center_crop(resized, [size, size]) / 255


@pytest.mark.parametrize("shape", [(20, 20), (20, 80), (80, 20), (7, 27), (33, 9)], ids=str)
def test_originals_of_usual_pictures_are_those_of_the_whole_picture(tmp_path, shape):
    Image.fromarray(image_files.pixels(1, *shape, 3)[0]).save(tmp_path / "x.png")
    views = FileViews(FolderImages(tmp_path), AUGMENTATION, CPU, workers=1)
    assert torch.equal(views.originals(INDEX[:1])[0], usual(views, 0))


@pytest.mark.parametrize("shape", [(12, 240), (240, 12), (13, 239), (1, 64), (64, 1)], ids=str)
def test_originals_of_long_pictures_come_from_their_middle(tmp_path, shape):
    """Within one part in 50 of black to white: the side that is cut is rounded to another whole number of pixels."""
    smooth = np.linspace(0, 255, max(shape)).reshape([side if side == max(shape) else 1 for side in shape] + [1])
    picture = np.broadcast_to(smooth, (*shape, 3)).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "x.png")
    views = FileViews(FolderImages(tmp_path), AUGMENTATION, CPU, workers=1)
    torch.testing.assert_close(views.originals(INDEX[:1])[0], usual(views, 0), rtol=0, atol=0.02)


@pytest.mark.parametrize("shape", [(1, 65), (65, 1), (1, 66), (3, 41)], ids=str)
def test_the_middle_of_a_long_picture_stays_in_the_middle(tmp_path, shape):
    """A picture that is its own mirror image gives such a view."""
    half = image_files.pixels(1, *shape, 3)[0]
    picture = np.maximum(half, half[::-1, ::-1])
    Image.fromarray(picture).save(tmp_path / "x.png")
    views = FileViews(FolderImages(tmp_path), AUGMENTATION, CPU, workers=1)
    original = views.originals(INDEX[:1])[0]
    torch.testing.assert_close(original, original.flip(1, 2), rtol=0, atol=1.1 / 255)


@pytest.mark.parametrize("shape", [(1, 65_000), (65_000, 1), (3, 20_000)], ids=str)
def test_only_the_visible_part_of_a_long_picture_is_resized(tmp_path, monkeypatch, shape):
    made = []
    resize = tv.resize
    monkeypatch.setattr(tv, "resize", lambda *given, **how: made.append(resize(*given, **how)) or made[-1])
    Image.fromarray(image_files.pixels(1, *shape, 3)[0]).save(tmp_path / "x.png")
    views = FileViews(FolderImages(tmp_path), Augmentation(size=224), CPU, workers=1)
    assert views.originals(INDEX[:1]).shape == views(INDEX[:1], VIEW[:1]).shape == (1, 3, 224, 224)
    assert max(image.numel() for image in made) <= 3 * 256 * 5 * 256


@pytest.mark.parametrize("workers", [0, 257, 2.5, "2", None, True])
def test_other_numbers_of_workers_are_refused(folder, workers):
    with pytest.raises(ValueError, match=re.escape(f"workers is {workers!r}: it must be a whole number from 1 to 256")):
        FileViews(FolderImages(folder), AUGMENTATION, CPU, workers=workers)


def test_a_device_may_be_named(folder):
    assert FileViews(FolderImages(folder), AUGMENTATION, "cpu", workers=1).device == CPU
