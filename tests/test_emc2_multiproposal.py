"""EMC2 with many proposals: an exchange with the held view's twins, then a step to one view of each other sample."""

import itertools
from typing import NamedTuple

import pytest
import reference
import torch
from trials import (
    Encoder,
    assert_mean,
    assert_multinomial,
    assert_visits_are_those_of_the_method,
    call,
    gradient_of,
    random_visit,
    without_compiled_code,
)

from emc2_lite.losses import DCLLoss, EMC2Loss, visits
from emc2_lite.losses.two_view import two_view_block


def many_proposals(num_samples, temperature, **settings):
    return EMC2Loss(num_samples, temperature, kernel="multiproposal", check_encode=False, **settings).double()


def orthogonal_samples(samples):
    """Both views of a sample are one vector, all samples' at right angles: every score is 0 but the positive's."""
    return torch.eye(samples, dtype=torch.float64)[:, None].repeat(1, 2, 1)


def set_chains(criterion, index, view):
    criterion.chain_index.copy_(torch.as_tensor(index))
    criterion.chain_view.copy_(torch.as_tensor(view))


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("held", ["encoded", "stale"])
def test_every_visit_is_that_of_the_method(held, compiled, monkeypatch):
    if not compiled:
        without_compiled_code(monkeypatch)
    assert_visits_are_those_of_the_method(many_proposals(9, 0.2, held=held))


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_a_first_visit_has_the_gradient_of_dcl(temperature):
    table, index = reference.unit_vectors(6, 2, 3).requires_grad_(), torch.tensor([4, 0, 3])
    criterion = many_proposals(6, temperature)
    found = gradient_of(criterion, table, index, generator=torch.Generator().manual_seed(0))
    expected = gradient_of(DCLLoss(temperature), table, index)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    stats = criterion.stats
    assert stats.acceptance_rate == 1 and stats.carried_over_share == 0 and stats.views_encoded == 0
    assert ((criterion.chain_index[index] >= 0) & (criterion.chain_index[index] != index[:, None])).all()


def forces_on_batch(criterion, table, index):
    """The coefficient of sample i in the gradient of view (j, u), in units of the weights: (b, 2, b)."""
    table = table.clone().requires_grad_()
    gradient = gradient_of(criterion, table, index, generator=torch.Generator().manual_seed(0))
    return gradient[index][..., index] * criterion.temperature * 2 * len(index)


@pytest.mark.parametrize("b", [2, 3, 4, 5])
def test_a_set_has_one_view_of_each_sample_of_the_batch(b):
    """All scores equal, the state outside the batch: it moves to one view of b - 1 samples, with 1 / (b - 1) each.

    Averaged with the left-over views, each of a row's 2b - 2 negatives weighs 1 / (2b - 2) for every draw: view (j, u)
    meets sample i in 4 of them. Without the left-over views it would be 1 / (b - 1) or 0. The diagonal has the pull of
    the positive, both ways.
    """
    samples = b + 1
    table, criterion = orthogonal_samples(samples), many_proposals(samples, 0.2)
    set_chains(criterion, samples - 1, 0)
    forces = forces_on_batch(criterion, table, torch.arange(b))
    expected = torch.full((b, b), 4 / (2 * b - 2), dtype=torch.float64).fill_diagonal_(-2)
    torch.testing.assert_close(forces, expected[:, None].expand(b, 2, b), rtol=1e-12, atol=1e-12)
    assert criterion.stats.acceptance_rate == 1 and criterion.stats.views_encoded_with_gradient == 0


@pytest.mark.parametrize("held_view", [0, 1, 7])
def test_the_sample_of_the_state_is_not_in_the_urn(held_view):
    """4 samples in the batch, all chains at sample 0 but its own, which are at sample 1; all scores equal.

    A row's urn holds one view of each of the 2 other samples, and the chain leaves for one of them, be its view in the
    batch (views 0, 1) or not (view 7): each of the 4 views weighs 1 / 4, and those of the state's sample 0.
    """
    table = torch.eye(4, dtype=torch.float64)[:, None].repeat(1, 8, 1)
    criterion = many_proposals(4, 0.2)
    set_chains(criterion, [[1, 1], [0, 0], [0, 0], [0, 0]], held_view)
    before = criterion.chain_index.clone()
    forces = forces_on_batch(criterion, table, torch.arange(4)).sum(dim=1)
    assert criterion.stats.acceptance_rate == 1 and criterion.stats.views_encoded_with_gradient == 0
    assert (criterion.chain_index != before).all()
    weight = torch.ones(4, 4, dtype=torch.float64)  # two rows, two views, 1 / 4
    weight[torch.arange(4), before[:, 0].long()] = 0
    expected = (weight + weight.T).fill_diagonal_(-4)
    torch.testing.assert_close(forces, expected, rtol=1e-12, atol=1e-12)


