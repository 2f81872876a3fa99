"""STL-10: the file as it is laid out, stored views by the paper's augmentation, and the paper's encoder."""

import numpy as np
import pytest
import torch
from torch import nn

from emc2_lite.laboratory.experiments import EXPERIMENTS
from emc2_lite.vision import ResNetEncoder, StoredViews, load_stl10, stored_stl10_views

COUNT = 6
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, 3, 96, 96), dtype=np.uint8)  # image, channel, row, column
IMAGES = torch.from_numpy(PIXELS)


@pytest.fixture
def folder(tmp_path):
    """STL-10's own format: image after image, channel after channel, each channel column by column."""
    (tmp_path / "stl10_binary").mkdir()
    with open(tmp_path / "stl10_binary" / "unlabeled_X.bin", "wb") as file:
        for image in PIXELS:
            for channel in image:
                for column in range(96):
                    file.write(bytes(channel[:, column]))
    return tmp_path


def test_images_are_read_upright(folder):
    images = load_stl10("unlabelled", folder, count=COUNT).images
    assert images.dtype == torch.uint8
    assert images.is_contiguous()
    assert torch.equal(images, IMAGES)


def test_images_are_those_that_torchvision_reads(folder):
    """Its dataset asks for a labelled file as well; this is the reading of it."""
    raw = np.fromfile(folder / "stl10_binary" / "unlabeled_X.bin", dtype=np.uint8)
    expected = np.transpose(np.reshape(raw, (-1, 3, 96, 96)), (0, 1, 3, 2))
    assert np.array_equal(load_stl10("unlabelled", str(folder), count=COUNT).images.numpy(), expected)


def test_no_more_is_read_than_asked_for(folder, monkeypatch):
    read, fromfile = [], np.fromfile
    monkeypatch.setattr(np, "fromfile", lambda *args, **kwargs: read.append(fromfile(*args, **kwargs)) or read[-1])
    images = load_stl10("unlabelled", folder, count=2).images
    assert torch.equal(images, IMAGES[:2])
    assert [pixels.nbytes for pixels in read] == [2 * 3 * 96 * 96]
    assert np.shares_memory(images.numpy(), read[0])  # all of them are 2.8 GB: never twice


def test_every_one_of_many_images_is_upright(folder):
    """More images than are turned upright at a time, and not a multiple of that."""
    file = folder / "stl10_binary" / "unlabeled_X.bin"
    file.write_bytes(file.read_bytes() * 34)
    images = load_stl10("unlabelled", folder, count=34 * COUNT - 1).images
    assert torch.equal(images, IMAGES.repeat(34, 1, 1, 1)[:-1])


def test_a_missing_file_is_named_with_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError) as refusal:
        load_stl10("unlabelled", tmp_path, count=1)
    assert f"There is no {tmp_path}/stl10_binary/unlabeled_X.bin: STL-10 can be fetched, 2.6 GB," in str(refusal.value)


def test_a_short_file_is_refused(folder):
    file = folder / "stl10_binary" / "unlabeled_X.bin"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(
        ValueError, match=f"holds {COUNT - 1} images, {COUNT} were asked for: it is damaged or cut short"
    ):
        load_stl10("unlabelled", folder, count=COUNT)
    assert torch.equal(load_stl10("unlabelled", folder, count=COUNT - 1).images, IMAGES[:-1])


def pairs(samples, num_views):
    return torch.arange(samples).repeat_interleave(num_views), torch.arange(num_views).repeat(samples)


