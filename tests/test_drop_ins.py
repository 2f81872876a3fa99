"""The losses in someone else's loop: any transform as views with names, losses without an index, loops that run."""

import contextlib
import copy
import io
import math
import os
import random
import re
import runpy
import signal
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import in_processes
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import to_pil_image

from emc2_lite.evaluation import features_of
from emc2_lite.losses import DCLLoss, EMC2Loss, NegativeCacheLoss, NTXentLoss, Parallel, SogCLRLoss
from emc2_lite.training import TrainingStep, train
from emc2_lite.vision import DigitEncoder, SeededViews, load_digits
from emc2_lite.vision.transforms import seeded

FOLDER = Path(__file__).parents[1] / "chapters" / "elsewhere"
LOOPS = ["plain_loop", "lightning_loop", "lightly_loop"]
DIGITS = load_digits("train").images[:32]
TRANSFORM = v2.Compose([v2.RandomAffine(15, (0.1, 0.1), (0.85, 1.15)), v2.ColorJitter(0.4, 0.4)])
Z = F.normalize(torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0)), dim=-1)


def chances(image):
    """A transform with a draw from each global generator."""
    return torch.tensor([random.random(), np.random.rand(), torch.rand(()).item(), float(np.asarray(image).sum())])


@pytest.fixture(scope="module")
def after():
    """What each script has printed, and the names that it leaves."""
    found = {}

    def outcome_of(loop: str) -> tuple[str, dict]:
        if loop not in found:
            if loop != "plain_loop":
                package = loop.replace("_loop", "").replace("lightning", "pytorch_lightning")
                pytest.importorskip(package, reason=f"{package} is not installed")
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                names = runpy.run_path(str(FOLDER / f"{loop}.py"))
            found[loop] = printed.getvalue(), names
        return found[loop]

    return outcome_of


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.filterwarnings("ignore")
def test_the_loop_has_under_30_lines_and_its_loss_falls(loop, after):
    assert sum(bool(line.strip()) for line in (FOLDER / f"{loop}.py").read_text().splitlines()) < 30
    losses = [float(number) for number in re.findall(r"^epoch \d: loss (\S+)$", after(loop)[0], re.MULTILINE)]
    assert len(losses) >= 6 and all(map(math.isfinite, losses))
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.filterwarnings("ignore")
def test_lightning_takes_the_same_steps_as_the_plain_loop(after):
    plain, lightning = ([line for line in after(loop)[0].splitlines() if "loss" in line] for loop in LOOPS[:2])
    assert len(plain) == 8 and lightning == plain


class Normalised(nn.Module):
    """lightly's model with embeddings of length 1."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return F.normalize(self.model(images))


@pytest.mark.parametrize("loop", ["plain_loop", "lightly_loop"])
@pytest.mark.filterwarnings("ignore")
def test_the_loops_gradient_is_that_of_the_courses_own_step(loop, after):
    """After training, with chains that hold views of earlier epochs."""
    names = after(loop)[1]
    encoder = names["encoder"] if loop == "plain_loop" else Normalised(names["model"])
    views, criterion = names["views"], names["criterion"]
    x1, x2, index, view = next(iter(DataLoader(views, batch_size=32, shuffle=True)))
    gradients = []
    for own in (True, False):
        encoder.zero_grad()
        loss, generator = copy.deepcopy(criterion), torch.Generator().manual_seed(5)
        loss.temperature = 0.02  # at which chains stay, so that views are encoded again
        if own:
            loss(encoder(x1), encoder(x2), index, view.T, lambda i, v: encoder(views(i, v)), generator).backward()
        else:
            optimiser = torch.optim.SGD(encoder.parameters(), lr=0.0)
            TrainingStep(encoder, views, loss, optimiser, generator)(index, view.T)
        assert loss.stats.views_encoded > 0
        gradients.append(torch.cat([parameter.grad.flatten().clone() for parameter in encoder.parameters()]))
    one, other = gradients  # the loop encodes two batches of b views and the step one of 2b, which rounds otherwise
    assert (one - other).norm() < 1e-4 * one.norm()


@pytest.mark.parametrize("loss", [NTXentLoss(0.2), DCLLoss(0.2)])
def test_losses_without_state_need_no_index(loss):
    assert torch.equal(loss(*Z), loss(*Z, torch.tensor([5, 3, 9, 0, 1, 2])))


@pytest.mark.parametrize(
    "loss", [SogCLRLoss(9, 0.2), EMC2Loss(9, 0.2, held="dropped"), NegativeCacheLoss(9, 4, 0.2)], ids=type
)
def test_losses_with_state_say_that_they_need_an_index(loss):
    sentence = f"{type(loss).__name__} was called without index, and keeps state for each sample: pass the places"
    with pytest.raises(ValueError, match=sentence):
        loss(*Z)


def test_file_names_become_indices_by_a_dictionary():
    """lightly's loaders give (views, labels, names of files)."""
    data = pytest.importorskip("lightly.data", reason="lightly is not installed")
    items = [(image, 0) for image in DIGITS]
    dataset = data.LightlyDataset.from_torch_dataset(items, index_to_filename=lambda _, index: f"{97 * index % 32}.png")
    places = {name: place for place, name in enumerate(dataset.get_filenames())}
    seen = []
    for images, _, names in DataLoader(dataset, batch_size=8, shuffle=True):
        index = torch.tensor([places[name] for name in names])
        assert torch.equal(DIGITS[index], images)
        seen += index.tolist()
    assert sorted(seen) == list(range(32))


