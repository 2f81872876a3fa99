"""Encoders in files of their own: small, whole, and the same encoder."""

import pytest
import torch
from click.testing import CliRunner
from runs import VIEWS, new_run
from sklearn.datasets import load_sample_images
from torch.nn import functional as F

from emc2_lite import cli
from emc2_lite.evaluation import nearest_neighbours
from emc2_lite.runs import export_encoder, exported_encoder, shipped_encoder
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
