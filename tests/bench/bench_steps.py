"""Whole training steps: views, encoder, loss, gradient, Adam."""

from functools import partial
from itertools import count

import pytest
import torch

from bench.bench_losses import clustered
from bench.conftest import DEVICE
from emc2_lite.losses import LOSSES, make_criterion
from emc2_lite.training.loop import TrainingStep, views_of_epoch
from emc2_lite.vision import Augmentation, DigitEncoder, DigitViews, ImageViews, ResNetEncoder, load_digits

B, DIM = 32, 128
CHEAPER = ("EMC2 remembered", "EMC2 dropped")
TARGETS = {"EMC2": 1.45, "EMC2 remembered": 1.25}  # of a step on ResNet-18


class Steps:
    """Training steps of one loss, epoch by epoch over `samples` images; counts the views encoded again."""

    def __init__(self, views, encoder, method, temperature, learning_rate, replay=False):
        torch.manual_seed(0)
        self.samples, encoder = len(views), encoder().to(DEVICE)
        criterion = make_criterion(method, num_samples=self.samples, dim=DIM, temperature=temperature)
        optimiser = torch.optim.Adam(encoder.parameters(), learning_rate)
        generator = torch.Generator(DEVICE).manual_seed(0)
        self.update = TrainingStep(encoder, views, criterion.to(DEVICE), optimiser, generator, replay=replay)
        self.turn, self.again = count(), []

    def __call__(self):
        epoch, batch = divmod(next(self.turn), self.samples // B)
        order = torch.randperm(self.samples, generator=torch.Generator().manual_seed(epoch)).to(DEVICE)
        index = order[batch * B : (batch + 1) * B]
        self.update(index, views_of_epoch(epoch, index))
        stats = self.update.criterion.stats
        if hasattr(stats, "views_encoded"):
            self.again.append((stats.views_encoded, stats.views_encoded_with_gradient))

    def encoder_only(self):
        """The limit: a batch in memory through the encoder, forward and backward, and an update with gradient 0."""
        index = torch.arange(B, device=DEVICE)
        images = self.update.views(index.repeat(2), views_of_epoch(0, index).flatten())
        optimiser, replayed = self.update.optimiser, self.update.replayed

        def step():
            optimiser.zero_grad()
            embeddings = self.update.embed(images, replayed and replayed.batch)
            (0.0 * embeddings.mean()).backward()  # a zero gradient
            optimiser.step()

        return step

    def note(self):
        if not self.again:
            return ""
        every, with_gradient = (sum(kind) / len(self.again) / (2 * B) for kind in zip(*self.again, strict=True))
        return f"encoded again, for each view of the batch: {every:.2f}, {with_gradient:.2f} with gradient"


def digits(method, temperature=0.2):
    views = DigitViews(load_digits("train").images.to(DEVICE))
    return Steps(views, partial(DigitEncoder, DIM), method, temperature, 1e-3)


def trained(steps, count):
    for _ in range(count):
        steps()
    steps.again.clear()
    return steps


@pytest.mark.parametrize("method", [m for m in (*LOSSES, *CHEAPER) if m != "NT-Xent"])
def test_digits_step(compare, method):
    contender, reference = (trained(digits(m), 150) for m in (method, "NT-Xent"))
    compare(
        "digits step",
        f"b={B}",
        (method, contender),
        ("NT-Xent", reference),
        rounds=120,
        target=1.1 if method == "EMC2 dropped" else None,
        note=contender.note,
    )


def test_digits_limit(compare):
    steps = trained(digits("NT-Xent"), 20)
    compare("digits step", f"b={B}", ("NT-Xent", steps), ("limit: encoder alone", steps.encoder_only()), rounds=120)


def photographs(count=512):
    """Smooth random images: colours of a coarse grid, enlarged to 96 x 96."""
    grids = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    images = torch.nn.functional.interpolate(grids, (96, 96), mode="bicubic", align_corners=False).clamp(0, 1)
    return (255 * images).to(torch.uint8).to(DEVICE)


def resnet(method, temperature=0.07, replay=False):
    views = ImageViews(photographs(), Augmentation(96))
    return Steps(views, partial(ResNetEncoder, dim=DIM), method, temperature, 1e-4, replay)


class SpreadOut(TrainingStep):
    """The price of the encoder with embeddings near a table's, which are as spread out as after some training.

    A new encoder puts all images into one place, where every chain forgets its start.
    """

    table = clustered(512)

    def make_views(self, index, view):
        self.named = index, view % 2
        return super().make_views(index, view)

    def embed(self, images, model=None):
        return torch.nn.functional.normalize(0.1 * super().embed(images, model) + self.table[self.named], dim=1)


def resnet_on_its_way(method, replay=False):
    """Steps whose chains have run for four epochs on the table's embeddings."""
    steps = resnet(method, replay=replay)
    steps.update.__class__ = SpreadOut
    table = SpreadOut.table
    for epoch in range(4):
        for index in torch.randperm(len(table), device=DEVICE).split(B):
            z1, z2 = table[index].unbind(1)
            view = views_of_epoch(epoch, index)
            steps.update.criterion(z1, z2, index, view, lambda i, v: table[i, v % 2])
    return trained(steps, 2)


@pytest.mark.parametrize("method", [m for m in (*LOSSES, *CHEAPER) if m != "NT-Xent"])
def test_resnet_step(compare, method):
    contender, reference = resnet_on_its_way(method), resnet_on_its_way("NT-Xent")
    compare(
        "ResNet-18 step, 96 x 96",
        f"b={B}",
        (method, contender),
        ("NT-Xent", reference),
        rounds=5,
        target=TARGETS.get(method),
        note=contender.note,
    )


def test_resnet_limit(compare):
    steps = resnet_on_its_way("NT-Xent")
    limit = ("limit: encoder alone", steps.encoder_only())
    compare("ResNet-18 step, 96 x 96", f"b={B}", ("NT-Xent", steps), limit, rounds=4)


@pytest.mark.skipif(DEVICE.type != "cuda", reason="only a GPU replays")
@pytest.mark.parametrize("method", ["NT-Xent", "EMC2", "EMC2 remembered"])
def test_replayed_resnet_step(compare, method):
    """CUDA graphs in the place of single launches; and what is left above the encoder alone."""
    replayed, launched = resnet_on_its_way(method, replay=True), resnet_on_its_way(method)
    what, size = "ResNet-18 step replayed, 96 x 96", f"b={B}"
    compare(what, size, (method, replayed), ("launched", launched), rounds=40, note=replayed.note)


@pytest.mark.skipif(DEVICE.type != "cuda", reason="only a GPU replays")
def test_replayed_resnet_limit(compare):
    steps = resnet_on_its_way("NT-Xent", replay=True)
    limit = ("limit: encoder alone, replayed", steps.encoder_only())
    compare("ResNet-18 step replayed, 96 x 96", f"b={B}", ("NT-Xent", steps), limit, rounds=40)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.4])
def test_arrangements_of_forward_passes(compare, share):
    """2b views to score, of which a share counts: all without gradient and the share with it, or all with gradient."""
    steps = resnet("NT-Xent")
    index = torch.arange(2 * B, device=DEVICE)
    images = steps.update.views(index, index)
    some = images[: round(share * len(images))]

    def two_passes():
        with torch.no_grad():
            steps.update.embed(images)
        steps.update.embed(some).sum().backward()

    def one_pass():
        steps.update.embed(images)[: len(some)].sum().backward()

    size = f"{share:.0%} count"
    compare("passes of ResNet-18", size, ("without, then some with", two_passes), ("all with", one_pass), rounds=4)


def test_passes_in_half_precision(compare):
    """Encoding without gradient in bfloat16: the saving of a score pass in lower precision on this machine."""
    steps = resnet("NT-Xent")
    index = torch.arange(2 * B, device=DEVICE)
    images = steps.update.views(index, index)

    @torch.no_grad()
    def encode(enabled):
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=enabled):
            steps.update.embed(images)

    half, exact = ("in bfloat16", lambda: encode(True)), ("in float32", lambda: encode(False))
    compare("passes of ResNet-18", f"{2 * B} views", half, exact, rounds=5)
