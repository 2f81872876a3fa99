"""STL-10: its file, the paper's encoder for it, and the experiment that reads it."""

import image_files
import numpy as np
import pytest
import torch
from torch import nn

from emc2_lite.vision import ResNetEncoder, load_images, load_stl10

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


@pytest.fixture
def reads(monkeypatch):
    """The numbers of the images that are read from a file, a list for each read."""
    seen = []

    class Watched(np.memmap):
        def __getitem__(self, numbers):
            seen.append(numbers.tolist())
            return super().__getitem__(numbers)

    monkeypatch.setattr(np, "memmap", Watched)
    return seen


def test_images_are_read_upright(folder):
    images = load_stl10("unlabelled", folder, count=COUNT).images
    assert images.dtype == torch.uint8
    assert images.is_contiguous()
    assert torch.equal(images, IMAGES)


def test_images_are_those_that_torchvision_reads(folder):
    """Its dataset asks for a labelled file as well; this is how it reads the images."""
    raw = np.fromfile(folder / "stl10_binary" / "unlabeled_X.bin", dtype=np.uint8)
    expected = np.transpose(np.reshape(raw, (-1, 3, 96, 96)), (0, 1, 3, 2))
    assert np.array_equal(load_stl10("unlabelled", str(folder), count=COUNT).images.numpy(), expected)


def test_only_the_images_asked_for_are_read(folder, reads):
    images = load_stl10("unlabelled", folder, count=2).images
    assert torch.equal(images, IMAGES[:2])
    assert reads == [[0, 1]]


def test_many_images_are_read_in_blocks_and_all_are_upright(folder, reads):
    """All of them are 2.8 GB: no second copy of them lies in memory."""
    file = folder / "stl10_binary" / "unlabeled_X.bin"
    file.write_bytes(file.read_bytes() * 34)
    images = load_stl10("unlabelled", folder, count=34 * COUNT - 1).images
    assert torch.equal(images, IMAGES.repeat(34, 1, 1, 1)[:-1])
    assert [len(numbers) for numbers in reads] == [100, 100, 3]


@pytest.mark.parametrize("part", ["train", "labelled", "test"])
def test_a_sample_reads_its_own_images_alone(tmp_path, reads, part):
    images, labels = image_files.stl10(tmp_path, count=10)
    chosen = torch.randperm(10, generator=torch.Generator().manual_seed(0))[:4].sort().values.numpy()
    assert chosen.tolist() != [0, 1, 2, 3]
    sample = load_images("stl10", part, tmp_path, samples=4)
    assert np.array_equal(sample.images.numpy(), images[chosen])
    assert sample.labels.tolist() == ([-1] * 4 if part == "train" else (labels[chosen] - 1).tolist())
    assert reads == [chosen.tolist()]
    with pytest.raises(ValueError, match="holds 10 images, 11 were asked for: it is damaged or cut short"):
        load_images("stl10", part, tmp_path, samples=11)


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
