"""The paper's figures as numbers, and the experiment of figure 2: its rows against plain formulas."""

import math
from itertools import groupby
from operator import itemgetter

import image_files
import pytest
import torch

from emc2_lite import records
from emc2_lite.laboratory import embedding_table
from emc2_lite.laboratory.experiments import published as module
from emc2_lite.laboratory.experiments.published import (
    ONE_STEP_SHORT,
    gradient_error,
    gradient_error_cells,
    published_curves,
    untrained,
)
from emc2_lite.losses import EMC2Loss, NTXentLoss
from emc2_lite.vision import Augmentation, FileViews, FolderImages, ImageViews, ResNetEncoder

SAMPLES = 6
SMALL = {"samples": SAMPLES, "batch_size": 3, "epochs": 2, "measurements": 4, "gradients_every": 9, "seeds": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """JPEG files of noise, smaller than a view."""
    path = tmp_path_factory.mktemp("images")
    image_files.image_folder(path, {"cat": 4, "dog": 4}, ending="jpg")
    return path


def all_runs(**settings):
    """The rows of all cells, one cell after the other."""
    return [row for cell in gradient_error_cells(**settings) for row in gradient_error(**cell)]


def untrained_encoders(**settings):
    return untrained(progress=lambda text: None, **settings)


def rows_of(experiment, folder, **settings):
    return list(experiment(data="folder", folder=str(folder), **settings))


def end(rows, method):
    return [row for row in rows if row["method"] == method][-1]


def test_figure_1_has_the_accuracies_and_the_prices_in_time_of_its_card():
    rows = published_curves("figure1")
    ends = {method: end(rows, method) for method in ("EMC2", "NT-Xent", "cache", "SogCLR")}
    assert {row["method"] for row in rows} == set(ends) and len(rows) == 74
    assert [row["linear_probe"] for row in ends.values()] == pytest.approx([0.713, 0.674, 0.611, 0.52])
    assert all(row["epoch"] == 100 for row in ends.values())
    assert ends["EMC2"]["hours"] / ends["NT-Xent"]["hours"] == pytest.approx(1.42, abs=0.005)
    assert ends["cache"]["hours"] == pytest.approx(75_100 / 3600)


def test_figure_2_begins_above_the_loss_of_equal_embeddings_and_emc2_ends_just_below():
    rows, equal = published_curves("figure2"), math.log(998)
    curves = {method: list(curve) for method, curve in groupby(rows, itemgetter("method"))}
    assert {*curves} == {"EMC2", "NT-Xent", "SogCLR", "cache"}
    for curve in curves.values():
        assert [row["step"] for row in curve] == list(range(25, 1251, 25))
        assert curve[0]["loss"] == pytest.approx(7.31, abs=0.0021) and curve[0]["squared_norm"] == 89.8
    assert equal - 0.02 < curves["EMC2"][-1]["loss"] < equal
    assert {row["method"] for row in rows if row["loss"] is None} == {"cache"}  # it leaves the drawn range


def test_missing_files_and_figures_are_told_in_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(records, "DATA", tmp_path)
    monkeypatch.setattr(records, "files", lambda name: [])
    with pytest.raises(FileNotFoundError, match=r"There is no data/published/figure2_gradient_error.csv: take it from"):
        published_curves("figure2")
    with pytest.raises(ValueError, match="figure is 'figure3': use one of figure1, figure2"):
        published_curves("figure3")


def plain_loss(table, temperature):
    """The global contrastive loss of (N, 2, d), written out."""
    rows = table.flatten(0, 1)
    scores, sample = rows @ rows.T / temperature, torch.arange(len(rows)) // 2
    negatives = scores.masked_fill(sample[:, None] == sample, -torch.inf).logsumexp(dim=1)
    return (negatives - (table[:, 0] * table[:, 1]).sum(dim=1).repeat_interleave(2) / temperature).mean()


def squared(gradients):
    return sum(gradient.square().sum() for gradient in gradients).item()


def test_a_row_has_both_losses_their_gradients_and_the_error_of_the_step(folder):
    """The first row of a run: a new encoder, all views encoded at once, and the gradient of the first batch."""
    first, *_ = rows_of(all_runs, folder, methods=["NT-Xent"], **SMALL)
    torch.manual_seed(0)
    encoder = ResNetEncoder(hidden=512)
    chosen = torch.randperm(8, generator=torch.Generator().manual_seed(0))[:SAMPLES].sort().values
    views = FileViews(FolderImages(folder).subset(chosen), Augmentation(96), "cpu")
    index = torch.arange(SAMPLES)

    def table():
        return encoder(views(index.repeat_interleave(2), torch.arange(2).repeat(SAMPLES))).unflatten(0, (SAMPLES, 2))

    weights = list(encoder.parameters())
    batch = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(0))[:3]
    taken = torch.autograd.grad(NTXentLoss(0.2)(*table()[batch].unbind(dim=1), batch), weights)
    exact = torch.autograd.grad(plain_loss(table(), 0.2), weights)
    at_beta_squared = torch.autograd.grad(plain_loss(table(), 0.04), weights)
    z = table().detach().double()
    cosines = z.flatten(0, 1) @ z.flatten(0, 1).T
    other = torch.arange(2 * SAMPLES)[:, None] // 2 != torch.arange(2 * SAMPLES) // 2
    expected = {
        "loss": plain_loss(z, 0.2).item(),
        "loss_at_beta_squared": plain_loss(z, 0.04).item(),
        "negative_cosine": cosines[other].mean().item(),
        "positive_cosine": (z[:, 0] * z[:, 1]).sum(dim=1).mean().item(),
        "squared_norm": squared(exact),
        "squared_norm_at_beta_squared": squared(at_beta_squared),
        "squared_error": squared(g - e for g, e in zip(taken, exact, strict=True)),
    }
    assert {name: first.pop(name) for name in ("method", "seed", "step")} == {"method": "NT-Xent", "seed": 0, "step": 0}
    assert first == pytest.approx(expected, rel=1e-3)


