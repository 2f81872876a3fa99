"""EMC2 does what the method says, step by step, and its mean gradient tends to the exact one."""

import io
import itertools
import math

import pytest
import reference
import torch

from emc2_lite.laboratory import embedding_table, gradient_bias
from emc2_lite.losses import EMC2Loss, NTXentLoss
from emc2_lite.losses.emc2 import kept_shares
from emc2_lite.sampling import ChainRun, metropolis_hastings, total_variation, transition_matrix

MODES = {
    "reencoded": {"state": "reencoded"},
    "without refresh": {"state": "reencoded", "refresh_scores": False},
    "stored": {"state": "stored"},
}
every_mode = pytest.mark.parametrize("mode", MODES.values(), ids=MODES.keys())


class Encoder:
    """Looks views up in a table, and notes what it was asked for: a list of (pairs, with gradient?), one a call."""

    def __init__(self, table):
        self.table, self.asked = table, []

    def __call__(self, index, view):
        self.asked.append((list(zip(index.tolist(), view.tolist(), strict=True)), torch.is_grad_enabled()))
        return self.table[index, view]


def random_visit(num_samples, num_views, b, generator):
    index = torch.randperm(num_samples, generator=generator)[:b]
    return index, torch.stack([torch.randperm(num_views, generator=generator)[:2] for _ in range(b)], dim=1)


def set_chains(criterion, index, view, score=0.0):
    """Put every chain of both slots at the view (index, view)."""
    criterion.chain_index.fill_(index)
    criterion.chain_view.fill_(view)
    criterion.chain_score.fill_(score)


