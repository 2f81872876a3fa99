"""EMC2 follows the method step by step; test_emc2_mean.py is about its mean."""

import itertools
import math

import pytest
import reference
import torch
from trials import Encoder, assert_visits_are_those_of_the_method, random_visit, without_compiled_code

from emc2_lite.losses import EMC2Loss, random_proposals
from emc2_lite.losses.two_view import two_view_block
from emc2_lite.losses.visits import draw_proposals, start_is_forgotten
from emc2_lite.sampling import ChainRun, metropolis_visit
from emc2_lite.sampling.visit import kept_shares

MODES = {
    "encoded": {"held": "encoded", "check_encode": False},
    "stale": {"held": "stale", "check_encode": False},
    "dropped": {"held": "dropped"},
    "remembered": {"held": "remembered", "reencode": 0.5, "check_encode": False},
    "multiproposal": {"kernel": "multiproposal", "check_encode": False},
}
every_mode = pytest.mark.parametrize("mode", MODES.values(), ids=MODES.keys())
metropolis_modes = pytest.mark.parametrize("mode", list(MODES.values())[:4], ids=list(MODES)[:4])


def set_chains(criterion, index, view, score=0.0):
    """Put every chain of both slots at the view (index, view)."""
    criterion.chain_index.fill_(index)
    criterion.chain_view.fill_(view)
    criterion.chain_score.fill_(score)


@pytest.mark.parametrize(("burn_in", "compiled"), [(0, True), (0.5, True), (0.7, True), (0.9, True), (0.5, False)])
@metropolis_modes
def test_every_visit_is_that_of_the_method(mode, burn_in, compiled, monkeypatch):
    if not compiled:
        without_compiled_code(monkeypatch)
    assert_visits_are_those_of_the_method(EMC2Loss(9, 0.2, burn_in, dim=3, **mode).double())


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_a_chain_that_forgets_its_start_makes_the_same_visit_from_any_state(temperature):
    """From no state, a middle score and the highest: forgetful rows have the same weights, end and score."""
    rows, generator = reference.unit_vectors(16, 4), torch.Generator().manual_seed(0)
    block = two_view_block(rows[:8], rows[8:], torch.arange(8), None, temperature)
    forgotten_rows, rows_that_differ = 0, 0
    for _ in range(50):
        proposals = draw_proposals(block, 0.5, generator)
        forgotten = start_is_forgotten(block, proposals)
        starts = (-math.inf, 0.0, 1 / temperature)
        visits = [metropolis_visit(block.logits, torch.full((16,), s).double(), proposals) for s in starts]
        for visit in visits:
            for name in ("weights", "held_weight", "column", "log_score"):
                assert torch.equal(getattr(visit, name)[forgotten], getattr(visits[0], name)[forgotten])
        assert (visits[-1].held_weight[forgotten] == 0).all() and (visits[-1].column[forgotten] >= 0).all()
        forgotten_rows += forgotten.sum().item()
        rows_that_differ += (visits[0].weights != visits[-1].weights).any(dim=1).sum().item()
    assert forgotten_rows > 50 and rows_that_differ > 50


def test_a_start_that_has_no_effect_is_not_encoded():
    """Uniforms of a half, 0.69 nats: proposals beat the highest possible score if rows are alike, not if orthogonal."""
    for rows, encodings in ((torch.eye(6)[:1].repeat(6, 1), 0), (torch.eye(6), 1)):
        criterion = EMC2Loss(10, 0.07, check_encode=False)
        set_chains(criterion, 9, 5, score=1000)
        call_with_uniforms(criterion, rows, lambda i, v: -torch.eye(6)[5:], 0.5)
        assert criterion.stats.views_encoded == encodings
        assert (criterion.chain_index[:3] < 3).all()


@metropolis_modes
def test_weights_of_a_row_sum_to_one(mode):
    """If every pair has the same score, attraction and repulsion cancel for every path of the chains."""
    table = torch.ones(7, 2, 1)
    for burn_in, b in itertools.product((0, 0.3, 0.5, 0.7, 0.99), (2, 3, 5)):
        criterion = EMC2Loss(7, 0.5, burn_in, dim=1, **mode)
        generator = torch.Generator().manual_seed(0)
        for _ in range(5):
            index, view = random_visit(7, 2, b, generator)
            loss = criterion(table[index, 0], table[index, 1], index, view, Encoder(table), generator)
            assert loss.item() == pytest.approx(0, abs=1e-6)


