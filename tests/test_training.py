"""The training loop, and the measures on what it trained."""

import pytest
import torch
from torch.nn import functional as F

from emc2_lite.evaluation import few_shot_accuracy, nearest_neighbour_accuracy
from emc2_lite.losses import EMC2Loss, NTXentLoss, global_contrastive_loss
from emc2_lite.training import train
from emc2_lite.vision import DigitEncoder, DigitViews, load_digits

DIGITS = load_digits("train")
VIEWS = DigitViews(DIGITS.images[:50])
CRITERIA = {
    "NT-Xent": lambda: NTXentLoss(0.2),
    "EMC2": lambda: EMC2Loss(50, 0.2),
    "EMC2 stored": lambda: EMC2Loss(50, 0.2, state="stored"),
}
every_criterion = pytest.mark.parametrize("make", CRITERIA.values(), ids=CRITERIA)


class Watched(NTXentLoss):
    """Notes the batches that it is given."""

    def __init__(self):
        super().__init__(0.2)
        self.seen = []

    def forward(self, z1, z2, index, view, encode, generator):
        self.seen.append((index, view))
        return super().forward(z1, z2, index, view)


def trained(criterion, *, seed=0, **settings):
    torch.manual_seed(1)
    encoder = DigitEncoder()
    history = train(encoder, VIEWS, criterion, **({"steps": 15, "batch_size": 8, "seed": seed} | settings))
    return encoder, history


def weights(encoder):
    return torch.cat([parameter.flatten() for parameter in encoder.parameters()])


@every_criterion
def test_a_seed_fixes_the_run_to_the_last_bit(make):
    first, _ = trained(make())
    torch.rand(17)  # the global random state has no part in it
    assert torch.equal(weights(first), weights(trained(make())[0]))
    assert not torch.equal(weights(first), weights(trained(make(), seed=1)[0]))


@every_criterion
def test_training_lowers_the_exact_global_loss(make):
    def exact(encoder):
        index = torch.arange(50)
        with torch.no_grad():
            z = torch.stack([encoder(VIEWS(index, torch.full_like(index, v))) for v in (0, 1)], dim=1)
        return global_contrastive_loss(z, 0.2).item()

    before, _ = trained(make(), steps=0)
    after, history = trained(make(), steps=200, fixed_views=True)
    assert len(history) == 200
    assert exact(after) < exact(before) - 0.5


def test_an_epoch_shows_each_sample_at_most_once_and_new_views():
    criterion = Watched()
    trained(criterion, steps=12)  # 6 batches of 8 an epoch, 2 samples wait
    for epoch in (0, 1):
        batches = criterion.seen[6 * epoch : 6 * epoch + 6]
        assert len(torch.cat([index for index, _ in batches]).unique()) == 48
        for _, view in batches:
            assert view.tolist() == [[2 * epoch] * 8, [2 * epoch + 1] * 8]


def test_fixed_views_are_zero_and_one():
    criterion = Watched()
    trained(criterion, steps=12, fixed_views=True)
    assert all(view.tolist() == [[0] * 8, [1] * 8] for _, view in criterion.seen)


def test_the_nearest_neighbour_is_the_one_with_the_largest_cosine():
    generator = torch.Generator().manual_seed(0)
    known, new = (torch.randn(n, 5, generator=generator) for n in (40, 30))
    labels, answers = (torch.randint(3, (n,), generator=generator) for n in (40, 30))
    nearest = (F.normalize(new, dim=1) @ F.normalize(known, dim=1).T).argmax(dim=1)
    expected = (labels[nearest] == answers).double().mean().item()
    assert nearest_neighbour_accuracy(known, labels, new, answers) == pytest.approx(expected)


def test_few_shots_show_each_class_as_often():
    """One-hot features: every draw that has each class classifies all; a class left out would cost its points."""
    labels = torch.arange(30) % 3
    accuracies = few_shot_accuracy(F.one_hot(labels).float(), labels, torch.eye(3), torch.arange(3), shots=2, draws=20)
    assert accuracies.tolist() == [1.0] * 20


def test_few_shot_draws_differ_and_repeat_with_their_seed():
    pixels, labels = DIGITS.images.flatten(1), DIGITS.labels
    runs = [few_shot_accuracy(pixels, labels, pixels[:200], labels[:200], draws=8, seed=s) for s in (0, 0, 1)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])
    assert len(runs[0].unique()) > 1
