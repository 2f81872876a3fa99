"""NT-Xent is the cross entropy of the positive among the rows of the batch; DCL leaves the positive out of the sum."""

import math

import pytest
import reference
import torch

from emc2_lite.losses import DCLLoss, NTXentLoss, global_contrastive_loss

both_losses = pytest.mark.parametrize(
    ("loss", "reference_loss"),
    [(NTXentLoss, reference.nt_xent), (DCLLoss, reference.dcl)],
    ids=["NT-Xent", "DCL"],
)


def batch(b, d, seed=0, dtype=torch.float64):
    rows = reference.unit_vectors(2 * b, d, seed=seed, dtype=dtype).requires_grad_()
    return rows, rows[:b], rows[b:], torch.arange(b)


@pytest.mark.parametrize("temperature", [0.07, 0.5, 1.0])
@pytest.mark.parametrize("b", [2, 3, 6])
@both_losses
def test_value_and_gradient_are_those_of_the_formula(loss, reference_loss, b, temperature):
    rows, z1, z2, index = batch(b, 4)
    criterion = loss(temperature)
    value, plain = criterion(z1, z2, index), reference_loss(z1, z2, temperature)
    torch.testing.assert_close(value, plain, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(value, rows), torch.autograd.grad(plain, rows), rtol=1e-11, atol=1e-11
    )
    assert criterion.stats.loss.item() == value.item() and not criterion.stats.loss.requires_grad


def test_pull_is_one_minus_the_share_of_the_positive():
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
@pytest.mark.parametrize(
    ("loss", "include_positive"),
    [(NTXentLoss, True), (DCLLoss, False)],
    ids=["NT-Xent: with the positive in the sum", "DCL: without"],
)
def test_a_batch_of_the_whole_set_gives_the_global_loss(loss, include_positive, temperature):
    table = reference.unit_vectors(30, 2, 6).requires_grad_()
    batch_loss = loss(temperature)(table[:, 0], table[:, 1], torch.arange(30))
    exact = global_contrastive_loss(table, temperature, include_positive=include_positive)
    torch.testing.assert_close(batch_loss, exact, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(batch_loss, table), torch.autograd.grad(exact, table), rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize(("loss", "terms"), [(NTXentLoss, 7), (DCLLoss, 6)], ids=["NT-Xent", "DCL"])
def test_a_score_of_zero_is_still_a_negative(loss, terms):
    """All rows orthogonal: every score is 0, the positive's too. The sum has 2b - 2 terms, NT-Xent's 2b - 1."""
    rows = torch.eye(8, dtype=torch.float64)
    value = loss(0.07)(rows[:4], rows[4:], torch.arange(4))
    assert value.item() == pytest.approx(math.log(terms), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("temperature", [0.01, 0.002])
@both_losses
def test_low_precision_is_right_at_low_temperature(loss, reference_loss, dtype, temperature):
    """Only the embeddings are rounded: the value is that of the rounded ones in float64, to float32's accuracy."""
    _, z1, z2, index = batch(8, 4, dtype=dtype)
    plain = reference_loss(z1.double(), z2.double(), temperature).item()
    assert loss(temperature)(z1, z2, index).item() == pytest.approx(plain, rel=1e-5)


@pytest.mark.parametrize("loss", [NTXentLoss, DCLLoss])
def test_order_of_the_batch_does_not_matter(loss):
    _, z1, z2, index = batch(5, 3)
    shuffled = torch.tensor([3, 0, 4, 1, 2])
    criterion = loss(0.1)
    torch.testing.assert_close(criterion(z1[shuffled], z2[shuffled], index[shuffled]), criterion(z1, z2, index))
    torch.testing.assert_close(criterion(z2, z1, index), criterion(z1, z2, index))


@pytest.mark.parametrize("b", [2, 4, 32])
@pytest.mark.parametrize("temperature", [0.02, 0.07, 0.5])
def test_gradient_and_value_are_right_in_float32_where_positives_are_aligned(temperature, b):
    """1 - q(pos) and the loss are tiny there: a difference of numbers near 1 would lose them.

    Against float64 on the same rounded embeddings: two views of a sample are the same vector, all samples apart.
    """
    rows = torch.nn.functional.normalize(torch.eye(b, 40) + 0.05 * reference.unit_vectors(b, 40).float(), dim=1)
    results = []
    for dtype in (torch.float32, torch.float64):
        z1, z2 = (rows.to(dtype, copy=True).requires_grad_() for _ in range(2))
        value = NTXentLoss(temperature)(z1, z2, torch.arange(b))
        results.append((value.double(), torch.stack(torch.autograd.grad(value, (z1, z2))).double()))
    (value, gradient), (exact_value, exact) = results
    assert abs(value - exact_value) < 1e-5 * exact_value
    assert (gradient - exact).norm() < 1e-5 * exact.norm()
