"""A run on another device, with its views, checkpoints and evaluation, equals the run on the CPU."""

import image_files
import pytest
import torch
from elsewhere import DEVICE, Elsewhere
from runs import LOSSES, same, small
from trials import without_compiled_code

from emc2_lite.evaluation import features_of, knn_accuracy, linear_probe, nearest_neighbour_accuracy
from emc2_lite.training import Run, changed
from emc2_lite.training.checkpoints import load_checkpoint, save_checkpoint
from emc2_lite.vision import Augmentation, DigitEncoder, DigitViews, FileViews, FolderImages, ImageViews, load_digits

CPU = torch.device("cpu")
DIGITS = load_digits("train")
PHOTOGRAPHS = torch.randint(256, (6, 3, 20, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def files(folder):
    image_files.image_folder(folder, {"a": 3, "b": 3}, side=20)
    return FolderImages(folder)


VIEWS = {
    "digits": lambda device, _: DigitViews(DIGITS.images[:6].to(device)),
    "images in memory": lambda device, _: ImageViews(PHOTOGRAPHS.to(device), Augmentation(16)),
    "images in files": lambda device, folder: FileViews(files(folder), Augmentation(16), device, workers=2),
}


@pytest.mark.parametrize("kind", VIEWS)
def test_views_are_made_on_the_device(kind, tmp_path):
    index, view = torch.tensor([4, 0, 5, 4]), torch.tensor([0, 7, 2, 1])
    expected = VIEWS[kind](CPU, tmp_path)
    with Elsewhere():
        views = VIEWS[kind](DEVICE, tmp_path)
        made = views(index.to(DEVICE), view.to(DEVICE))
        originals = views.originals(index.to(DEVICE))
        assert made.device == DEVICE and originals.device == DEVICE
        assert torch.equal(made.cpu(), expected(index, view))
        assert torch.equal(originals.cpu(), expected.originals(index))


def run_of(method, device):
    return Run(small(method), DigitViews(DIGITS.images[:48].to(device)), device)


def steps(run, count):
    for _ in range(count):
        run.advance()
    return run


def settled(run):
    """The state in a checkpoint, without the device and the time."""
    state = {name: value for name, value in run.state_dict().items() if name not in ("seconds", "device")}
    return on_the_cpu(state)


def on_the_cpu(value):
    if isinstance(value, torch.Tensor):
        return value.cpu()
    if isinstance(value, dict):
        return {key: on_the_cpu(one) for key, one in value.items()}
    return [on_the_cpu(one) for one in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize(("method", "most"), [("NT-Xent", 1), ("SogCLR", 1), ("EMC2 dropped", 1), ("EMC2", 3)])
def test_a_whole_step_waits_for_the_device_as_often_as_its_loss(method, most):
    """Views, encoder, optimiser, schedule and the means of the metrics add no wait."""
    config = changed(
        small(method),
        **{"data.name": "folder", "data.samples": None, "views.size": 16, "encoder.name": "resnet8"},
        **{"training.batch_size": 3, "training.epochs": 6},
    )
    with Elsewhere():
        run = Run(config, ImageViews(PHOTOGRAPHS.to(DEVICE), Augmentation(16)), DEVICE)
        steps(run, 3)
        for _ in range(6):
            with Elsewhere() as elsewhere:
                if run.sampler.peek() is None:
                    steps(run, 1)  # the order of a new epoch
                    continue
                steps(run, 1)
            assert elsewhere.waits.total() <= most, elsewhere.waits


@pytest.mark.parametrize("method", LOSSES)
def test_a_run_equals_the_run_on_the_cpu_and_resumes_from_a_checkpoint(method, monkeypatch, tmp_path):
    without_compiled_code(monkeypatch)
    expected = settled(steps(run_of(method, CPU), 9))
    with Elsewhere():
        whole = steps(run_of(method, DEVICE), 6)
        save_checkpoint(tmp_path / "x.pt", whole.state_dict())
        resumed = run_of(method, DEVICE)
        resumed.load_state_dict(load_checkpoint(tmp_path / "x.pt"))
        for run in (whole, resumed):
            assert same(settled(steps(run, 3)), expected)
        assert all(weights.device == DEVICE for weights in resumed.encoder.parameters())
        assert all(buffer.device == DEVICE for buffer in resumed.update.criterion.buffers())
        with pytest.raises(ValueError, match="started on mps and is to go on on cpu"):
            run_of(method, CPU).load_state_dict(load_checkpoint(tmp_path / "x.pt"))


def test_an_evaluation_equals_the_evaluation_on_the_cpu():
    def evaluated(device):
        torch.manual_seed(0)
        encoder, views = DigitEncoder(8).to(device), DigitViews(DIGITS.images[:200].to(device))
        features, labels = features_of(encoder, views), DIGITS.labels[:200]
        parts = features[:150], labels[:150], features[150:], labels[150:]
        return (
            features.cpu(),
            knn_accuracy(*parts, k=5),
            nearest_neighbour_accuracy(*parts),
            linear_probe(*parts),
            linear_probe(*parts, protocol="paper"),
        )

    with Elsewhere():
        here, there = evaluated(CPU), evaluated(DEVICE)
    assert torch.equal(here[0], there[0]) and here[1:] == there[1:]