def test_exactly_the_steps_after_burn_in_are_counted():
    """m = 4: burn-in 0.5 drops 2 steps, 0.7 also 2 (the floor of 2.8), 0.9 drops 3; the others are the divisor."""
    state = torch.tensor([[-1, 1, 1, 3], [0, 0, 0, 0], [-1, -1, -1, -1], [-1, -1, -1, 2], [0, 0, 1, 1], [-1, 0, 1, 2]])
    order = torch.tensor([[5, 4, 2, 1]]).repeat(6, 1)
    run = ChainRun(state, state >= 0, torch.zeros(4, dtype=torch.float64))
    expected = {
        0: (
            [{4: 0.5, 1: 0.25}, {5: 1}, {}, {2: 0.25}, {5: 0.5, 4: 0.5}, {5: 0.25, 4: 0.25, 2: 0.25}],
            [0.25, 0, 1, 0.75, 0, 0.25],
        ),
        0.5: ([{4: 0.5, 1: 0.5}, {5: 1}, {}, {2: 0.5}, {4: 1}, {4: 0.5, 2: 0.5}], [0, 0, 1, 0.5, 0, 0]),
        0.7: ([{4: 0.5, 1: 0.5}, {5: 1}, {}, {2: 0.5}, {4: 1}, {4: 0.5, 2: 0.5}], [0, 0, 1, 0.5, 0, 0]),
        0.9: ([{1: 1}, {5: 1}, {}, {2: 1}, {4: 1}, {2: 1}], [0, 0, 1, 0, 0, 0]),
    }
    for burn_in, (in_batch, carried) in expected.items():
        weights, held = kept_shares(run, order, 6, math.floor(burn_in * 4))
        assert held.tolist() == carried
        found = [{k: w for k, w in enumerate(row) if w} for row in weights.tolist()]
        assert found == in_batch


def test_carried_over_term_counts_in_full():
    """A chain that never moves has one repulsion, of weight 1, from its carried-over view, in both directions.

    Burn-in subtracted twice would drop it; an index of -1 taken for a column would push the batch's last row instead.
    """
    b, temperature = 3, 0.07
    rows = torch.eye(2 * b + 1, dtype=torch.float64)[: 2 * b].requires_grad_()
    carried = torch.ones(2 * b + 1, dtype=torch.float64).div(math.sqrt(2 * b + 1)).requires_grad_()
    criterion = EMC2Loss(10, temperature, burn_in=0.5, check_encode=False).double()
    set_chains(criterion, 9, 5)

    def encode(index, view):
        assert index.tolist() == [9] and view.tolist() == [5]
        return carried[None]

    # In-batch scores are 0, the carried-over one 5.4; uniforms of a half never let a chain go.
    loss = call_with_uniforms(criterion, rows, encode, 0.5)
    assert criterion.stats.acceptance_rate == 0 and criterion.stats.carried_over_share == 1
    assert (criterion.stats.views_encoded, criterion.stats.views_encoded_with_gradient) == (2, 1)
    row_gradient, carried_gradient = torch.autograd.grad(loss, (rows, carried))
    scale = temperature * 2 * b
    torch.testing.assert_close(carried_gradient, rows.detach().sum(dim=0) / scale, rtol=1e-12, atol=1e-12)
    positives = rows.detach().roll(b, dims=0)
    torch.testing.assert_close(row_gradient, (carried.detach() - 2 * positives) / scale, rtol=1e-12, atol=1e-12)
    assert (criterion.chain_index[:b] == 9).all() and (criterion.chain_view[:b] == 5).all()


def call_with_uniforms(criterion, rows, encode, uniform):
    """Call the criterion on samples 0, 1, ..., with all its uniforms equal."""
    b = len(rows) // 2
    with pytest.MonkeyPatch.context() as patch:

        def fixed(*arguments):
            order, uniforms = random_proposals(*arguments)
            return order, torch.full_like(uniforms, uniform)

        patch.setattr("emc2_lite.losses.visits.random_proposals", fixed)
        return criterion(rows[:b], rows[b:], torch.arange(b), None, encode)


def test_without_encoding_a_captive_row_has_no_repulsion():
    b, temperature = 3, 0.07
    rows = torch.eye(2 * b, dtype=torch.float64).requires_grad_()
    criterion = EMC2Loss(10, temperature, held="dropped").double()
    set_chains(criterion, 9, 5, score=5.4)
    gradient = torch.autograd.grad(call_with_uniforms(criterion, rows, None, 0.5), rows)[0]
    positives = rows.detach().roll(b, dims=0)
    torch.testing.assert_close(gradient, -2 * positives / temperature / (2 * b), rtol=1e-12, atol=1e-12)
    assert criterion.stats.views_encoded == 0


def test_refresh_frees_a_chain_from_a_score_of_the_past():
    """A stale score of 1,000 nats holds a chain for ever; today's score is 0 and the chain moves on."""
    rows, encode = torch.eye(6, dtype=torch.float64), lambda i, v: -torch.eye(6, dtype=torch.float64)[:1]
    stale, fresh = EMC2Loss(10, 0.07, held="stale", check_encode=False), EMC2Loss(10, 0.07, check_encode=False)
    for criterion in (stale, fresh):
        set_chains(criterion, 9, 5, score=1000)
        call_with_uniforms(criterion, rows, encode, 0.5)
    assert (stale.chain_index == 9).all() and (stale.chain_score == 1000).all()
    assert (fresh.chain_index[:3] < 3).all() and (fresh.chain_score[:3] == 0).all()
    assert fresh.stats.acceptance_rate == 1 and stale.stats.acceptance_rate == 0


