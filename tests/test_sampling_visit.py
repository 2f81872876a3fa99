"""The compiled visit counts the steps of the chains' paths, and every order of candidates is equally likely."""

import itertools
import math

import pytest
import torch
from scipy.stats import kstest
from trials import assert_multinomial, without_compiled_code

from emc2_lite.losses import random_proposals
from emc2_lite.sampling import Proposals, metropolis_visit

FLOAT = torch.empty(0)


@pytest.fixture(params=[True, False], ids=["compiled", "by torch"])
def either_way(request, monkeypatch):
    """A test runs with compiled code, and with torch's operations alone."""
    if not request.param:
        without_compiled_code(monkeypatch)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("burn_in", [0, 0.5, 0.9])
@pytest.mark.parametrize("b", [2, 5, 40])
@pytest.mark.parametrize("leave_out_held", [False, True])
def test_compiled_visit_is_that_of_the_paths(b, burn_in, dtype, leave_out_held, monkeypatch):
    generator = torch.Generator().manual_seed(b)
    for scale in (0.1, 3, 30):
        scores = (scale * torch.randn(2 * b, 2 * b, generator=generator)).to(dtype)
        initial = (scale * torch.randn(2 * b, generator=generator)).to(dtype)
        initial[::3] = -math.inf
        initial[1] = 1e6
        order, uniforms = random_proposals(b, scores, generator)
        log_uniforms = uniforms.log()
        dropped = math.floor(burn_in * order.shape[1])
        proposals = Proposals(order, log_uniforms, dropped)
        compiled = metropolis_visit(scores, initial, proposals, leave_out_held=leave_out_held)
        with monkeypatch.context() as patch:
            without_compiled_code(patch)
            by_paths = metropolis_visit(scores, initial, proposals, leave_out_held=leave_out_held)
        for name in ("column", "log_score"):
            assert torch.equal(getattr(compiled, name), getattr(by_paths, name))
        for name in ("weights", "held_weight", "acceptance_rate"):
            torch.testing.assert_close(getattr(compiled, name), getattr(by_paths, name), rtol=1e-6, atol=0)
        assert compiled.held_weight[1] == 1 and compiled.column[1] == -1
        left = compiled.weights.sum(dim=1) + (0 if leave_out_held else compiled.held_weight)
        torch.testing.assert_close(left, torch.ones_like(left).where(compiled.held_weight < 1, 1 - leave_out_held))


def test_a_column_that_is_proposed_twice_is_counted_twice(either_way):
    """Independent proposals repeat columns; with equal scores every proposal is accepted."""
    order = torch.tensor([[0, 1, 0, 1, 0]], dtype=torch.int32)
    proposals = Proposals(order, torch.full((1, 5), -0.9), 1)
    visit = metropolis_visit(torch.zeros(1, 2), torch.zeros(1), proposals)
    assert visit.weights.tolist() == [[0.5, 0.5]] and visit.held_weight.item() == 0 and visit.acceptance_rate == 1


def test_every_order_of_a_row_s_negatives_is_equally_likely(either_way):
    """Null: in 4,000 deals the orders of a row's 4 candidates are multinomial over all 24; false-alarm rate 1e-5 a row.

    So are the pairs of orders of rows 0 and 4, 576 of them: rows are dealt independently.
    """
    generator = torch.Generator().manual_seed(0)
    number = {order: n for n, order in enumerate(itertools.permutations(range(4)))}
    deals = torch.stack([random_proposals(3, FLOAT, generator)[0] for _ in range(4_000)])
    drawn = []
    for row in range(6):
        negatives = [k for k in range(6) if k % 3 != row % 3]
        found = [number[tuple(map(negatives.index, order))] for order in deals[:, row].tolist()]
        drawn.append(torch.tensor(found))
        assert_multinomial(drawn[-1], torch.full((24,), 1 / 24))
    assert_multinomial(24 * drawn[0] + drawn[4], torch.full((576,), 1 / 576))


def test_large_batches_are_dealt_evenly():
    """Null: in the first and in the last place of 300 deals at b = 40, each of a row's 78 columns is equally likely."""
    generator, b = torch.Generator().manual_seed(0), 40
    deals = torch.stack([random_proposals(b, FLOAT, generator)[0] for _ in range(300)])
    own = torch.arange(2 * b)[:, None]
    assert (deals % b != own % b).all()
    assert (deals[0].sort(dim=1).values.diff(dim=1) > 0).all()
    for place in (0, -1):
        column = deals[:, :, place]
        among_negatives = column - (column > own.T % b).long() - (column > own.T % b + b).long()
        assert_multinomial(among_negatives.flatten(), torch.full((2 * b - 2,), 1 / (2 * b - 2)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_uniforms_of_proposals_are_uniform_and_independent_of_their_order(either_way, dtype):
    """Null: 300 x 6,160 numbers are Uniform(0, 1), and uncorrelated with the columns that they belong to.

    Kolmogorov and Smirnov at 1e-5; a correlation of 1.8 million pairs has standard deviation 0.0007, 6 of them: 2e-9.
    """
    generator = torch.Generator().manual_seed(0)
    orders, uniforms = zip(
        *(random_proposals(40, torch.empty(0, dtype=dtype), generator) for _ in range(300)), strict=True
    )
    uniforms, columns = torch.stack(uniforms).double(), torch.stack(orders).double()
    assert uniforms.dtype == torch.float64 and uniforms.min() >= 0 and uniforms.max() < 1
    assert kstest(uniforms.flatten().numpy(), "uniform").pvalue > 1e-5
    correlation = torch.corrcoef(torch.stack((uniforms.flatten(), columns.flatten())))[0, 1]
    assert abs(correlation.item()) < 0.0045