@pytest.mark.parametrize("burn_in", [0, 0.5, 0.7, 0.9])
@every_mode
def test_every_visit_is_that_of_the_method(mode, burn_in):
    """60 successive visits, replayed by a plain loop from the same random numbers: weights, gradient, state, price."""
    samples, views, b, temperature = 9, 3, 4, 0.2
    table = reference.unit_vectors(samples, views, 3).requires_grad_()
    criterion = EMC2Loss(samples, temperature, burn_in, **mode).double()
    generator, encoder, chains = torch.Generator().manual_seed(0), Encoder(table), {}
    visits_with_a_carried_over_term = 0
    for _ in range(60):
        index, view = random_visit(samples, views, b, generator)
        replay = torch.Generator()
        replay.set_state(generator.get_state())
        loss = criterion(table[index, view[0]], table[index, view[1]], index, view, encoder, generator)

        keys = torch.rand(2 * b, 2 * b, generator=replay, dtype=torch.float64)
        uniforms = torch.rand(2 * b, 2 * b - 2, generator=replay, dtype=torch.float64)
        plain, weights, scored, encoded = reference.emc2(
            chains,
            table[index, view[0]],
            table[index, view[1]],
            index,
            view,
            lambda i, v: table[i, v],
            keys,
            uniforms,
            temperature=temperature,
            burn_in=burn_in,
            state=mode["state"],
            refresh_scores=mode.get("refresh_scores", True),
        )
        torch.testing.assert_close(loss, plain, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(
            torch.autograd.grad(loss, table), torch.autograd.grad(plain, table), rtol=1e-11, atol=1e-12
        )
        for (sample, slot), (held, held_view, score) in chains.items():
            assert criterion.chain_index[sample, slot] == held and criterion.chain_view[sample, slot] == held_view
            assert criterion.chain_score[sample, slot].item() == pytest.approx(score, abs=1e-12)
            assert held != sample
        carried = [weight for _, weight in weights]
        visits_with_a_carried_over_term += any(carried)
        stats = criterion.stats
        assert stats.carried_over_share.item() == pytest.approx(sum(w > 0 for w in carried) / (2 * b))
        assert (stats.views_encoded, stats.views_encoded_with_gradient) == (len(scored) + len(encoded), len(encoded))
        assert [(sorted(pairs), grad) for pairs, grad in encoder.asked] == [
            (sorted(pairs), grad) for pairs, grad in ((scored, False), (encoded, True)) if pairs
        ]
        encoder.asked.clear()
    assert visits_with_a_carried_over_term > 20


@every_mode
def test_weights_of_a_row_sum_to_one(mode):
    """If every pair has the same score, attraction and repulsion cancel, whatever the chains do."""
    table = torch.ones(7, 2, 1)
    for burn_in, b in itertools.product((0, 0.3, 0.5, 0.7, 0.99), (2, 3, 5)):
        criterion = EMC2Loss(7, 0.5, burn_in, **mode)
        generator = torch.Generator().manual_seed(0)
        for _ in range(5):
            index, view = random_visit(7, 2, b, generator)
            loss = criterion(table[index, 0], table[index, 1], index, view, Encoder(table), generator)
            assert loss.item() == pytest.approx(0, abs=1e-6)


def test_exactly_the_steps_after_burn_in_are_counted():
    """m = 4: burn-in 0.5 drops 2 steps, 0.7 as many (the floor of 2.8), 0.9 drops 3; the divisor is what is left."""
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
        weights, held = kept_shares(run, order, burn_in)
        assert held.tolist() == carried
        found = [{k: w for k, w in enumerate(row) if w} for row in weights.tolist()]
        assert found == in_batch


def test_carried_over_term_counts_in_full():
    """A chain that stays where it came from has one repulsion, of weight 1, from the carried-over view, both ways.

    Burn-in subtracted twice would drop it; an index of -1 taken for a column would push the batch's last row instead.
    """
    b, temperature = 3, 0.07
    rows = torch.eye(2 * b + 1, dtype=torch.float64)[: 2 * b].requires_grad_()
    carried = torch.ones(2 * b + 1, dtype=torch.float64).div(math.sqrt(2 * b + 1)).requires_grad_()
    criterion = EMC2Loss(10, temperature, burn_in=0.5).double()
    set_chains(criterion, 9, 5)

    def encode(index, view):
        assert index.tolist() == [9] and view.tolist() == [5]
        return carried[None]

    # In-batch scores are 0, the carried-over one 5.4; uniforms of a half never let a chain go.
    loss = call_with_uniforms(criterion, rows, encode, 0.5)
    assert criterion.stats.acceptance_rate == 0 and criterion.stats.carried_over_share == 1
    assert (criterion.stats.views_encoded, criterion.stats.views_encoded_with_gradient) == (2, 1)
    of_rows, of_carried = torch.autograd.grad(loss, (rows, carried))
    scale = temperature * 2 * b
    torch.testing.assert_close(of_carried, rows.detach().sum(dim=0) / scale, rtol=1e-12, atol=1e-12)
    positives = rows.detach().roll(b, dims=0)
    torch.testing.assert_close(of_rows, (carried.detach() - 2 * positives) / scale, rtol=1e-12, atol=1e-12)
    assert (criterion.chain_index[:b] == 9).all() and (criterion.chain_view[:b] == 5).all()


def call_with_uniforms(criterion, rows, encode, uniform):
    """Call the criterion on samples 0, 1, ..., with all its uniforms equal."""
    b = len(rows) // 2
    with pytest.MonkeyPatch.context() as patch:

        def fixed(log_scores, initial, **_):
            return metropolis_hastings(log_scores, initial, uniforms=torch.full_like(log_scores, uniform))

        patch.setattr("emc2_lite.losses.emc2.metropolis_hastings", fixed)
        return criterion(rows[:b], rows[b:], torch.arange(b), None, encode)


def test_without_encoding_a_captive_row_has_no_repulsion():
    b, temperature = 3, 0.07
    rows = torch.eye(2 * b, dtype=torch.float64).requires_grad_()
    criterion = EMC2Loss(10, temperature, state="stored").double()
    set_chains(criterion, 9, 5, score=5.4)
    gradient = torch.autograd.grad(call_with_uniforms(criterion, rows, None, 0.5), rows)[0]
    positives = rows.detach().roll(b, dims=0)
    torch.testing.assert_close(gradient, -2 * positives / temperature / (2 * b), rtol=1e-12, atol=1e-12)
    assert criterion.stats.views_encoded == 0


def test_refresh_frees_a_chain_from_a_score_of_the_past():
    """A stale score of 1,000 nats holds a chain for ever; under today's weights it is 0 and the chain moves on."""
    rows, encode = torch.eye(6, dtype=torch.float64), lambda i, v: -torch.eye(6, dtype=torch.float64)[:1]
    stale, fresh = EMC2Loss(10, 0.07, refresh_scores=False), EMC2Loss(10, 0.07)
    for criterion in (stale, fresh):
        set_chains(criterion, 9, 5, score=1000)
        call_with_uniforms(criterion, rows, encode, 0.5)
    assert (stale.chain_index == 9).all() and (stale.chain_score == 1000).all()
    assert (fresh.chain_index[:3] < 3).all() and (fresh.chain_score[:3] == 0).all()
    assert fresh.stats.acceptance_rate == 1 and stale.stats.acceptance_rate == 0


def test_stored_score_is_the_fresh_one_of_a_chain_that_stayed():
    rows = torch.eye(6, dtype=torch.float64)
    carried = torch.ones(1, 6, dtype=torch.float64) / math.sqrt(6)
    criterion = EMC2Loss(10, 0.07).double()
    set_chains(criterion, 9, 5, score=-1000)
    call_with_uniforms(criterion, rows, lambda i, v: carried, 0.5)
    assert (criterion.chain_index == 9).all()
    assert criterion.chain_score[:3].flatten().tolist() == pytest.approx([1 / math.sqrt(6) / 0.07] * 6)
    assert (criterion.chain_score[3:] == -1000).all()


def test_each_view_slot_has_a_chain_of_its_own():
    """Slot 0's chains come captive and slot 1's new: after the visit slot 0 is where it was and slot 1 has moved."""
    rows = torch.eye(6)
    criterion = EMC2Loss(10, 0.07, state="stored")
    criterion.chain_index[:, 0], criterion.chain_view[:, 0], criterion.chain_score[:, 0] = 9, 5, 1000
    call_with_uniforms(criterion, rows, None, 0.5)
    assert (criterion.chain_index[:, 0] == 9).all() and (criterion.chain_score[:, 0] == 1000).all()
    assert (criterion.chain_index[:3, 1] >= 0).all() and (criterion.chain_index[:3, 1] < 3).all()
    assert (criterion.chain_index[3:, 1] == -1).all() and torch.isneginf(criterion.chain_score[3:, 1]).all()


@every_mode
def test_a_sample_is_never_its_own_negative(mode):
    """All views of a sample are alike and far from the others, so its own would be the choice of every chain."""
    table = torch.nn.functional.one_hot(torch.arange(6)).double()[:, None].expand(6, 4, 6)
    criterion, generator = EMC2Loss(6, 0.07, 0, **mode), torch.Generator().manual_seed(0)
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
        criterion = EMC2Loss(3, 1.0, state="stored")
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
    criterion = EMC2Loss(10, 0.07).double()
    set_chains(criterion, 9, 5)
    call_with_uniforms(criterion, rows, lambda i, v: weight * carried, 0.5).backward()
    assert weight.grad.item() == pytest.approx(1 / math.sqrt(6) / 0.07)


def test_readable_loss_is_the_in_batch_contrast():
    rows = reference.unit_vectors(8, 5)
    criterion = EMC2Loss(4, 0.2, state="stored")
    criterion(rows[:4], rows[4:], torch.arange(4))
    plain = reference.global_loss(torch.stack((rows[:4], rows[4:]), dim=1), 0.2).item()
    assert criterion.stats.loss.item() == pytest.approx(plain, rel=1e-12)


def test_default_views_are_zero_and_one():
    table, index = reference.unit_vectors(6, 2, 3), torch.tensor([4, 1, 3])
    runs = []
    for view in (None, torch.tensor([[0, 0, 0], [1, 1, 1]])):
        criterion, generator = EMC2Loss(6, 0.2), torch.Generator().manual_seed(0)
        for _ in range(5):
            criterion(table[index, 0], table[index, 1], index, view, Encoder(table), generator)
        runs.append(criterion.state_dict())
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


@every_mode
def test_a_resumed_run_repeats_the_interrupted_one_bit_for_bit(mode):
    table = reference.unit_vectors(12, 3, 4, dtype=torch.float32)

    def visits(criterion, generator, count):
        losses = []
        for _ in range(count):
            index, view = random_visit(12, 3, 3, generator)
            z1, z2 = table[index, view[0]], table[index, view[1]]
            losses.append(criterion(z1, z2, index, view, Encoder(table), generator).item())
        return losses

    criterion, generator = EMC2Loss(12, 0.1, **mode), torch.Generator().manual_seed(0)
    visits(criterion, generator, 30)
    file = io.BytesIO()
    torch.save({"criterion": criterion.state_dict(), "generator": generator.get_state()}, file)
    interrupted = visits(criterion, generator, 30)

    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed, generator = EMC2Loss(12, 0.1, **mode), torch.Generator()
    resumed.load_state_dict(saved["criterion"])
    generator.set_state(saved["generator"])
    assert visits(resumed, generator, 30) == interrupted
    assert all(torch.equal(a, b) for a, b in zip(resumed.buffers(), criterion.buffers(), strict=True))


def test_state_takes_sixteen_bytes_a_chain():
    state = EMC2Loss(1_000, 0.07).state_dict()
    assert sum(tensor.numel() * tensor.element_size() for tensor in state.values()) == 16 * 2 * 1_000


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("temperature", [0.01, 0.002])
@every_mode
def test_low_precision_stays_finite_at_low_temperature(mode, temperature, dtype):
    """Scores reach 100 and 500 nats, whose exp overflows; the state keeps float32 and the gradient its dtype."""
    table = reference.unit_vectors(8, 2, 3, dtype=dtype).requires_grad_()
    criterion, generator = EMC2Loss(8, temperature, **mode), torch.Generator().manual_seed(0)
    for _ in range(10):
        index, _ = random_visit(8, 2, 4, generator)
        loss = criterion(table[index, 0], table[index, 1], index, None, Encoder(table), generator)
        gradient = torch.autograd.grad(loss, table)[0]
        assert torch.isfinite(loss) and torch.isfinite(criterion.stats.loss)
        assert torch.isfinite(gradient).all() and gradient.abs().max() > 0 and gradient.dtype == dtype
    assert criterion.chain_score.dtype == torch.float32


def test_autocast_does_not_change_the_estimate():
    table = reference.unit_vectors(8, 2, 5, dtype=torch.float32)
    losses = []
    for enabled in (False, True):
        criterion, generator = EMC2Loss(8, 0.07), torch.Generator().manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            for _ in range(10):
                index, _ = random_visit(8, 2, 3, generator)
                loss = criterion(table[index, 0], table[index, 1], index, None, Encoder(table), generator)
                losses.append(loss.item())
    assert losses[:10] == losses[10:]


def test_an_encoder_in_half_precision_will_do():
    table = reference.unit_vectors(8, 2, 5, dtype=torch.float32)
    criterion, generator = EMC2Loss(8, 0.07), torch.Generator().manual_seed(0)
    for _ in range(10):
        index, _ = random_visit(8, 2, 3, generator)
        loss = criterion(table[index, 0], table[index, 1], index, None, Encoder(table.bfloat16()), generator)
        assert torch.isfinite(loss) and loss.dtype == torch.float32


# The mean of the estimate.


def exact_visit(table, temperature, b, burn_in):
    """For each row (i, v) with two stored views: its negatives, and the exact law of a chain's visit over them."""
    samples = len(table)
    rows = {}
    for i, v in itertools.product(range(samples), range(2)):
        negatives = [(j, u) for j in range(samples) if j != i for u in range(2)]
        others = itertools.combinations([j for j in range(samples) if j != i], b - 1)
        orders = [
            [negatives.index(pair) for pair in order]
            for batch in others
            for order in itertools.permutations([(j, u) for j in batch for u in range(2)])
        ]
        scores = torch.stack([table[i, v] @ table[k] for k in negatives]) / temperature
        rows[i, v] = negatives, scores, *reference.visit_law(scores, orders, burn_in)
    return rows


@pytest.mark.parametrize(("b", "burn_in"), [(2, 0), (2, 0.5), (3, 0.5), (3, 0.9)])
def test_mean_gradient_is_the_one_that_the_exact_law_of_a_visit_gives(b, burn_in):
    """The law of a visit is known by enumeration of batches and orders, and with it the estimate's exact mean.

    Null: that mean. 4,000 independent visits, each with its chains drawn from their stationary laws; 24 coordinates,
    each within 6 standard errors, false-alarm rate under 1e-7. Together the errors are under 4 % of the gradient.
    """
    samples, temperature, visits = 5, 0.3, 4_000
    table = reference.unit_vectors(samples, 2, 3, seed=2).requires_grad_()
    rows = exact_visit(table.detach(), temperature, b, burn_in)
    expected = torch.zeros_like(table)
    stationary = torch.zeros(samples, 2, 2 * samples - 2, dtype=torch.float64)
    for (i, v), (negatives, _, kernel, kept) in rows.items():
        stationary[i, v] = reference.stationary_law(kernel)
        expected[i, v] -= table[i, 1 - v].detach() / temperature / (2 * samples)
        expected[i, 1 - v] -= table[i, v].detach() / temperature / (2 * samples)
        for k, weight in zip(negatives, stationary[i, v] @ kept, strict=True):
            expected[i, v] += weight * table[k].detach() / temperature / (2 * samples)
            expected[k] += weight * table[i, v].detach() / temperature / (2 * samples)

    generator, criterion = torch.Generator().manual_seed(0), EMC2Loss(samples, temperature, burn_in).double()
    starts = torch.multinomial(stationary.flatten(0, 1), visits, replacement=True, generator=generator)
    gradients = torch.empty(visits, *table.shape, dtype=torch.float64)
    for visit in range(visits):
        position = starts[:, visit].view(samples, 2)
        other = position // 2
        criterion.chain_index.copy_(other + (other >= torch.arange(samples)[:, None]))
        criterion.chain_view.copy_(position % 2)
        index, _ = random_visit(samples, 2, b, generator)
        loss = criterion(table[index, 0], table[index, 1], index, None, lambda i, v: table[i, v], generator)
        gradients[visit] = torch.autograd.grad(loss, table)[0]
    standard_error = gradients.std(dim=0) / math.sqrt(visits)
    assert (standard_error.norm() / expected.norm()) < 0.04
    assert ((gradients.mean(dim=0) - expected).abs() < 6 * standard_error).all()


def stationary_error(scores, orders):
    """Total variation between the law that visits in these orders leave a chain in and the softmax."""
    kernel = reference.visit_law(scores, orders, 0.5)[0]
    return total_variation(reference.stationary_law(kernel), torch.softmax(scores, 0)).item()


def test_candidates_without_replacement_cost_less_the_larger_the_set():
    """Exact, by enumeration. One candidate a visit: no error. Two of distinct samples: it halves as the set doubles."""
    scores = torch.randn(8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kernel = reference.visit_law(scores, [[k] for k in range(8)], 0)[0]
    torch.testing.assert_close(kernel, transition_matrix(scores), rtol=0, atol=1e-14)
    errors = []
    for copies in (1, 2, 4):
        views = range(8 * copies)
        orders = [order for order in itertools.permutations(views, 2) if order[0] // 2 != order[1] // 2]
        errors.append(stationary_error(scores.repeat(copies), orders))
    assert errors[0] > 0.01 and errors[1] < 0.6 * errors[0] and errors[2] < 0.6 * errors[1]


def test_both_views_of_a_sample_in_one_visit_cost_the_same_in_any_set():
    """Exact, by enumeration, b = 2: the two views of a sample come together however many samples there are."""
    scores = torch.randn(8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    errors = []
    for copies in (1, 2, 4, 8):
        orders = [order for j in range(4 * copies) for order in ([2 * j, 2 * j + 1], [2 * j + 1, 2 * j])]
        errors.append(stationary_error(scores.repeat(copies), orders))
    assert errors[0] > 0.05 and errors == pytest.approx([errors[0]] * 4, rel=1e-8)


TEMPERATURE = 0.07


def relative_error(criterion, checkpoints):
    table = embedding_table(64, 2, 8)
    return gradient_bias(criterion, table, batch_size=4, checkpoints=checkpoints).error.tolist()


def test_emc2_gradient_tends_to_the_exact_one():
    """64 samples, batches of 4: 0.17 with this seed, of which about 0.1 is sampling noise; it was 0.33 at 2,000."""
    early, late = relative_error(EMC2Loss(64, TEMPERATURE), (2_000, 20_000))
    assert late < 0.25 and late < early


def test_nt_xent_gradient_does_not():
    assert relative_error(NTXentLoss(TEMPERATURE), (6_000,))[0] > 0.9


def test_emc2_gradient_with_stored_states_does_not():
    assert relative_error(EMC2Loss(64, TEMPERATURE, state="stored"), (10_000,))[0] > 0.8
