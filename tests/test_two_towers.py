"""Losses between two encoders: negatives are the other encoder's, held against plain formulas and the exact loss."""

import pytest
import reference
import torch
from torch.nn import functional as F
from trials import without_compiled_code

from emc2_lite.losses import global_contrastive_loss, make_criterion, random_proposals
from emc2_lite.losses.two_view import count_negatives

N, DIM, TEMPERATURE = 12, 5, 0.2


@pytest.fixture
def table():
    return reference.unit_vectors(N, 2, DIM).requires_grad_()


def made(method, **settings):
    how = {"num_samples": N, "dim": DIM, "temperature": TEMPERATURE, "two_towers": True}
    return make_criterion(method, **how, **settings).double()


def scores_of(images, captions):
    return images @ captions.T / TEMPERATURE


def test_the_exact_loss_is_that_of_its_formula_in_value_and_gradient(table):
    def plain(table):
        scores = scores_of(*table.unbind(1))
        own = torch.eye(N, dtype=torch.bool)
        sums = [s.masked_fill(own, -torch.inf).logsumexp(1) - scores.diagonal() for s in (scores, scores.T)]
        return torch.cat(sums).mean()

    expected = torch.autograd.grad(plain(table), table)[0]
    for chunk_size in (None, 6):
        loss = global_contrastive_loss(table, TEMPERATURE, two_towers=True, chunk_size=chunk_size)
        assert loss.item() == pytest.approx(plain(table).item(), abs=1e-12)
        torch.testing.assert_close(torch.autograd.grad(loss, table)[0], expected, rtol=0, atol=1e-12)


def test_at_a_low_temperature_too(table):
    loss = global_contrastive_loss(table, 0.003, two_towers=True)
    scores = table[:, 0] @ table[:, 1].T / 0.003
    own = torch.eye(N, dtype=torch.bool)
    plain = [s.masked_fill(own, -torch.inf).logsumexp(1) - scores.diagonal() for s in (scores, scores.T)]
    assert loss.item() == pytest.approx(torch.cat(plain).mean().item(), abs=1e-9)
    gradients = [torch.autograd.grad(value, table)[0] for value in (loss, torch.cat(plain).mean())]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-9)


def test_nt_xent_is_the_loss_of_clip(table):
    index = torch.tensor([3, 0, 7, 9])
    images, captions = table[index].unbind(1)
    scores, target = scores_of(images, captions), torch.arange(4)
    clip = (F.cross_entropy(scores, target) + F.cross_entropy(scores.T, target)) / 2
    loss = made("NT-Xent")(images, captions, index)
    assert loss.item() == pytest.approx(clip.item(), abs=1e-12)
    gradients = [torch.autograd.grad(value, table, retain_graph=True)[0] for value in (loss, clip)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", ["DCL", "SogCLR"])
def test_a_batch_that_is_the_set_gives_the_exact_gradient(method, table):
    """DCL, and SogCLR on its first visit, divide by the exact sum."""
    loss = made(method)(*table.unbind(1), torch.arange(N))
    exact = global_contrastive_loss(table, TEMPERATURE, two_towers=True)
    gradients = [torch.autograd.grad(value, table)[0] for value in (loss, exact)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)


@pytest.mark.parametrize("compiled", [True, False])
def test_proposals_are_the_other_slots_columns_of_other_samples(compiled, monkeypatch):
    if not compiled:
        without_compiled_code(monkeypatch)
    order, uniforms = random_proposals(5, torch.empty(0), torch.Generator().manual_seed(0), two_towers=True)
    assert order.shape == uniforms.shape == (10, count_negatives(5, True)) == (10, 4)
    for row, columns in enumerate(order.tolist()):
        other = range(5, 10) if row < 5 else range(5)
        assert sorted(columns) == [column for column in other if column % 5 != row % 5]


@pytest.mark.parametrize("method", ["EMC2", "EMC2 remembered", "cache"])
def test_the_mean_gradient_tends_to_the_exact_one(method, table):
    """4,000 visits of batches of 4 at a fixed table: the mean within a tenth of the exact gradient's length, and DCL's
    twice as far at least. Batches draw without replacement, so that chains keep a small bias."""
    settings = {"refresh": 1.0} if method == "cache" else {}
    generator, found = torch.Generator().manual_seed(0), {}
    exact = torch.autograd.grad(global_contrastive_loss(table, TEMPERATURE, two_towers=True), table)[0]
    for name, criterion in ((method, made(method, **settings)), ("DCL", made("DCL"))):
        total = torch.zeros_like(table)
        for visit in range(4_400):
            index = torch.randperm(N, generator=generator)[:4]
            loss = criterion(*table[index].unbind(1), index, encode=lambda i, v: table[i, v], generator=generator)
            if visit >= 400:
                total += torch.autograd.grad(loss, table)[0]
        found[name] = ((total / 4_000 - exact).norm() / exact.norm()).item()
    assert found[method] < 0.1 and found["DCL"] > 2 * found[method], found


def test_many_proposals_are_refused():
    with pytest.raises(ValueError, match='its sets have views of both slots; use "metropolis"'):
        made("EMC2 multiproposal")