def test_a_pair_gives_the_same_pixels_anywhere_and_no_generator_moves():
    views = SeededViews([to_pil_image(image) for image in DIGITS], chances, seed=3)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    index, view = torch.tensor([4, 4, 9, 4]), torch.tensor([0, 2**61, 0, 0])
    pixels = views(index, view)
    assert random.getstate() == states[0] and np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])
    assert torch.equal(pixels[0], pixels[3])
    assert len(pixels[:3, :3].unique()) == 9  # no number comes twice
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    assert torch.equal(views(index, view), pixels)
    assert not torch.equal(SeededViews(views.images, chances, seed=4)(index, view), pixels)


def test_threads_and_workers_make_the_same_pixels():
    views = SeededViews(DIGITS, chances)
    pairs = [(index, view) for index in range(32) for view in range(8)]
    expected = [views.pixels(*pair) for pair in pairs]
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda pair: views.pixels(*pair), pairs))
    assert all(map(torch.equal, made, expected))
    for _ in range(2):
        names = set()
        for x1, x2, index, view in DataLoader(views, batch_size=8, num_workers=2):
            assert torch.equal(views(index, view[:, 0]), x1) and torch.equal(views(index, view[:, 1]), x2)
            names |= set(view.flatten().tolist())
        assert len(names) == 64  # no two workers name their views alike


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork processes")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_worker_forked_while_a_thread_makes_a_view_does_not_wait_for_it():
    with seeded(1):
        child = os.fork()
        if child == 0:
            signal.alarm(5)  # ends a child that waits
            with seeded(2):
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0


def test_the_transform_keeps_its_law():
    """A uniform number stays uniform over pairs: the mean of 3,000 is within four standard errors of one half."""
    views = SeededViews(DIGITS, chances)
    drawn = views(torch.arange(30).repeat(100), torch.arange(100).repeat_interleave(30))[:, :3]
    assert ((drawn.mean(dim=0) - 0.5).abs() < 4 / math.sqrt(12 * len(drawn))).all()
    assert ((drawn.std(dim=0) - 1 / math.sqrt(12)).abs() < 0.01).all()


def test_generators_go_on_after_a_transform_that_fails():
    state = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), seeded(1, 2):
        torch.rand(3), 1 / 0
    assert torch.equal(torch.get_rng_state(), state)


def test_transforms_that_cannot_name_a_view_are_refused():
    numbers = iter(range(10))
    with pytest.raises(ValueError, match="transform gave other pixels at its second call from the same seed"):
        SeededViews(DIGITS, lambda image: image + next(numbers))
    with pytest.raises(ValueError, match=r"transform returned a list: it must return one view"):
        SeededViews(DIGITS, lambda image: [image, image])
    with pytest.raises(ValueError, match=r"seed is -1"):
        SeededViews(DIGITS, TRANSFORM, seed=-1)


def test_the_views_serve_the_courses_own_loop_and_its_evaluation():
    views = SeededViews(DIGITS, TRANSFORM, plain=lambda image: image)
    history = train(DigitEncoder(), views, EMC2Loss(32, 0.2), steps=6, batch_size=8)
    assert all(stats.loss.isfinite() for stats in history)
    assert torch.equal(views.originals(torch.tensor([3])), DIGITS[3:4])
    assert features_of(DigitEncoder(), views).shape == (32, 128)
    with pytest.raises(ValueError, match="These views have no plain images: make them with plain"):
        SeededViews(DIGITS, TRANSFORM).originals(torch.tensor([3]))


