"""gradient_bias and exact_gradient, against estimators whose errors are known."""

import math

import pytest
import torch
from torch import nn

from emc2_lite.laboratory import embedding_table, exact_gradient, gradient_bias
from emc2_lite.losses import EMC2Loss, NTXentLoss, global_contrastive_loss

TABLE = embedding_table(num_samples=6, dim=4)


class GlobalLoss(nn.Module):
    """The exact loss of the batch alone: an estimator without error if the batch is the whole set."""

    temperature = 0.2

    def forward(self, z1, z2, index, view, encode, generator):
        return global_contrastive_loss(torch.stack((z1, z2), dim=1), self.temperature)


class Noisy(GlobalLoss):
    """The exact loss plus a random gradient: no bias, and noise of standard deviation sigma in each coordinate."""

    sigma = 0.01

    def forward(self, z1, z2, index, view, encode, generator):
        z = torch.stack((z1, z2), dim=1)
        noise = self.sigma * torch.randn(z.shape, generator=generator)
        return super().forward(z1, z2, index, view, encode, generator) + (noise * z).sum()


def test_table_has_close_views_of_length_one():
    table = embedding_table(num_samples=500, num_views=3, dim=8, view_noise=0.1)
    assert table.shape == (500, 3, 8)
    torch.testing.assert_close(table.norm(dim=-1), torch.ones(500, 3))
    assert (table[:, 0] * table[:, 1]).sum(-1).mean() > 0.9
    assert (table[:-1, 0] * table[1:, 0]).sum(-1).mean().abs() < 0.1
    assert not torch.equal(table, embedding_table(500, 3, 8, seed=1))


def test_an_exact_estimator_has_no_error_and_no_noise():
    result = gradient_bias(GlobalLoss(), TABLE, batch_size=6, checkpoints=[20, 40])
    assert result.steps.tolist() == [20, 40]
    assert result.error.max() < 1e-5
    assert result.noise.max() < 1e-5


def test_noise_without_bias_has_the_expected_size():
    """Null: no bias. The error of a mean of n steps with 48 independent normal coordinates is chi-distributed around

    sigma sqrt(48 / n) / |exact|, and outside 0.5 to 1.6 times this number with probability below 1e-6.
    """
    result = gradient_bias(Noisy(), TABLE, batch_size=6, checkpoints=[100, 400])
    expected = Noisy.sigma * (48 / result.steps).sqrt() / exact_gradient(TABLE, 0.2).norm()
    for measured in (result.error, result.noise):
        assert ((measured / expected > 0.5) & (measured / expected < 1.6)).all()


def test_exact_gradient_is_the_derivative_of_the_exact_loss():
    table, direction = TABLE.double(), torch.randn(6, 2, 4, generator=torch.Generator().manual_seed(0)).double()
    step = 1e-5
    ahead, behind = (global_contrastive_loss(table + s * step * direction, 0.2) for s in (1, -1))
    slope = (exact_gradient(TABLE, 0.2) * direction).sum()
    assert math.isclose((ahead - behind).item() / (2 * step), slope.item(), rel_tol=1e-7)


@pytest.mark.parametrize("make", [lambda: NTXentLoss(0.2), lambda: EMC2Loss(6, 0.2)], ids=["NT-Xent", "EMC2"])
def test_a_seed_fixes_the_measurement(make):
    first, again, other = (
        gradient_bias(make(), TABLE, batch_size=3, checkpoints=[20], seed=seed).error for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
