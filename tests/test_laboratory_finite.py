"""view_table and pull_back give what autograd gives through the encoder."""

import pytest
import torch
from torch import nn

from emc2_lite.laboratory import exact_gradient, pull_back, view_table
from emc2_lite.losses import global_contrastive_loss
from emc2_lite.vision import DigitEncoder, DigitViews, load_digits

DIGITS = DigitViews(load_digits("train").images[:20])


def tensor(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("num_views", "chunk_size"), [(2, 512), (2, 7), (2, 1), (5, 7)])
def test_pull_back_equals_autograd_through_the_encoder(num_views, chunk_size):
    torch.manual_seed(0)
    encoder = DigitEncoder(8)
    table = view_table(encoder, DIGITS, num_views, chunk_size=chunk_size)
    index = torch.arange(20)
    z = torch.stack([encoder(DIGITS(index, torch.full_like(index, v))) for v in range(num_views)], dim=1)
    torch.testing.assert_close(table, z.detach())
    assert not table.requires_grad
    grads = torch.autograd.grad(global_contrastive_loss(z, 0.2), list(encoder.parameters()))
    expected = torch.cat([grad.flatten() for grad in grads])
    pulled = pull_back(encoder, DIGITS, exact_gradient(table, 0.2), chunk_size=chunk_size)
    assert pulled.dtype == torch.float64
    assert (pulled - expected).norm() < 1e-5 * expected.norm()


def test_rows_without_gradient_are_not_encoded():
    images, encoder, asked = tensor(6, 2, 64, seed=4), nn.Linear(64, 4, bias=False), []

    def views(index, view):
        asked.extend(zip(index.tolist(), view.tolist(), strict=True))
        return images[index, view]

    gradient = torch.zeros(6, 2, 4)
    assert torch.equal(pull_back(encoder, views, gradient), torch.zeros(4 * 64))
    assert asked == []
    gradient[2, 1, 3], gradient[5, 0, 0] = -1e-30, 1
    pulled = pull_back(encoder, views, gradient).view(4, 64)
    assert asked == [(2, 1), (5, 0)]
    torch.testing.assert_close(pulled[0], images[5, 0])
    torch.testing.assert_close(pulled[3] / -1e-30, images[2, 1])


def test_a_zero_gradient_needs_no_views():
    assert pull_back(DigitEncoder(8), DIGITS, torch.zeros(20, 2, 8)).abs().max() == 0


def test_frozen_weights_are_left_out_and_unused_weights_have_zero_gradient():
    encoder = DigitEncoder(8)
    encoder.trunk[0].requires_grad_(False)
    encoder.unused = nn.Parameter(torch.ones(5))
    trained = [p for p in encoder.parameters() if p.requires_grad]
    pulled = pull_back(encoder, DIGITS, tensor(20, 2, 8, seed=0))
    assert len(pulled) == sum(p.numel() for p in trained)
    parts = dict(zip(map(id, trained), pulled.split([p.numel() for p in trained]), strict=True))
    assert parts[id(encoder.unused)].abs().max() == 0
    assert parts[id(encoder.projector.weight)].abs().max() > 0