def test_a_twin_takes_the_state_s_place_as_its_softmax_weight_says():
    """N = b = 2, the held view in the batch with its twin: no urn, and the exchange alone moves the chain.

    Null: the next states of 2,000 visits are drawn from the softmax over the two views; chi-square at 1e-5 a chain.
    """
    table, generator = reference.unit_vectors(2, 2, 3), torch.Generator().manual_seed(0)
    criterion, ends = many_proposals(2, 0.5), []
    set_chains(criterion, [[1, 1], [0, 0]], 0)
    for _ in range(2_000):
        criterion.chain_view.zero_()
        call(criterion, table, torch.arange(2), generator=generator)
        ends.append(criterion.chain_view.clone())
        assert (criterion.chain_index == torch.tensor([[1, 1], [0, 0]])).all()
    for sample, slot in itertools.product(range(2), range(2)):
        law = torch.softmax(table[1 - sample] @ table[sample, slot] / 0.5, 0)
        assert_multinomial(torch.stack(ends)[:, sample, slot], law)


def test_an_exchanged_view_counts_in_the_place_of_the_held_one():
    """The held view is opposite to the row, its two twins in the batch are not: the chain moves to one, and stays."""
    table = torch.eye(2, dtype=torch.float64)[:, None].repeat(1, 3, 1)
    table[:, 2] = -table[:, 0].flip(0)
    criterion = many_proposals(2, 0.02)
    set_chains(criterion, [[1, 1], [0, 0]], 2)
    forces = forces_on_batch(criterion, table, torch.arange(2))
    assert (criterion.chain_view < 2).all() and criterion.stats.acceptance_rate == 1
    assert criterion.stats.carried_over_share == 0 and criterion.stats.views_encoded_with_gradient == 0
    expected = torch.tensor([[-4.0, 4], [4, -4]]).double()  # two rows of weight 1 on either side
    torch.testing.assert_close(forces[:, :2].sum(dim=1), expected, rtol=1e-12, atol=1e-12)


def test_stale_scores_decide_where_they_are_kept():
    """A score of 1,000 nats holds every chain: no view is scored, and the held one counts and is encoded."""
    table, encoder = orthogonal_samples(4), Encoder(orthogonal_samples(4))
    criterion = many_proposals(4, 0.2, held="stale")
    set_chains(criterion, 3, 0)
    criterion.chain_score.fill_(1_000)
    call(criterion, table, torch.arange(3), None, encoder)
    assert (criterion.chain_index == 3).all() and (criterion.chain_score == 1_000).all()
    assert encoder.asked == [([(3, 0)], True)] and criterion.stats.acceptance_rate == 0


def test_weights_of_a_row_sum_to_one():
    """If every pair has the same score, and nothing is carried over, attraction and repulsion cancel in every call."""
    table, generator = torch.ones(5, 2, 1, dtype=torch.float64), torch.Generator().manual_seed(0)
    criterion = many_proposals(5, 0.5)
    for _ in range(20):
        index, _ = random_visit(5, 2, 3, generator)
        assert call(criterion, table, index, generator=generator).item() == pytest.approx(0, abs=1e-12)
        assert criterion.stats.carried_over_share == 0


# The two steps exactly, by enumeration over batches and halves, of the chain of row 0: sample 0's first view.


class Enumeration(NamedTuple):
    """Transition matrices over the views of samples 1, 2, ...: state V (j - 1) + u is view u of sample j."""

    p: torch.Tensor
    exchange: torch.Tensor
    urn: torch.Tensor
    both: torch.Tensor


