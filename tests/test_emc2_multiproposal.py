"""EMC2 with many proposals: one view of each sample at a time, none of the state's sample, and no bias."""

import itertools
import math

import pytest
import reference
import torch
from trials import Encoder, assert_mean, assert_multinomial, call, gradient_of, random_visit

from emc2_lite.losses import DCLLoss, EMC2Loss


def many_proposals(num_samples, temperature, **settings):
    return EMC2Loss(num_samples, temperature, kernel="multiproposal", check_encode=False, **settings).double()


def orthogonal_samples(samples):
    """Both views of a sample are one vector, all samples' at right angles: every score is 0 but the positive's."""
    return torch.eye(samples, dtype=torch.float64)[:, None].repeat(1, 2, 1)


def set_chains(criterion, index, view):
    criterion.chain_index.copy_(torch.as_tensor(index))
    criterion.chain_view.copy_(torch.as_tensor(view))


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
    """All scores equal, the state outside the batch: the state and one view of b - 1 samples weigh 1 / b each.

    Averaged with the left-over views, each of a row's 2b - 2 negatives weighs 1 / 2b for every draw: view (j, u)
    meets sample i in 4 of them. With both views in one set it would be 1 / (2b - 1); without the left-over ones 1 / b
    or 0. The diagonal has the pull of the positive, both ways.
    """
    samples = b + 1
    table, criterion = orthogonal_samples(samples), many_proposals(samples, 0.2)
    set_chains(criterion, samples - 1, 0)
    forces = forces_on_batch(criterion, table, torch.arange(b))
    expected = torch.full((b, b), 4 / (2 * b), dtype=torch.float64).fill_diagonal_(-2)
    torch.testing.assert_close(forces, expected[:, None].expand(b, 2, b), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("held_view", [0, 1, 7])
def test_the_sample_of_the_state_is_not_proposed(held_view):
    """4 samples in the batch, all chains at sample 0 but its own, which are at sample 1; all scores equal.

    A row has 3 candidates: its state, and one view of each of the 2 other samples, 1 / 6 for each of the 4 views. With
    probability 1 / 3 it stays, and the state weighs 1, be it in the batch (views 0, 1) or not (view 7).
    """
    table = torch.eye(4, dtype=torch.float64)[:, None].repeat(1, 8, 1)
    for seed in range(20):
        criterion, generator = many_proposals(4, 0.2), torch.Generator().manual_seed(seed)
        set_chains(criterion, [[1, 1], [0, 0], [0, 0], [0, 0]], held_view)
        before = criterion.chain_index.clone(), criterion.chain_view.clone()
        leaf = table.clone().requires_grad_()
        gradient = gradient_of(criterion, leaf, torch.arange(4), None, None, generator)
        stayed = (criterion.chain_index == before[0]) & (criterion.chain_view == before[1])
        assert (stayed == (criterion.chain_index == before[0])).all()
        assert criterion.stats.acceptance_rate.item() == pytest.approx(1 - stayed.double().mean().item())
        # Rows of sample i as anchors push off sample k by weight[i, k] together.
        weight = torch.zeros(4, 4, dtype=torch.float64)
        for i in range(4):
            held = 1 if i == 0 else 0
            for k in range(4):
                if k == held:
                    weight[i, k] = stayed[i].sum()
                elif k != i:
                    weight[i, k] = 2 * 2 / 6
        # A view's gradient: along other samples, what it pushes off and what pushes off it.
        forces = gradient.sum(dim=1) * 0.2 * 8
        off = ~torch.eye(4, dtype=torch.bool)
        torch.testing.assert_close(forces[off], (weight + weight.T)[off], rtol=1e-12, atol=1e-12)


def test_a_chain_never_moves_to_another_view_of_its_state_s_sample():
    """Sample 0 is everyone's hard negative; every batch has both views, and a chain at one never takes the other."""
    table = orthogonal_samples(5)
    table[1:] = torch.nn.functional.normalize(table[1:] + 3 * table[0], dim=-1)
    criterion, generator = many_proposals(5, 0.3), torch.Generator().manual_seed(0)
    set_chains(criterion, [[1, 1], [0, 0], [0, 0], [0, 0], [0, 0]], [[0, 1]])
    moves = 0
    for _ in range(100):
        before = criterion.chain_index.clone(), criterion.chain_view.clone()
        call(criterion, table, torch.tensor([0, 2, 3, 4]), generator=generator)
        same_sample = criterion.chain_index == before[0]
        assert (criterion.chain_view == before[1])[same_sample].all()
        moves += int((~same_sample).sum())
    assert moves > 100


def test_rows_that_stay_encode_their_state_and_no_others_do():
    """60 visits: a call scores each state outside the batch once, and encodes those of staying rows with gradient."""
    samples, views, b = 8, 3, 3
    table = reference.unit_vectors(samples, views, 3).requires_grad_()
    criterion, generator, staying = many_proposals(samples, 0.3), torch.Generator().manual_seed(0), 0
    for _ in range(60):
        index, view = random_visit(samples, views, b, generator)
        in_batch = {(int(index[r]), int(view[slot, r])) for slot in range(2) for r in range(b)}
        chains = {c: (int(criterion.chain_index[c]), int(criterion.chain_view[c])) for c in chains_of(index)}
        encoder = Encoder(table)
        call(criterion, table, index, view, encoder, generator)
        stayed = {c for c in chains if chains[c] == (int(criterion.chain_index[c]), int(criterion.chain_view[c]))}
        scored = sorted({z for z in chains.values() if z[0] >= 0 and z not in in_batch})
        counted = sorted({chains[c] for c in stayed if chains[c] not in in_batch})
        assert encoder.asked == [(pairs, grad) for pairs, grad in ((scored, False), (counted, True)) if pairs]
        stats = criterion.stats
        assert stats.carried_over_share.item() == pytest.approx(len(stayed) / (2 * b))
        assert stats.acceptance_rate.item() == pytest.approx(1 - len(stayed) / (2 * b))
        assert (stats.views_encoded, stats.views_encoded_with_gradient) == (len(scored) + len(counted), len(counted))
        for sample, slot in chains:
            held = table[criterion.chain_index[sample, slot], criterion.chain_view[sample, slot]]
            score = (table[sample, view[slot, (index == sample).nonzero()[0, 0]]] @ held / 0.3).item()
            assert criterion.chain_score[sample, slot].item() == pytest.approx(score, rel=1e-10)
        staying += len(stayed)
    assert staying > 60


def chains_of(index):
    return list(itertools.product(index.tolist(), range(2)))


def test_without_refresh_the_stored_score_decides():
    """A stale score of 1,000 nats holds every chain: no view is scored, and the held one counts and is encoded."""
    table, encoder = orthogonal_samples(4), Encoder(orthogonal_samples(4))
    criterion = many_proposals(4, 0.2, refresh_scores=False)
    set_chains(criterion, 3, 0)
    criterion.chain_score.fill_(1_000)
    call(criterion, table, torch.arange(3), None, encoder)
    assert (criterion.chain_index == 3).all() and (criterion.chain_score == 1_000).all()
    assert encoder.asked == [([(3, 0)], True)] and criterion.stats.acceptance_rate == 0


def test_weights_of_a_row_sum_to_one_in_the_mean():
    """If every pair has the same score, attraction and repulsion cancel in expectation: the loss has mean 0.

    Null: that, over 1,000 visits from chains at random states; 6 standard errors, false-alarm rate below 1e-8. With
    b = 3 a row's weights sum to 2/3, or 1/2 if its state's sample is there, and to 1 more if it stays: a spread of 1.
    """
    table, generator = torch.ones(7, 2, 1, dtype=torch.float64), torch.Generator().manual_seed(0)
    criterion, losses = many_proposals(7, 0.5), []
    for step in range(1_020):
        index, _ = random_visit(7, 2, 3, generator)
        loss = call(criterion, table, index, generator=generator).item()
        if step >= 20:
            losses.append(loss)
    spread = torch.tensor(losses).std().item()
    assert 0.1 < spread < 1 and abs(sum(losses) / len(losses)) < 6 * spread / math.sqrt(len(losses))


@pytest.mark.parametrize(("samples", "b"), [(4, 2), (5, 3)])
def test_from_chains_that_follow_the_softmax_the_mean_gradient_is_the_exact_one(samples, b):
    """After the visit the chains still follow the softmax: p is stationary.

    Null: the exact gradient. 1,200 independent visits, each with all chains drawn from p; every coordinate within
    6 standard errors, false-alarm rate under 1e-7. Together the errors are under 9 % of the gradient. Then the states
    of all rows visited are multinomial with p, chi-square at 1e-6 a row.
    """
    temperature, visits = 0.3, 1_200
    table = reference.unit_vectors(samples, 2, 3, seed=2).requires_grad_()
    exact = table.detach()
    raw = torch.einsum("ivd,jud->ivju", exact, exact).div(temperature).exp()
    raw[torch.arange(samples), :, torch.arange(samples)] = 0
    p = (raw / raw.sum(dim=(2, 3), keepdim=True)).flatten(2)

    generator, criterion = torch.Generator().manual_seed(0), many_proposals(samples, temperature)
    starts = torch.multinomial(p.flatten(0, 1), visits, replacement=True, generator=generator)
    gradients, ends = [], {chain: [] for chain in itertools.product(range(samples), range(2))}
    for visit in range(visits):
        state = starts[:, visit].view(samples, 2)
        set_chains(criterion, state // 2, state % 2)
        index, _ = random_visit(samples, 2, b, generator)
        gradients.append(gradient_of(criterion, table, index, generator=generator))
        for chain in chains_of(index):
            ends[chain].append(int(2 * criterion.chain_index[chain] + criterion.chain_view[chain]))
    assert_mean(torch.stack(gradients), reference.global_gradient(exact, temperature), precision=0.09)
    for (sample, slot), states in ends.items():
        possible = [k for k in range(2 * samples) if k // 2 != sample]
        assert_multinomial(torch.tensor([possible.index(k) for k in states]), p[sample, slot, possible], 1e-6)