def test_a_chain_that_stayed_stores_its_fresh_score():
    rows = torch.eye(6, dtype=torch.float64)
    carried = torch.ones(1, 6, dtype=torch.float64) / math.sqrt(6)
    criterion = EMC2Loss(10, 0.07, check_encode=False).double()
    set_chains(criterion, 9, 5, score=-1000)
    call_with_uniforms(criterion, rows, lambda i, v: carried, 0.5)
    assert (criterion.chain_index == 9).all()
    assert criterion.chain_score[:3].flatten().tolist() == pytest.approx([1 / math.sqrt(6) / 0.07] * 6)
    assert (criterion.chain_score[3:] == -1000).all()


def test_each_view_slot_has_its_own_chain():
    """Slot 0's chains are captive and slot 1's are new: after the visit only slot 1 has moved."""
    rows = torch.eye(6)
    criterion = EMC2Loss(10, 0.07, held="dropped")
    criterion.chain_index[:, 0], criterion.chain_view[:, 0], criterion.chain_score[:, 0] = 9, 5, 1000
    call_with_uniforms(criterion, rows, None, 0.5)
    assert (criterion.chain_index[:, 0] == 9).all() and (criterion.chain_score[:, 0] == 1000).all()
    assert (criterion.chain_index[:3, 1] >= 0).all() and (criterion.chain_index[:3, 1] < 3).all()
    assert (criterion.chain_index[3:, 1] == -1).all() and torch.isneginf(criterion.chain_score[3:, 1]).all()


@every_mode
def test_a_sample_is_never_its_own_negative(mode):
    """All views of a sample are alike and far from the others, so every chain would choose its own sample."""
    table = torch.nn.functional.one_hot(torch.arange(6)).double()[:, None].expand(6, 4, 6)
    every_step_kept = {} if "kernel" in mode else {"burn_in": 0}
    criterion, generator = EMC2Loss(6, 0.07, dim=6, **mode, **every_step_kept), torch.Generator().manual_seed(0)
    for _ in range(40):
        index, view = random_visit(6, 4, 3, generator)
        criterion(table[index, view[0]], table[index, view[1]], index, view, Encoder(table), generator)
        own = torch.arange(6)[:, None]
        assert (criterion.chain_index != own).all()
        assert (criterion.chain_score[criterion.chain_index >= 0] == 0).all()


def test_candidates_come_in_an_order_drawn_per_row():
    """Null: each of a row's 4 candidates is equally often the first proposal, the one that a new chain moves to.

    2,000 visits with all scores equal, m = 4, only the last kept: the last proposal is the state. Each count has mean
    500 and standard deviation 19.4; a deviation of 120 is 6.2 of them, false-alarm rate under 1e-7 over 24 counts.
    """
    rows, index = torch.ones(6, 1), torch.arange(3)
    counts, generator = torch.zeros(3, 2, 3, 2), torch.Generator().manual_seed(0)
    for _ in range(2_000):
        criterion = EMC2Loss(3, 1.0, held="dropped")
        criterion(rows[:3], rows[3:], index, generator=generator)
        for sample, slot in itertools.product(range(3), range(2)):
            counts[sample, slot, criterion.chain_index[sample, slot], criterion.chain_view[sample, slot]] += 1
    own = torch.eye(3, dtype=torch.bool)[:, None, :, None].expand_as(counts)
    assert (counts[own] == 0).all()
    assert ((counts[~own] - 500).abs() < 120).all()


def test_gradient_flows_to_the_encoder_through_the_carried_over_view():
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    rows = torch.eye(6, dtype=torch.float64)
    carried = torch.ones(1, 6, dtype=torch.float64) / math.sqrt(6)
    criterion = EMC2Loss(10, 0.07, check_encode=False).double()
    set_chains(criterion, 9, 5)
    call_with_uniforms(criterion, rows, lambda i, v: weight * carried, 0.5).backward()
    assert weight.grad.item() == pytest.approx(1 / math.sqrt(6) / 0.07)


def test_readable_loss_is_the_in_batch_contrast():
    rows = reference.unit_vectors(8, 5)
    criterion = EMC2Loss(4, 0.2, held="dropped")
    criterion(rows[:4], rows[4:], torch.arange(4))
    plain = reference.global_loss(torch.stack((rows[:4], rows[4:]), dim=1), 0.2).item()
    assert criterion.stats.loss.item() == pytest.approx(plain, rel=1e-12)
