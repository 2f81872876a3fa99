"""NT-Xent is the cross entropy of the positive among the rows of the batch."""

import math

import pytest
import reference
import torch

from emc2_lite.losses import NTXentLoss, global_contrastive_loss


def batch(b, d, seed=0, dtype=torch.float64):
    rows = reference.unit_vectors(2 * b, d, seed=seed, dtype=dtype).requires_grad_()
    return rows, rows[:b], rows[b:], torch.arange(b)


@pytest.mark.parametrize("temperature", [0.07, 0.5, 1.0])
@pytest.mark.parametrize("b", [2, 3, 6])
def test_value_and_gradient_are_those_of_the_formula(b, temperature):
    rows, z1, z2, index = batch(b, 4)
    criterion = NTXentLoss(temperature)
    loss, plain = criterion(z1, z2, index), reference.nt_xent(z1, z2, temperature)
    torch.testing.assert_close(loss, plain, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(loss, rows), torch.autograd.grad(plain, rows), rtol=1e-11, atol=1e-11
    )
    assert criterion.stats.loss.item() == loss.item() and not criterion.stats.loss.requires_grad


def test_pull_is_scaled_by_what_the_positive_does_not_take():
    """Row r pulls its positive with 1 - q_r(pos) and pushes k with q_r(k), q_r the softmax over the other rows."""
    b, temperature = 4, 0.2
    rows, z1, z2, index = batch(b, 3)
    gradient = torch.zeros_like(rows)
    for r in range(2 * b):
        others = [k for k in range(2 * b) if k != r]
        shares = torch.softmax(torch.stack([rows[r] @ rows[k] for k in others]) / temperature, 0)
        for k, share in zip(others, shares.detach(), strict=True):
            force = (share - float(k == (r + b) % (2 * b))) / temperature / (2 * b)
            gradient[r] += force * rows[k].detach()
            gradient[k] += force * rows[r].detach()
    found = torch.autograd.grad(NTXentLoss(temperature)(z1, z2, index), rows)[0]
    torch.testing.assert_close(found, gradient.detach(), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_a_batch_of_the_whole_set_gives_the_global_loss_with_the_positive(temperature):
    table = reference.unit_vectors(30, 2, 6).requires_grad_()
    batch_loss = NTXentLoss(temperature)(table[:, 0], table[:, 1], torch.arange(30))
    exact = global_contrastive_loss(table, temperature, include_positive=True)
    torch.testing.assert_close(batch_loss, exact, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(batch_loss, table), torch.autograd.grad(exact, table), rtol=1e-10, atol=1e-10
    )


def test_a_score_of_zero_is_still_a_negative():
    """All rows orthogonal: every score is 0, the positive's too, and the softmax is uniform over 2b - 1 rows."""
    rows = torch.eye(8, dtype=torch.float64)
    loss = NTXentLoss(0.07)(rows[:4], rows[4:], torch.arange(4))
    assert loss.item() == pytest.approx(math.log(7), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("temperature", [0.01, 0.002])
def test_low_precision_stays_finite_at_low_temperature(dtype, temperature):
    rows, z1, z2, index = batch(8, 4, dtype=dtype)
    loss = NTXentLoss(temperature)(z1, z2, index)
    gradient = torch.autograd.grad(loss, rows)[0]
    plain = reference.nt_xent(z1.double(), z2.double(), temperature).item()
    assert loss.item() == pytest.approx(plain, rel=1e-5)
    assert torch.isfinite(gradient).all() and gradient.abs().max() > 0


def test_autocast_does_not_change_the_loss():
    _, z1, z2, index = batch(8, 4, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = NTXentLoss(0.07)(z1, z2, index)
    assert torch.equal(inside, NTXentLoss(0.07)(z1, z2, index))


def test_order_of_the_batch_does_not_matter():
    _, z1, z2, index = batch(5, 3)
    shuffled = torch.tensor([3, 0, 4, 1, 2])
    criterion = NTXentLoss(0.1)
    torch.testing.assert_close(criterion(z1[shuffled], z2[shuffled], index[shuffled]), criterion(z1, z2, index))
    torch.testing.assert_close(criterion(z2, z1, index), criterion(z1, z2, index))