def test_runs_begin_with_the_same_encoder_and_gradients_are_measured_now_and_then(folder):
    methods = ["EMC2", ONE_STEP_SHORT]
    rows = rows_of(all_runs, folder, methods=methods, **SMALL)
    assert [(row["method"], row["step"]) for row in rows] == [(method, step) for method in methods for step in range(4)]
    assert [row["step"] for row in rows[:4] if row["squared_norm"] is not None] == [0, 3]  # and always the last one
    losses = [row["loss"] for row in rows]
    assert losses[0] == losses[4] and losses[3] != losses[7]


@pytest.mark.parametrize(("warmup_epochs", "rates"), [(2, [0.25, 0.5, 0.75, 1]), (1, [0.5, 1, 1, 1]), (0, [1] * 4)])
def test_the_learning_rate_rises_linearly_and_stays(folder, monkeypatch, warmup_epochs, rates):
    met = []

    def steps_without_gradients(encoder, views, loss, *, optimiser, steps, after_step, **how):
        for _ in range(steps):
            met.append(optimiser.param_groups[0]["lr"])
            optimiser.step()
            after_step()

    monkeypatch.setattr(module, "train", steps_without_gradients)
    rows_of(all_runs, folder, methods=["NT-Xent"], learning_rate=0.3, warmup_epochs=warmup_epochs, **SMALL)
    assert met == pytest.approx([0.3 * rate for rate in rates])


@pytest.mark.parametrize(("b", "share"), [(4, 2 / 3), (32, 30 / 31)])
def test_one_step_short_has_all_of_the_attraction_and_a_part_of_the_repulsion(b, share):
    """R = 3 steps of a visit are kept at b = 4, and 31 at b = 32; the share is (R - 1) / R."""
    table = embedding_table(num_samples=40).requires_grad_()
    index = torch.arange(b)

    def gradient(loss):
        generator = torch.Generator().manual_seed(0)
        value = loss(*table[index].unbind(dim=1), index, None, lambda i, v: table[i, v], generator)
        return torch.autograd.grad(value, table)[0]

    (attraction,) = torch.autograd.grad(-(table[:b, 0] * table[:b, 1]).sum(dim=1).mean() / 0.2, table)
    repulsion = gradient(EMC2Loss(40, 0.2)) - attraction
    torch.testing.assert_close(gradient(module._OneStepShort(40, 0.2)), attraction + share * repulsion)


def test_an_untrained_encoder_is_where_the_run_begins(folder):
    rows = rows_of(untrained_encoders, folder, norms=["none", "batch"], samples=SAMPLES, batch_size=3, seeds=1)
    place = [(row["norm"], row["hidden"], row["seed"]) for row in rows]
    assert place == [("none", 512, 0), ("none", None, 0), ("batch", 512, 0), ("batch", None, 0)]
    first, *_ = rows_of(all_runs, folder, methods=["NT-Xent"], **SMALL)
    shared = ("loss", "loss_at_beta_squared", "negative_cosine", "positive_cosine")
    assert [rows[0][name] for name in shared] == pytest.approx([first[name] for name in shared], rel=1e-5)
    small = {"norms": ["batch"], "hidden": [512], "samples": SAMPLES, "batch_size": 2, "seeds": 2}
    smaller, other_seed = rows_of(untrained_encoders, folder, **small)
    assert abs(smaller["loss"] - rows[2]["loss"]) > 1e-3  # other batches, other statistics
    assert abs(smaller["loss"] - other_seed["loss"]) > 1e-3


def test_stl10_gives_its_first_unlabelled_images(tmp_path):
    images, _ = image_files.stl10(tmp_path)
    index, view = torch.tensor([0, 1]), torch.tensor([1, 0])
    expected = ImageViews(torch.from_numpy(images[:2]), Augmentation(96))(index, view)
    views = module.photograph_views("stl10", str(tmp_path), 2)
    assert len(views) == 2 and views(index, view).equal(expected)


def test_digits_are_enlarged_and_grey():
    views = module.photograph_views("digits", "", 5)
    (view,) = views(torch.tensor([4]), torch.tensor([0]))
    assert view.shape == (3, 96, 96)
    original = views.originals(torch.tensor([4]))
    assert original.shape == (1, 3, 96, 96) and original[:, 0].equal(original[:, 2])


def test_missing_photographs_are_told_in_a_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no folder .*nothing: say where the images lie"):
        rows_of(all_runs, tmp_path / "nothing", **SMALL)
    with pytest.raises(ValueError, match="methods holds 'SimCLR': use one of"):
        rows_of(all_runs, tmp_path, methods=["SimCLR"])