def test_stored_views_are_the_images_that_were_stored():
    images = torch.rand(4, 3, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    views = StoredViews(images)
    assert len(views) == 4
    assert torch.equal(views(torch.tensor([3, 0, 3]), torch.tensor([2, 1, 0])), images[[3, 0, 3], [2, 1, 0]])
    for index, view in ((4, 0), (0, 3)):
        with pytest.raises(IndexError):
            views(torch.tensor([index]), torch.tensor([view]))


def test_views_are_images_in_range_and_all_different():
    """Noise, black and white images: no view leaves [0, 1] by more than rounding, and no two views of
    the noise images are the same.
    """
    images = torch.cat((IMAGES[:3], torch.zeros(1, 3, 96, 96).byte(), torch.full((1, 3, 96, 96), 255).byte()))
    views = stored_stl10_views(images, num_views=4)
    assert len(views) == 5
    assert views.images.shape == (5, 4, 3, 96, 96)
    assert views.images.dtype == torch.float32
    assert views.images.min() >= 0
    assert views.images.max() <= 1 + 1e-6
    assert len(views(*pairs(3, 4)).flatten(1).unique(dim=0)) == 12
    assert views.images[:, :, :, 1:].sub(views.images[:, :, :, :-1])[4].abs().max() < 1e-5  # a level image stays level
    assert views.images[4].amax() > 0.5


def test_a_seed_fixes_the_views_and_leaves_the_global_state_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = stored_stl10_views(IMAGES[:2], seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    assert torch.equal(stored_stl10_views(IMAGES[:2], seed=0).images, first.images)
    assert not torch.equal(stored_stl10_views(IMAGES[:2], seed=1).images, first.images)


def test_views_are_crops_flips_colours_greys_and_blurs():
    """300 views of an image with a red left and a blue right half, each step seen with the probability announced.

    Null: grey with probability 0.2, flipped with 0.5, its colours kept with 0.2 x 0.8. Shares of 300 within 5 standard
    deviations of that (0.12, 0.15 and 0.11); false-alarm rate below 1e-5.
    """
    image = torch.zeros(1, 3, 96, 96, dtype=torch.uint8)
    image[0, 0, :, :48], image[0, 2, :, 48:] = 200, 100
    views = stored_stl10_views(image, num_views=300).images[0]
    grey = (views.amax(dim=1) - views.amin(dim=1)).flatten(1).amax(dim=1) < 1e-4
    assert grey.float().mean().item() == pytest.approx(0.2, abs=0.12)
    left, right = views[:, :, 48, 0], views[:, :, 48, -1]
    two_halves = (left - right).norm(dim=1) > 1e-3
    colours_kept = ~grey & two_halves & (((left - right).abs() - torch.tensor([200, 0, 100]) / 255).norm(dim=1) < 1e-2)
    of_halves = (colours_kept.float().sum() / (two_halves & ~grey).float().sum()).item()
    assert of_halves == pytest.approx(0.2, abs=0.15)
    flipped = (left[colours_kept, 0] < right[colours_kept, 0]).float()
    assert 0 < flipped.mean() < 1
    assert 0 < two_halves.float().mean() < 1
    sharpness = views.diff(dim=3).abs().amax(dim=(1, 2, 3))[two_halves] / (left - right).abs().amax(dim=1)[two_halves]
    # An edge blurred with sigma 2 has a slope of 1 / (2 sqrt(2 pi)) = 0.20; a crop that is enlarged alone, at most 3.5
    # times, keeps more than 0.25. A sigma under 1 keeps 0.4 and more, unless the crop is small.
    assert sharpness.min() < 0.23
    assert (sharpness > 0.35).float().mean() > 0.3


def test_the_encoder_has_no_norm_layers_and_embeddings_of_length_one():
    torch.manual_seed(0)
    encoder = ResNetEncoder()
    for module in encoder.modules():
        assert not isinstance(module, nn.modules.batchnorm._NormBase | nn.GroupNorm | nn.LayerNorm)
    images = IMAGES.float() / 255
    embeddings = encoder(images)
    assert embeddings.shape == (COUNT, 512)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(COUNT))
    assert encoder.features(images[:2]).shape == (2, 512)
    assert (encoder.features(images[:2]) < 0).sum() == 0  # behind the last ReLU and the mean, before the projector
    (embeddings[0] * torch.linspace(-1, 1, 512)).sum().backward()
    for parameter in (*encoder.trunk.conv1.parameters(), *encoder.projector.parameters()):
        assert parameter.grad.abs().max() > 0
    torch.testing.assert_close(encoder(images[:1]), embeddings[:1], rtol=1e-3, atol=1e-5)  # in any company


def test_the_gradient_error_experiment_runs_on_stl10(folder):
    said = []
    small = {
        "samples": COUNT,
        "batch_size": 2,
        "epochs": 1,
        "measurements": 2,
        "seeds": 1,
        "methods": ["NT-Xent", "EMC2"],
    }
    rows = list(EXPERIMENTS["gradient-error"].run(data="stl10", folder=str(folder), progress=said.append, **small))
    assert [(row["method"], row["step"]) for row in rows] == [(m, s) for m in ("NT-Xent", "EMC2") for s in (0, 2)]
    assert rows[0]["loss"] == rows[2]["loss"]  # the same encoder at the start
    assert all(row["squared_norm"] > 0 and row["squared_error"] > 0 for row in rows)
    assert said == ["seed 0: NT-Xent, 3 steps", "seed 0: EMC2, 3 steps"]
