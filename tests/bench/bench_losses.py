"""Losses alone, forward and backward, at d = 128, and the exact global loss."""

from itertools import count

import pytest
import torch
from lightly.loss import NTXentLoss as LightlyNTXentLoss

from bench.conftest import DEVICE
from emc2_lite.losses import DCLLoss, EMC2Loss, NTXentLoss, SogCLRLoss, global_contrastive_loss

TEMPERATURE, SAMPLES, D = 0.07, 2_048, 128
CRITERIA = {
    "DCL": (lambda: DCLLoss(TEMPERATURE), None),
    "SogCLR": (lambda: SogCLRLoss(SAMPLES, TEMPERATURE), None),
    "EMC2, stored": (lambda: EMC2Loss(SAMPLES, TEMPERATURE, state="stored"), 1.5),
    "EMC2, encodings looked up": (lambda: EMC2Loss(SAMPLES, TEMPERATURE), None),
}


def clustered(samples):
    """(N, 2, d): 14 clusters of samples that are somewhat alike (cosine 0.6), and views more so.

    At b = 32 chains accept and hold about as often as in a run on digits at this temperature (7 % and a quarter).
    """
    generator = torch.Generator().manual_seed(0)

    def directions(*shape):
        return torch.nn.functional.normalize(torch.randn(*shape, D, generator=generator), dim=-1)

    centre = directions(14)[torch.arange(samples) % 14]
    sample = centre + 0.8 * directions(samples)
    return torch.nn.functional.normalize(sample[:, None] + 0.4 * directions(samples, 2), dim=-1).to(DEVICE)


def stepper(criterion, table, b):
    """Forward and backward of the loss on a new batch each time, with the embeddings as the parameters."""
    order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    batches, turn = order.split(b), count()
    rows = [table[index].requires_grad_() for index in batches]

    def step():
        n = next(turn) % len(batches)
        z1, z2 = rows[n].unbind(1)
        if isinstance(criterion, LightlyNTXentLoss):
            criterion(z1, z2).backward()
        else:
            criterion(z1, z2, batches[n], None, lambda index, view: table[index, view].requires_grad_()).backward()

    for _ in range(2 * len(batches)):  # chains have states, and one visit's worth of mixing
        step()
    return step


@pytest.mark.parametrize("b", [32, 128])
def test_nt_xent(compare, b):
    table = clustered(SAMPLES)
    compare(
        "loss",
        f"b={b}",
        ("NT-Xent", stepper(NTXentLoss(TEMPERATURE), table, b)),
        ("lightly's NTXentLoss", stepper(LightlyNTXentLoss(TEMPERATURE), table, b)),
        rounds=200,
        target=1,
    )


@pytest.mark.parametrize("b", [32, 128])
@pytest.mark.parametrize("name", CRITERIA)
def test_loss(compare, name, b):
    table = clustered(SAMPLES)
    make, target = CRITERIA[name]
    criterion = make().to(DEVICE)
    compare(
        "loss",
        f"b={b}",
        (name, stepper(criterion, table, b)),
        ("NT-Xent", stepper(NTXentLoss(TEMPERATURE), table, b)),
        rounds=200,
        target=target,
        note=lambda: f"acceptance {criterion.stats.acceptance_rate:.2f}" if name.startswith("EMC2") else "",
    )


@pytest.mark.parametrize("d", [32, 128])
@pytest.mark.parametrize("rows", [4_000, 10_000])
def test_global_loss(compare, rows, d):
    """The limit is its three products: the scores, the scores again, and the weighted sums of embeddings."""
    z = torch.nn.functional.normalize(torch.randn(rows // 2, 2, d, device=DEVICE), dim=-1).requires_grad_()
    flat, chunk = z.detach().flatten(0, 1), 1_000
    product, gradient = torch.empty(chunk, rows, device=DEVICE), torch.empty(chunk, d, device=DEVICE)

    def products():
        for part in flat.split(chunk):
            torch.mm(part, flat.T, out=product)
            torch.mm(part, flat.T, out=product)
            torch.mm(product, flat, out=gradient)

    compare(
        "global loss",
        f"{rows} rows, d={d}",
        ("forward and backward", lambda: global_contrastive_loss(z, TEMPERATURE).backward()),
        ("limit: three products", products),
        rounds=8,
        target=2.5,
    )