def enumerated(table, temperature, b):
    samples, views, _ = table.shape
    states = list(itertools.product(range(1, samples), range(views)))
    scores = torch.stack([table[0, 0] @ table[z] for z in states]) / temperature
    place, together, half = torch.full((2 * b,), -1), [], None

    def forced(scores_together, uniforms):
        together[:] = [scores_together[0]]
        return place

    def law(block, held, column):
        """The law of the next state where the exchange ends at `place`."""
        sample, start = (torch.full((2 * b,), value) for value in (held[0], 0.0))
        start = start.double().fill_(scores[states.index(held)].item())
        rows = visits.Held(sample, sample, start, torch.full((2 * b,), column))
        visit = visits.many_proposals(block, rows, start, None)
        law = torch.zeros(len(states), dtype=torch.float64)
        law[states.index(held)] += visit.held_weight[0]
        for k, weight in enumerate(visit.weights[0].tolist()):
            if weight:
                law[states.index((int(block.index[k]), int(block.view[k])))] += weight
        return law

    kernels = [torch.zeros(len(states), len(states), dtype=torch.float64) for _ in range(3)]
    batches = [
        ([0, *others], [(0, 1), *pairs])
        for others in itertools.combinations(range(1, samples), b - 1)
        for pairs in itertools.product(itertools.combinations(range(views), 2), repeat=b - 1)
    ]
    halves = list(itertools.product((0.25, 0.75), repeat=b - 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(visits, "heat_bath", forced)
        patch.setattr(
            visits, "random_uniforms", lambda shape, *_: half if shape[1] == b else torch.full(shape, 0.5).double()
        )
        for (index, pairs), numbers in itertools.product(batches, halves):
            index, view = torch.tensor(index), torch.tensor(pairs).T
            half = torch.tensor([0.5, *numbers]).double().expand(2 * b, b)
            block = two_view_block(*(table[index, v] for v in view), index, view, temperature)
            names = list(zip(block.index.tolist(), block.view.tolist(), strict=True))
            for row, held in enumerate(states):
                column = names.index(held) if held in names else -1
                place[0] = column
                stayed = law(block, held, column)
                exchange = torch.softmax(together[0], 0)
                kernels[1][row] += stayed
                for end, probability in enumerate(exchange.tolist(), start=-1):
                    if probability:
                        place[0] = end
                        kernels[0][row, states.index(held if end < 0 else names[end])] += probability
                        kernels[2][row] += probability * (stayed if end == column else law(block, held, column))
    return Enumeration(torch.softmax(scores, 0), *(kernel / len(batches) / len(halves) for kernel in kernels))


@pytest.mark.parametrize(("samples", "views", "b"), [(4, 2, 2), (4, 2, 3), (5, 2, 3), (4, 2, 4), (3, 3, 2), (4, 3, 3)])
def test_each_step_is_reversible_and_both_keep_p(samples, views, b):
    """A batch brings two random views of each of its samples; the third view is out of reach until then."""
    steps = enumerated(reference.unit_vectors(samples, views, 3), 0.3, b)
    for kernel in (steps.exchange, steps.urn):
        flow = steps.p[:, None] * kernel
        torch.testing.assert_close(flow, flow.T, rtol=0, atol=1e-14)
    for kernel in steps[1:]:
        torch.testing.assert_close(kernel.sum(dim=1), torch.ones_like(steps.p), rtol=0, atol=1e-14)
        torch.testing.assert_close(steps.p @ kernel, steps.p, rtol=0, atol=1e-14)
        assert (kernel - kernel.diagonal().diag()).max() > 0.05


def test_no_corner_is_hard_to_leave():
    """5 samples, and one of them has nearly all the mass on its two views: the exchange leads from one to the other.

    The ancestor, a heat bath over one view of each sample without the state's, can reach the twin by detours only.
    """
    table = reference.unit_vectors(5, 2, 3)
    table[1] = torch.nn.functional.normalize(table[0, 0] + 0.1 * table[1], dim=-1)
    steps = enumerated(table, 0.05, 4)
    assert steps.p[:2].sum() > 0.99 and steps.p[:2].min() > 0.1
    gap = 1 - torch.linalg.eigvals(steps.both).abs().sort().values[-2].item()
    ancestor = reference.multiproposal_law(steps.p.log(), reference.one_view_a_sample(4, 4), reference.heat_bath)
    assert gap > 0.1 and 1 - reference.second_eigenvalue(ancestor, steps.p) < 0.01


@pytest.mark.parametrize(("samples", "b"), [(4, 2), (5, 3)])
def test_from_chains_that_follow_the_softmax_the_mean_gradient_is_the_exact_one(samples, b):
    """After the visit the chains still follow the softmax: p is stationary.

    Null: the exact gradient. 1,200 independent visits, each with all chains drawn from p; every coordinate within
    6 standard errors, false-alarm rate under 1e-7. Together the errors are under 9 % of the gradient. Then the states
    of all rows visited are multinomial with p, chi-square at 1e-6 a row.
    """
    temperature, count = 0.3, 1_200
    table = reference.unit_vectors(samples, 2, 3, seed=2).requires_grad_()
    exact = table.detach()
    raw = torch.einsum("ivd,jud->ivju", exact, exact).div(temperature).exp()
    raw[torch.arange(samples), :, torch.arange(samples)] = 0
    p = (raw / raw.sum(dim=(2, 3), keepdim=True)).flatten(2)

    generator, criterion = torch.Generator().manual_seed(0), many_proposals(samples, temperature)
    starts = torch.multinomial(p.flatten(0, 1), count, replacement=True, generator=generator)
    gradients, ends = [], {chain: [] for chain in itertools.product(range(samples), range(2))}
    for visit in range(count):
        state = starts[:, visit].view(samples, 2)
        set_chains(criterion, state // 2, state % 2)
        index, _ = random_visit(samples, 2, b, generator)
        gradients.append(gradient_of(criterion, table, index, generator=generator))
        for chain in itertools.product(index.tolist(), range(2)):
            ends[chain].append(int(2 * criterion.chain_index[chain] + criterion.chain_view[chain]))
    assert_mean(torch.stack(gradients), reference.global_gradient(exact, temperature), precision=0.09)
    for (sample, slot), states in ends.items():
        possible = [k for k in range(2 * samples) if k // 2 != sample]
        assert_multinomial(torch.tensor([possible.index(k) for k in states]), p[sample, slot, possible], 1e-6)
