"""Features of a frozen encoder, and the supervised baseline, on a toy set: a bright column of a noisy image."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from emc2_lite.evaluation import features_of, supervised_accuracy
from emc2_lite.evaluation.intervals import accuracy


class Columns:
    """3 classes of (1, 4, 4) images with a bright column; a view adds noise. It records its calls."""

    def __init__(self, count=60, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.randperm(count, generator=generator) % 3
        self.images = 0.5 * torch.rand(count, 1, 4, 4, generator=generator)
        self.images[torch.arange(count), 0, :, self.labels] += 0.4
        self.asked, self.prefetched, self.looked_at = [], [], []

    def __len__(self):
        return len(self.images)

    def __call__(self, index, view):
        self.asked.append((index.tolist(), view.tolist()))
        noise = torch.sin(1000.0 * index + 100.0 * view)[:, None, None, None]
        return (self.images[index] + 0.05 * noise).clamp(0, 1)

    def originals(self, index):
        self.looked_at.append(index.tolist())
        return self.images[index]

    def prefetch(self, index, view):
        self.prefetched.append((index.tolist(), view.tolist()))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.trunk = nn.Sequential(nn.Flatten(), nn.Linear(16, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU())
            self.projector = nn.Linear(8, 4)

    def features(self, images):
        return self.trunk(images)


SETTINGS = {"epochs": 4, "batch_size": 20, "learning_rate": 0.03}


def run(encoder=None, views=None, test=None, **changes):
    views, test = views or Columns(), test or Columns(90, seed=1)
    return supervised_accuracy(
        encoder or Encoder(), views, changes.pop("labels", views.labels), test, test.labels, **{**SETTINGS, **changes}
    )


@pytest.mark.parametrize("batch_size", [1, 7, 512])
def test_features_are_of_the_images_without_augmentation(batch_size):
    encoder, views = Encoder(), Columns()
    features = features_of(encoder, views, batch_size=batch_size)
    assert features.shape == (60, 8) and features.dtype == torch.float32 and not features.requires_grad
    torch.testing.assert_close(features, encoder.eval().features(views.images).detach())
    assert not views.asked and max(map(len, views.looked_at)) == min(batch_size, 60)


def test_features_of_some_images_come_in_the_order_asked_for():
    encoder, views = Encoder(), Columns()
    some = torch.tensor([5, 3, 50, 3])
    torch.testing.assert_close(features_of(encoder, views, some), features_of(encoder, views)[some])


def test_features_are_in_single_precision_whatever_the_encoder_is():
    assert features_of(Encoder().double(), DoubleColumns()).dtype == torch.float32


class DoubleColumns(Columns):
    def originals(self, index):
        return super().originals(index).double()


@pytest.mark.parametrize("breaks", [False, True])
def test_each_module_is_in_its_former_mode_afterwards(breaks):
    encoder, views = Encoder(), Columns()
    encoder.trunk[2].eval()
    before = {name: module.training for name, module in encoder.named_modules()}
    statistics = encoder.trunk[2].running_mean.clone()
    seen = []
    encoder.trunk.register_forward_hook(lambda *_: seen.append(any(m.training for m in encoder.modules())))
    if breaks:
        images, views.images = views.images, views.images[:30]
        views.__class__ = type("Longer", (Columns,), {"__len__": lambda self: len(images)})
        with pytest.raises(IndexError):
            features_of(encoder, views, torch.tensor([0, 40]), batch_size=1)
    else:
        features_of(encoder, views)
    assert {name: module.training for name, module in encoder.named_modules()} == before
    assert not any(seen) and seen and torch.equal(encoder.trunk[2].running_mean, statistics)


def test_the_supervised_baseline_learns():
    """Null: a guess, right with probability 1/3. Of 90 test images more than 60 right: below 1e-8."""
    interval = run(epochs=30)
    assert interval.value > 2 / 3
    assert interval.low < interval.value < 1 or interval.value == 1


def test_an_image_shows_its_view_of_the_epochs_number_once_an_epoch():
    views, test = Columns(), Columns(90, seed=1)
    run(views=views, test=test, batch_size=25)  # 10 of 60 wait for the next shuffle
    assert [set(view) for _, view in views.asked] == [{epoch} for epoch in range(4) for _ in range(2)]
    epochs = [views.asked[2 * e][0] + views.asked[2 * e + 1][0] for e in range(4)]
    assert all(len(set(index)) == 50 for index in epochs)
    assert len({tuple(index) for index in epochs}) == 4
    assert not views.looked_at and not test.asked


def test_the_next_batch_is_prefetched_when_this_one_has_come():
    views = Columns()
    run(views=views)
    assert views.prefetched == views.asked[1:]
    order = []
    views = Columns()
    views.prefetch = lambda index, view: order.append(("prefetched", *index.tolist()))
    call = Columns.__call__

    class Watched(Columns):
        def __call__(self, index, view):
            order.append(("asked", *index.tolist()))
            return call(self, index, view)

    watched = Watched()
    watched.prefetch = views.prefetch
    run(views=watched)
    assert [kind for kind, *_ in order] == ["asked", *["prefetched", "asked"] * 11]


def test_only_the_labels_of_the_indices_are_used():
    indices = torch.arange(0, 60, 2)
    hidden = Columns().labels.clone()
    hidden[1::2] = -1
    views = Columns()
    assert run(views=views, labels=hidden, indices=indices, batch_size=10) == run(indices=indices, batch_size=10)
    assert {i for index, _ in views.asked for i in index} == set(indices.tolist())


def test_the_seed_decides_and_the_global_random_state_is_left_alone():
    encoders = [Encoder() for _ in range(3)]
    before = torch.get_rng_state()
    results = [run(encoder, seed=seed) for encoder, seed in zip(encoders, (0, 0, 1), strict=True)]
    assert torch.equal(torch.get_rng_state(), before)
    views = [Columns() for _ in range(2)]
    for seed, own in enumerate(views):
        run(views=own, seed=seed)
    assert views[0].asked != views[1].asked
    first, again, other = (encoder.trunk[1].weight for encoder in encoders)
    assert results[0] == results[1] and torch.equal(first, again) and not torch.equal(first, other)


def test_training_is_adam_on_cross_entropy_with_a_cosine_of_the_rate():
    """Written out, on the batches that were asked for; the classifier's first weights are torch's own by the seed."""
    encoder, views, test = Encoder().eval(), Columns(), Columns(90, seed=1)
    projector = encoder.projector.weight.clone()
    interval = run(encoder, views, test, seed=2)
    plain = Encoder()
    torch.manual_seed(2)
    classifier = nn.Linear(8, 3)
    weights = [*plain.trunk.parameters(), *classifier.parameters()]
    first, second = ([torch.zeros_like(p) for p in weights] for _ in range(2))
    for step, (index, view) in enumerate(views.asked):
        rate = 0.03 * (1 + math.cos(math.pi * step / 12)) / 2
        scores = classifier(plain.features(Columns()(torch.tensor(index), torch.tensor(view))))
        gradients = torch.autograd.grad(F.cross_entropy(scores, views.labels[index]), weights)
        with torch.no_grad():
            for p, m, v, g in zip(weights, first, second, gradients, strict=True):
                m.mul_(0.9).add_(0.1 * g)
                v.mul_(0.999).add_(0.001 * g.square())
                p -= rate * (m / (1 - 0.9 ** (step + 1))) / ((v / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
    assert len(views.asked) == 12
    torch.testing.assert_close(encoder.trunk[1].weight, plain.trunk[1].weight, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(encoder.trunk[2].running_mean, plain.trunk[2].running_mean, rtol=1e-3, atol=1e-4)
    assert torch.equal(encoder.projector.weight, projector)
    assert interval == accuracy(classifier(plain.eval().features(test.images)), test.labels)


def test_classes_may_have_any_numbers():
    views, test = Columns(), Columns(90, seed=1)
    expected = run(views=views, test=test)
    names = torch.tensor([4, 5, 700])
    views.labels, test.labels = names[views.labels], names[test.labels]
    assert run(views=views, test=test) == expected