def shared_epoch(rank, size, method):
    """Two batches of a DistributedSampler: the names of the views, and the gradients, as DDP leaves them."""
    torch.manual_seed(0)
    encoder = DigitEncoder(8).double()
    model = DistributedDataParallel(encoder)
    views = SeededViews(DIGITS.double(), TRANSFORM)
    criterion = criterion_of(method, Parallel())
    sampler = DistributedSampler(views, num_replicas=size, rank=rank, shuffle=True, seed=2)
    generator, found = torch.Generator().manual_seed(7), []
    torch.manual_seed(100 + rank)  # the names of views need not be drawn alike
    for x1, x2, index, view in DataLoader(views, batch_size=4, sampler=sampler):
        encoder.zero_grad()
        z1, z2 = model(torch.cat((x1, x2))).chunk(2)
        if method == "NT-Xent":
            criterion(z1, z2).backward()
        else:
            criterion(z1, z2, index, view.T, lambda i, v: encoder(views(i, v)), generator).backward()
        found.append((index, view, gradient(encoder)))
    return found


def criterion_of(method, parallel=None):
    loss = NTXentLoss(0.2, parallel=parallel) if method == "NT-Xent" else EMC2Loss(32, 0.2, parallel=parallel)
    return loss.double()


def gradient(encoder):
    return torch.cat([parameter.grad.flatten() for parameter in encoder.parameters()])


@pytest.mark.parametrize("method", ["NT-Xent", "EMC2"])
def test_a_distributed_sampler_gives_the_gradient_of_one_process(method):
    """NT-Xent without an index, EMC2 with its chains shared between the processes."""
    parts = in_processes(2, shared_epoch, method)
    torch.manual_seed(0)
    encoder, views = DigitEncoder(8).double(), SeededViews(DIGITS.double(), TRANSFORM)
    criterion, generator = criterion_of(method), torch.Generator().manual_seed(7)
    assert len(parts[0]) == 4
    for (one, view, found), (other, more, same) in zip(*parts, strict=True):
        assert not set(one.tolist()) & set(other.tolist())
        index, view = torch.cat((one, other)), torch.cat((view, more)).T
        encoder.zero_grad()
        z1, z2 = (encoder(views(index, number)) for number in view)
        criterion(z1, z2, index, view, lambda i, v: encoder(views(i, v)), generator).backward()
        torch.testing.assert_close(found, gradient(encoder), rtol=0, atol=1e-10)
        assert torch.equal(found, same)


def code_of(page: str) -> str:
    """The blocks of Python in a page, one behind the other."""
    return "\n".join(re.findall(r"```python\n(.*?)```", (FOLDER / page).read_text(), re.DOTALL))


def printed_by(code: str) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {"__name__": "__main__"})
    return printed.getvalue()


def test_the_page_on_fine_tuning_says_what_its_code_gives():
    """Within 0.03: the last digit depends on the processor."""
    page, code = (FOLDER / "fine_tuning.md").read_text(), code_of("fine_tuning.md")
    assert '"lr": 1e-3' in code
    for code_of_page, claim in ((code, r"give\s(\S+) on test"), (code.replace("1e-3", "0.0"), r"epochs give (\S+)\.")):
        accuracy = float(printed_by(code_of_page).removeprefix("accuracy on new digits: "))
        (said,) = re.findall(claim, page)
        assert accuracy == pytest.approx(float(said), abs=0.03)


@pytest.mark.filterwarnings("ignore")
def test_the_pages_code_runs_and_its_links_lead_somewhere():
    pytest.importorskip("lightly", reason="lightly is not installed")
    printed_by(code_of("README.md"))
    for page in ("README.md", "fine_tuning.md"):
        text = (FOLDER / page).read_text()
        links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("https://")]
        assert links and all((FOLDER / link).exists() for link in links)
        for path in re.findall(r"`(tests/\S+\.py)`", text):
            assert (FOLDER.parents[1] / path).exists()
        for name in re.findall(r"`(emc2_lite\.[\w.]+)", text):
            module, _, member = name.rpartition(".")
            assert hasattr(import_module(module), member), name


def test_the_table_of_needs_is_true():
    """SogCLR takes no views; EMC2 without re-encoding takes no `encode`; all others ask for it."""
    index = torch.arange(6)
    assert SogCLRLoss(9, 0.2)(*Z, index).isfinite()
    for loss in (EMC2Loss(9, 0.2, held="dropped"), EMC2Loss(9, 0.2, held="remembered", dim=4, reencode=0.0)):
        for step in range(3):
            loss(*Z, index, torch.tensor([[2 * step] * 6, [2 * step + 1] * 6]))
        assert loss.stats.views_encoded == 0
    for loss in (EMC2Loss(9, 0.2), EMC2Loss(9, 0.2, held="remembered", dim=4), NegativeCacheLoss(9, 4, 0.2)):
        with pytest.raises(ValueError, match=r"was called without encode"):
            loss(*Z, index)
