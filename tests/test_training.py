"""The training loop."""

from itertools import islice

import pytest
import torch
from runs import weights

from emc2_lite.losses import EMC2Loss, NTXentLoss, global_contrastive_loss
from emc2_lite.training import TrainingStep, train, views_of_epoch
from emc2_lite.training.loop import training_steps
from emc2_lite.vision import DigitEncoder, DigitViews, load_digits

DIGITS = load_digits("train")
VIEWS = DigitViews(DIGITS.images[:50])
CRITERIA = {
    "NT-Xent": lambda: NTXentLoss(0.2),
    "EMC2": lambda: EMC2Loss(50, 0.2),
    "EMC2 dropped": lambda: EMC2Loss(50, 0.2, held="dropped"),
}
every_criterion = pytest.mark.parametrize("make", CRITERIA.values(), ids=CRITERIA)


class Watched(NTXentLoss):
    """Notes its batches."""

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


@every_criterion
def test_a_seed_fixes_the_run_to_the_last_bit(make):
    first, _ = trained(make())
    torch.rand(17)  # torch's global generator has no influence
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


@every_criterion
def test_steps_taken_one_by_one_are_those_of_train(make):
    """No step is taken before it is asked for, and the callback gets its number."""
    encoder, history = trained(make(), steps=6, learning_rate=1e-2)
    torch.manual_seed(1)
    other, numbers = DigitEncoder(), []
    start = weights(other)
    steps = training_steps(
        other, VIEWS, make(), torch.optim.Adam(other.parameters(), 1e-2), batch_size=8, on_gradient=numbers.append
    )
    assert torch.equal(weights(other), start) and numbers == []
    assert [stats.loss.item() for stats in islice(steps, 6)] == [stats.loss.item() for stats in history]
    assert torch.equal(weights(other), weights(encoder)) and numbers == list(range(6))


@pytest.mark.parametrize("batch_size", [1, 51])
def test_a_batch_size_that_the_images_do_not_allow_is_refused_before_the_first_step(batch_size):
    encoder = DigitEncoder()
    with pytest.raises(ValueError, match=f"batch_size is {batch_size}: it must be from 2 to the number of images, 50"):
        training_steps(encoder, VIEWS, NTXentLoss(0.2), torch.optim.Adam(encoder.parameters()), batch_size=batch_size)


def test_an_epoch_shows_each_sample_at_most_once_in_new_views():
    criterion = Watched()
    trained(criterion, steps=12)  # an epoch has 6 batches of 8; 2 samples wait for the next
    for epoch in (0, 1):
        batches = criterion.seen[6 * epoch : 6 * epoch + 6]
        assert len(torch.cat([index for index, _ in batches]).unique()) == 48
        for _, view in batches:
            assert view.tolist() == [[2 * epoch] * 8, [2 * epoch + 1] * 8]


def test_the_criterion_gets_the_numbers_of_its_views():
    encoder = DigitEncoder()

    def criterion(z1, z2, index, view, encode, generator):
        for z, number in ((z1, view[0]), (z2, view[1])):
            torch.testing.assert_close(z, encoder(VIEWS(index, number)))
            torch.testing.assert_close(z, encode(index, number))
        return (z1 * z2).sum()

    criterion.stats = None
    assert len(train(encoder, VIEWS, criterion, steps=8, batch_size=10)) == 8


def test_fixed_views_are_zero_and_one():
    criterion = Watched()
    trained(criterion, steps=12, fixed_views=True)
    assert all(view.tolist() == [[0] * 8, [1] * 8] for _, view in criterion.seen)


def test_a_profiler_sees_the_phases_of_a_step():
    """The second step's chains hold views outside the batch, which are encoded within the loss."""
    torch.manual_seed(1)
    encoder = DigitEncoder()
    optimiser = torch.optim.Adam(encoder.parameters())
    update = TrainingStep(encoder, VIEWS, EMC2Loss(50, 0.002), optimiser, torch.Generator().manual_seed(0), clip=1.0)
    for index in torch.arange(40).split(8):
        update(index, views_of_epoch(0, index))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        update(torch.arange(8), views_of_epoch(1, torch.arange(8)))
    marks = [e for e in profile.events() if e.name in ("views", "encoder", "loss", "backward", "optimiser")]
    (loss,) = (mark for mark in marks if mark.name == "loss")
    again = [mark.name for mark in marks if mark.cpu_parent is loss]
    assert again and again == ["views", "encoder"] * (len(again) // 2)
    outside = [mark.name for mark in marks if mark.cpu_parent is None]
    assert outside == ["views", "encoder", "loss", "optimiser", "backward", "optimiser", "optimiser"]
