"""Losses alone, forward and backward, at d = 128, and the exact global loss."""

from itertools import count

import pytest
import torch

from bench.conftest import DEVICE
from emc2_lite.losses import Criterion, NTXentLoss, global_contrastive_loss, make_criterion

TEMPERATURE, SAMPLES, D = 0.07, 2_048, 128
# Losses that encode views again look them up in the table.
TARGETS = {"DCL": None, "SogCLR": None, "EMC2 dropped": 1.5, "EMC2 remembered": None, "EMC2": None}


def clustered(samples):
    """(N, 2, d) embeddings in 14 clusters of somewhat similar samples (cosine 0.6), with more similar views.

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
        if isinstance(criterion, Criterion):
            criterion(z1, z2, batches[n], None, lambda index, view: table[index, view].requires_grad_()).backward()
        else:
            criterion(z1, z2).backward()

    for _ in range(2 * len(batches)):  # every chain has a state, and two visits of mixing
        step()
    return step


@pytest.mark.parametrize("b", [32, 128])
def test_nt_xent(compare, b):
    lightly = pytest.importorskip("lightly.loss", reason="lightly is not installed: it is the reference")
    table = clustered(SAMPLES)
    compare(
        "loss",
        f"b={b}",
        ("NT-Xent", stepper(NTXentLoss(TEMPERATURE), table, b)),
        ("lightly's NTXentLoss", stepper(lightly.NTXentLoss(TEMPERATURE), table, b)),
        rounds=200,
        target=1,
    )


@pytest.mark.parametrize("b", [32, 128])
@pytest.mark.parametrize("name", TARGETS)
def test_loss(compare, name, b):
    table = clustered(SAMPLES)
    criterion = make_criterion(name, num_samples=SAMPLES, dim=D, temperature=TEMPERATURE).to(DEVICE)
    compare(
        "loss",
        f"b={b}",
        (name, stepper(criterion, table, b)),
        ("NT-Xent", stepper(NTXentLoss(TEMPERATURE), table, b)),
        rounds=200,
        target=TARGETS[name],
        note=lambda: f"acceptance {criterion.stats.acceptance_rate:.2f}" if name.startswith("EMC2") else "",
    )


@pytest.mark.parametrize("d", [32, 128])
@pytest.mark.parametrize("rows", [4_000, 10_000])
def test_global_loss(compare, rows, d):
    """The limit is three products: the scores, the scores again, and the weighted sums of embeddings."""
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
