"""Replayed steps, on the CPU: a stand-in for CUDA graphs records the work and repeats it in the same places.

`tests/gpu/gpu_checks.py` makes the same comparisons with real graphs.
"""

import pytest
import torch
from trials import LOSSES

from emc2_lite.losses import make_criterion
from emc2_lite.training import replay
from emc2_lite.training.loop import EpochSampler, TrainingStep, views_of_epoch
from emc2_lite.vision import Augmentation, DigitEncoder, DigitViews, ImageViews, ResNetEncoder, load_digits

VIEWS = DigitViews(load_digits("train").images[:48])


class Kept(torch.autograd.Function):
    """The embeddings in the place where the graph keeps them, which the next replay overwrites."""

    @staticmethod
    def forward(ctx, embeddings, place):
        return place.copy_(embeddings)

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


@pytest.fixture
def recorded(monkeypatch):
    """Stand-ins for torch's graphs; the list has the number of rows of each recorded pass of an encoder."""
    sizes = []

    class Graph:
        def replay(self):
            self.output.copy_(self.function(self.inputs))

    def record(self, inputs):
        graph = Graph()
        graph.function, graph.inputs, graph.output = self.function, inputs, self.function(inputs)
        return replay.Recorded(graph, inputs, graph.output)

    def graphed(module, sample, pool=None):
        sizes.append(len(sample[0]))
        place = torch.empty_like(module(*sample))
        return lambda images: Kept.apply(module(images), place.detach())

    monkeypatch.setattr(replay.Replayed, "_record", record)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", graphed)
    return sizes


def trained(method, views, replayed, steps=24, batch_size=8):
    torch.manual_seed(0)
    encoder = DigitEncoder(8)
    criterion = make_criterion(method, num_samples=len(views), dim=8, temperature=0.001)
    optimiser = torch.optim.SGD(encoder.parameters(), 0.1)
    update = TrainingStep(encoder, views, criterion, optimiser, torch.Generator().manual_seed(0), replay=replayed)
    numbers, batches = [], EpochSampler(len(views), batch_size, torch.Generator().manual_seed(1))
    for _ in range(steps):
        epoch, index = next(batches)
        update(index, views_of_epoch(epoch, index))
        numbers.append(torch.tensor([float(number) for number in criterion.stats]))
    return torch.cat([weight.detach().flatten() for weight in encoder.parameters()]), torch.stack(numbers), update


@pytest.mark.parametrize("method", [*LOSSES, "EMC2 remembered"])
def test_replayed_steps_are_the_launched_ones_bit_for_bit(method, recorded, monkeypatch):
    """But for rows that fill up a power of two, which the next test has."""
    monkeypatch.setattr(replay, "rounded_up", lambda count: count)
    (weights, numbers, _), (others, replayed_numbers, update) = (trained(method, VIEWS, r) for r in (False, True))
    assert torch.equal(others, weights) and torch.equal(replayed_numbers, numbers)
    assert recorded[0] == 16 and 16 in update.replayed_views.recorded


@pytest.mark.parametrize("method", ["EMC2", "EMC2 remembered"])
def test_filled_up_passes_have_no_part_in_the_step(method, recorded):
    (weights, numbers, _), (others, replayed_numbers, _) = (trained(method, VIEWS, r) for r in (False, True))
    torch.testing.assert_close(others, weights, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(replayed_numbers, numbers, rtol=1e-4, atol=1e-5)
    assert all(size & (size - 1) == 0 for size in recorded)


def test_views_that_wait_for_the_host_are_not_recorded(recorded):
    """Images that are six times as long as wide are cut to the longest crop, whose length the host reads."""
    long = torch.zeros(4, 3, 8, 48, dtype=torch.uint8)
    square = ImageViews(long[..., :8], Augmentation(8, blur=0.0))
    assert VIEWS.recordable and square.recordable
    assert not ImageViews(long, Augmentation(8, blur=0.0)).recordable


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return DigitEncoder(4)


def test_a_second_pass_in_a_step_leaves_the_first_ones_place_alone(recorded, encoder):
    replayed, (first, second) = replay.ReplayedEncoder(encoder, None), torch.rand(2, 5, 1, 8, 8)
    for _ in range(2):
        replayed.busy = False
        one, two = replayed.again(first), replayed.again(second)
        torch.testing.assert_close(one, encoder(first))
        torch.testing.assert_close(two, encoder(second))
    assert recorded == [8]  # the second pass was launched
    with torch.no_grad():
        torch.testing.assert_close(replayed.again(second), encoder(second))


def test_with_batch_norm_nothing_is_filled_up_and_recording_leaves_its_statistics(recorded):
    torch.manual_seed(0)
    encoder, images = ResNetEncoder(8, norm="batch", dim=8), torch.rand(6, 3, 16, 16)
    replayed, before = replay.ReplayedEncoder(encoder, None), [b.clone() for b in encoder.buffers()]
    expected = encoder(images)
    moved = [buffer.clone() for buffer in encoder.buffers()]
    for buffer, value in zip(encoder.buffers(), before, strict=True):
        buffer.copy_(value)
    torch.testing.assert_close(replayed.again(images), expected)
    assert recorded == []
    for buffer, value in zip(encoder.buffers(), before, strict=True):
        buffer.copy_(value)
    replayed.batch(images)
    assert recorded == [6]
    for buffer, value in zip(encoder.buffers(), moved, strict=True):
        torch.testing.assert_close(buffer, value)
