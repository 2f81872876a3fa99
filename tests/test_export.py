"""Encoders in files of their own: small, whole, and the same encoder."""

import json
import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner
from runs import VIEWS, new_run
from sklearn.datasets import load_sample_images
from torch.nn import functional as F

from emc2_lite import cli
from emc2_lite.evaluation import nearest_neighbours
from emc2_lite.runs import export_encoder, exported_encoder, shipped_encoder
from emc2_lite.runs.export import Pixels
from emc2_lite.training import LAST, fit, load_checkpoint, save_checkpoint
from emc2_lite.vision import Augmentation, ImageViews, ResNetEncoder

IMAGES = VIEWS.originals(torch.arange(len(VIEWS)))


def command(*arguments: object):
    return CliRunner().invoke(cli.main, ["export", *map(str, arguments)])


@pytest.fixture
def trained(tmp_path):
    """A run's folder, and the encoder with which the run ended."""
    run = new_run(training__epochs=1)
    (tmp_path / "run").mkdir()
    fit(run, tmp_path / "run", progress=False)
    return tmp_path / "run", run.encoder.eval()


@torch.no_grad()
def test_the_encoder_in_the_file_embeds_as_the_runs_own_within_half_precision(trained, tmp_path):
    """Half precision rounds a weight by at most a 2,048th of it."""
    run, encoder = trained
    result = command(run, tmp_path / "new" / "encoder.pt")
    assert result.exit_code == 0 and "encoder.pt: 0." in result.output and "MB" in result.output
    exported = exported_encoder(tmp_path / "new" / "encoder.pt")
    assert not exported.training and {p.dtype for p in exported.parameters()} == {torch.float32}
    for own, exported_weight in zip(encoder.parameters(), exported.parameters(), strict=True):
        assert torch.equal(exported_weight, own.half().float())
    cosines = (encoder(IMAGES) * exported(IMAGES)).sum(dim=1)
    assert cosines.min() > 0.9999
    assert (tmp_path / "new" / "encoder.pt").stat().st_size < 0.55 * sum(4 * p.numel() for p in encoder.parameters())


@torch.no_grad()
def test_the_encoder_in_the_file_takes_plain_images(trained, tmp_path):
    """Whole numbers from 0 to 255, numbers in [0, 1], and images of another size."""
    export_encoder(trained[0], tmp_path / "encoder.pt")
    exported = exported_encoder(str(tmp_path / "encoder.pt"))
    whole = (255 * IMAGES).round().byte()
    features = exported.features(whole)
    assert torch.equal(features, exported.features(whole / 255))
    torch.testing.assert_close(features, trained[1].features(whole / 255), rtol=0.02, atol=1e-3)
    assert torch.load(tmp_path / "encoder.pt")["input"] == {"channels": 1, "size": 8, "range": [0.0, 1.0]}
    photographs = ImageViews(cuttings(load_sample_images().images[0]), Augmentation(size=32, blur=0.0))
    larger = F.interpolate(photographs.images, size=48)
    resized = ImageViews(larger, Augmentation(size=32, blur=0.0)).originals(torch.arange(len(larger)))
    assert torch.equal(shipped_encoder().features(larger), shipped_encoder().features(resized))


REFUSED = {
    r"have values from 0 to 255: pass floating point in \[0, 1\]": torch.linspace(0, 255, 64).view(1, 1, 8, 8),
    r"have values from nan to nan": torch.full((1, 1, 8, 8), torch.nan),
    r"are torch.int64: pass torch.uint8": torch.zeros(1, 1, 8, 8, dtype=torch.int64),
    r"have shape \(1, 3, 8, 8\): pass \(k, 1, H, W\)": torch.zeros(1, 3, 8, 8),
    r"have shape \(8, 8\): pass \(k, 1, H, W\)": torch.zeros(8, 8),
}


@pytest.mark.parametrize(("sentence", "images"), REFUSED.items(), ids=REFUSED)
def test_other_images_are_refused_in_a_sentence(sentence, images):
    with pytest.raises(ValueError, match=sentence):
        Pixels(channels=1, size=8)(images)


@torch.no_grad()
def test_the_program_runs_without_the_library_and_gives_the_runs_own_features(trained, tmp_path):
    """In another process, on batches of 1, 2 and all images; from the command line the ending .pt2 asks for it."""
    run, encoder = trained
    result = command(run, tmp_path / "encoder.pt2")
    assert result.exit_code == 0 and "encoder.pt2: 0." in result.output
    torch.save(IMAGES, tmp_path / "images.pt")
    code = """
import sys, torch
images, files = torch.load("images.pt"), {"emc2_lite.json": ""}
program = torch.export.load("encoder.pt2", extra_files=files).module()
torch.save([program(images[:k]) for k in (1, 2, len(images))] + [files["emc2_lite.json"]], "features.pt")
assert not any(name.startswith("emc2_lite") for name in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    *features, beside = torch.load(tmp_path / "features.pt")
    for found in features:
        torch.testing.assert_close(found, encoder.features(IMAGES[: len(found)]), rtol=1e-5, atol=1e-6)
    assert json.loads(beside)["input"] == {"channels": 1, "size": 8, "range": [0.0, 1.0]}
    with pytest.raises(ValueError, match=r"encoder.pt2 is a program of torch.export: read it with torch.export.load"):
        exported_encoder(tmp_path / "encoder.pt2")


def test_an_encoder_that_torch_cannot_follow_is_named_and_nothing_is_written(trained, tmp_path, monkeypatch):
    def fails(*given, **how):
        raise RuntimeError("a guard\nand a long report")

    monkeypatch.setattr(torch.export, "export", fails)
    result = command(trained[0], tmp_path / "encoder.pt2")
    words = "torch.export cannot follow the encoder digits (RuntimeError: a guard): name a file that ends in .pt."
    assert result.exit_code == 1 and words in result.output
    assert not (tmp_path / "encoder.pt2").exists()


def test_a_changed_byte_is_refused(trained, tmp_path):
    path = tmp_path / "encoder.pt"
    export_encoder(trained[0], path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"encoder\.pt is cut short, damaged or no checkpoint"):
        exported_encoder(path)


def test_weights_beyond_half_precision_are_refused_and_the_old_file_stays(trained, tmp_path):
    run, path = trained[0], tmp_path / "encoder.pt"
    export_encoder(run, path)
    before, state = path.read_bytes(), load_checkpoint(run / LAST)
    state["encoder"]["projector.bias"][0] = 1e6
    save_checkpoint(run / LAST, state)
    result = command(run, path)
    assert result.exit_code == 1 and "weights that are not finite in half precision" in result.output
    assert path.read_bytes() == before


def test_a_folder_without_a_run_is_one_sentence(tmp_path):
    result = command(tmp_path, tmp_path / "encoder.pt")
    assert result.exit_code == 1 and "There is no checkpoint" in result.output and len(result.output.splitlines()) == 1
    assert not (tmp_path / "encoder.pt").exists()


def test_the_encoder_that_ships_has_another_view_among_the_nearest_ten_more_often_than_a_new_one():
    """208 cuttings of two photographs that come with scikit-learn; it was trained on others."""
    crops = torch.cat([cuttings(photograph) for photograph in load_sample_images().images])
    views = ImageViews(crops, Augmentation(size=32))
    index = torch.arange(len(crops))
    torch.manual_seed(0)
    found = []
    for encoder in (shipped_encoder(), ResNetEncoder(8, norm="group", dim=64)):
        with torch.no_grad():
            one, other = (encoder.features(views(index, torch.full_like(index, view))) for view in (0, 1))
        found.append((nearest_neighbours(one, other, 10)[1] == index[:, None]).any(dim=1).float().mean().item())
    assert found[0] > found[1] + 0.1


def cuttings(photograph):
    """(n, 3, 32, 32) uint8."""
    tiles = torch.from_numpy(photograph.copy()).permute(2, 0, 1).unfold(1, 64, 48).unfold(2, 64, 48)
    tiles = tiles.permute(1, 2, 0, 3, 4).flatten(0, 1)
    return F.interpolate(tiles.float(), size=32, mode="area").round().byte()
