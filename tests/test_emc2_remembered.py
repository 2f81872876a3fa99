"""EMC2 with remembered embeddings: what is remembered is a control variate, and changes no mean."""

import math

import pytest
import reference
import torch
from trials import Encoder, assert_visits_are_those_of_the_method, call, draws, gradient_of, random_visit

from emc2_lite.losses import EMC2Loss

every_kernel = pytest.mark.parametrize("kernel", ["metropolis", "multiproposal"])
every_share = pytest.mark.parametrize("reencode", [0.25, 0.5, 1])


def emc2(samples, temperature, dim, kernel="metropolis", held="remembered", **settings):
    return EMC2Loss(samples, temperature, held=held, kernel=kernel, dim=dim, check_encode=False, **settings).double()


def set_chains(criterion, index, view, embedding=None):
    """Put every chain of both slots at the view (index, view), and let it remember this embedding."""
    criterion.chain_index.fill_(index)
    criterion.chain_view.fill_(view)
    if embedding is not None:
        criterion.chain_embedding.copy_(embedding)


@pytest.mark.parametrize("reencode", [0, 0.3, 1])
@every_kernel
def test_every_visit_is_that_of_the_method(kernel, reencode):
    """The table moves between visits, so the memory is really stale."""
    assert_visits_are_those_of_the_method(emc2(9, 0.2, 3, kernel, reencode=reencode))


# The mean over the coins, exactly.


def plain(criterion, table, visit, generator):
    """The plain loop's gradient with c(r) = w(r, 0), from the criterion's chains, and the carried-over weights."""
    numbers = criterion.chain_index, criterion.chain_view, criterion.chain_score, criterion.chain_embedding
    chains = {}
    for chain in (criterion.chain_index >= 0).nonzero().tolist():
        index, view, score, embedding = (buffer[tuple(chain)].clone() for buffer in numbers)
        chains[tuple(chain)] = reference.Chain((int(index), int(view)), score.item(), embedding)
    how = {"held": criterion.held, "kernel": criterion.kernel}
    *numbers, _ = draws(len(visit[0]), generator.clone_state(), **how)
    loss, weights, *_ = reference.emc2(
        chains, table, *visit, (*numbers, None), temperature=criterion.temperature, reencode=criterion.reencode, **how
    )
    return torch.autograd.grad(loss, table)[0], [carried for _, carried in weights]


def mean_over_coins(criterion, table, visit, weights, generator):
    """The mean of a call's gradient: linear in the rows' independent c(r), so each row's coin is set alone."""
    criterion.eval()

    def gradient(coins):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("emc2_lite.losses.emc2.random_uniforms", lambda *_: coins)
            return gradient_of(criterion, table, *visit, None, generator.clone_state())

    coins = torch.eye(len(weights), dtype=torch.float64)
    none = gradient(torch.ones(len(weights)))
    alone = [gradient(1 - coins[row]) - none for row in range(len(weights))]
    criterion.train()
    return none + sum(criterion.reencode * weight * change for weight, change in zip(weights, alone, strict=True))


@every_share
@every_kernel
def test_whatever_is_remembered_the_mean_is_that_of_the_view_encoded_again(kernel, reencode):
    """Given the weights, exactly: 8 visits of chains that remember embeddings of another encoder."""
    old, table = reference.unit_vectors(12, 3, 4), reference.unit_vectors(12, 3, 4, seed=1).requires_grad_()
    criterion, generator = emc2(12, 0.1, 4, kernel, reencode=reencode), torch.Generator().manual_seed(0)
    carried_over = 0
    for _ in range(8):
        for _ in range(8):
            call(criterion, old, *random_visit(12, 3, 3, generator), generator=generator)
        visit = random_visit(12, 3, 3, generator)
        expected, weights = plain(criterion, table, visit, generator)
        found = mean_over_coins(criterion, table, visit, weights, generator)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
        carried_over += sum(weight > 0 for weight in weights)
    assert carried_over > 4


@every_share
@every_kernel
def test_at_fixed_weights_the_mean_is_that_of_algorithm_1(kernel, reencode):
    """Visit by visit, exactly: the chains, their starts and the mean over the coins are those of "encoded"."""
    table, generator = reference.unit_vectors(7, 3, 4).requires_grad_(), torch.Generator().manual_seed(0)
    criterion, algorithm_1 = emc2(7, 0.2, 4, kernel, reencode=reencode), emc2(7, 0.2, 4, kernel, held="encoded")
    for _ in range(15):
        visit = random_visit(7, 3, 3, generator)
        _, weights = plain(criterion, table, visit, generator)
        found = mean_over_coins(criterion, table, visit, weights, generator)
        expected = mean_over_coins(algorithm_1, table, visit, weights, generator)
        if kernel == "metropolis":  # no coins
            expected = gradient_of(algorithm_1.eval(), table, *visit, None, generator.clone_state())
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
        call(algorithm_1.train(), table, *visit, None, generator.clone_state())
        call(criterion, table, *visit, None, generator)
        for name in ("chain_index", "chain_view", "chain_score"):
            torch.testing.assert_close(getattr(criterion, name), getattr(algorithm_1, name))


# The coins.

B, A, TEMPERATURE = 8, 0.4, 0.1


def shares_of_captives(criterion, visits=300):
    """w(r, 0), if remembered, and c(r) of the rows of independent visits, from the gradients.

    Rows share a component A along the held view, which is at right angles to all the rest: in-batch scores are
    A^2 / T, the held view's A / T, and the coefficient of the held view in a row's gradient is w(r, 0).
    """
    held = torch.eye(2 * B + 1, dtype=torch.float64)[-1]
    own = math.sqrt(1 - A**2)
    rows = (own * torch.eye(2 * B + 1, dtype=torch.float64)[:-1] + A * held).requires_grad_()
    generator, again = torch.Generator().manual_seed(0), held[None].clone().requires_grad_()
    memory = held if criterion.held == "remembered" else None
    weights, counted = [], []
    for _ in range(visits):
        set_chains(criterion, 2 * B, 5, memory)
        loss = criterion(rows[:B], rows[B:], torch.arange(B), None, lambda i, v: again, generator)
        gradient, pulled = torch.autograd.grad(loss, (rows, again), allow_unused=True)
        scale = 2 * B * criterion.temperature
        weights.append(scale * (gradient[:, -1] - A / own * gradient[:, :-1].sum(dim=1)))
        counted.append(torch.zeros(2 * B) if pulled is None else scale * pulled[0, :-1] / own)
    return torch.cat(weights), torch.cat(counted)


def assert_coins(counted, weights, reencode):
    """c(r) is 1 / reencode or 0. Null: it has mean w(r, 0), within 6 standard errors; false-alarm rate below 2e-9."""
    assert {round(number, 6) for number in counted.tolist()} == {0, 1 / reencode}
    difference = counted - weights
    standard_error = difference.std().item() / math.sqrt(len(difference))
    assert standard_error < 0.04 and abs(difference.mean().item()) < 6 * standard_error


@every_share
@every_kernel
def test_a_view_counts_in_the_mean_with_its_weight_whatever_share_is_encoded(kernel, reencode):
    """4,800 rows; c(r) = 1 in the place of 1 / reencode would be off by 0.25 and more in the mean."""
    weights, counted = shares_of_captives(emc2(2 * B + 1, TEMPERATURE, 2 * B + 1, kernel, reencode=reencode))
    assert 0.25 < weights.mean() < 0.75
    assert_coins(counted, weights, reencode)


def test_with_many_proposals_algorithm_1_too_encodes_a_view_as_often_as_its_weight_says():
    """All sets are alike: the plain law of one step gives w(r, 0)."""
    _, counted = shares_of_captives(emc2(2 * B + 1, TEMPERATURE, 2 * B + 1, "multiproposal", held="encoded"))
    scores = torch.tensor([A, *[A**2] * (B - 1)], dtype=torch.float64) / TEMPERATURE
    assert_coins(counted, reference.metropolised(scores)[0], 1)


# What is encoded, and what is remembered.


@every_kernel
def test_with_reencode_0_nothing_is_encoded_and_the_held_view_has_no_gradient(kernel):
    """No `encode` is needed; rows are still pushed off what is remembered, with its full weight."""
    table = torch.eye(7, dtype=torch.float64)[:, None].repeat(1, 2, 1).requires_grad_()
    criterion = emc2(7, 0.01, 7, kernel, reencode=0)
    memory = torch.nn.functional.normalize(torch.ones(7, dtype=torch.float64), dim=0)  # 38 nats above all others
    set_chains(criterion, 6, 1, memory)
    z1, z2 = table[:3].unbind(1)
    gradient = torch.autograd.grad(criterion(z1, z2, torch.arange(3)), table)[0]
    assert (gradient[3:] == 0).all() and criterion.stats.views_encoded == 0
    pull = 2 * table[:3].detach()
    torch.testing.assert_close(gradient[:3], (memory - pull) / 0.01 / 6, rtol=1e-9, atol=1e-9)


@every_kernel
def test_a_held_view_that_the_batch_brings_counts_with_today_s_embedding(kernel):
    """Whatever was remembered: the same gradient and chains, nothing encoded, and today's embedding remembered."""
    table, encoder = reference.unit_vectors(5, 2, 3).requires_grad_(), Encoder(None)
    table.data[4, 0] = table.data[:4, 0].sum(dim=0) / table.data[:4, 0].sum(dim=0).norm()
    index, found = torch.tensor([0, 4, 2]), []
    for memory in (table[4, 0].detach(), -table[4, 0].detach()):
        criterion = emc2(5, 0.2, 3, kernel)
        set_chains(criterion, 4, 0, memory)
        criterion.chain_index[4] = -1
        gradient = gradient_of(criterion, table, index, None, encoder, torch.Generator().manual_seed(0))
        found.append((gradient, *criterion.buffers()))
        held = table[criterion.chain_index[index].long(), criterion.chain_view[index]]
        torch.testing.assert_close(criterion.chain_embedding[index], held.detach())
        assert (criterion.chain_index[[0, 2]] == 4).any()
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one[index], other[index], rtol=0, atol=0)
    assert not encoder.asked


@pytest.mark.parametrize("reencode", [0, 1])
def test_a_view_that_is_encoded_is_remembered_as_encoded(reencode):
    """All chains stay at a view whose embedding has changed: the memory follows if and only if it is encoded."""
    table, today = torch.eye(9, dtype=torch.float64)[:, None].repeat(1, 2, 1), torch.eye(9, dtype=torch.float64)[8]
    criterion, memory = emc2(9, 0.01, 9, reencode=reencode), torch.full((9,), 1 / 3, dtype=torch.float64)
    set_chains(criterion, 8, 1, memory)
    call(criterion, table, torch.arange(3), generator=torch.Generator().manual_seed(0))
    assert (criterion.chain_index[:3] == 8).all()
    torch.testing.assert_close(criterion.chain_embedding[:3], (today if reencode else memory).expand(3, 2, 9))
    torch.testing.assert_close(criterion.chain_embedding[3:], memory.expand(6, 2, 9))


@every_kernel
def test_a_memory_in_half_precision_changes_the_gradient_by_less_than_2_percent(kernel):
    """Root mean square over 200 visits, from the same chains and random numbers: a few rows choose another view."""
    table, generator = reference.unit_vectors(20, 2, 64).requires_grad_(), torch.Generator().manual_seed(0)
    exact, rounded = emc2(20, 0.07, 64, kernel), emc2(20, 0.07, 64, kernel)
    rounded.chain_embedding = rounded.chain_embedding.half()
    error, size = 0.0, 0.0
    for _ in range(200):
        visit = random_visit(20, 2, 4, generator)
        rounded.load_state_dict(exact.state_dict())
        found = gradient_of(rounded, table, *visit, None, generator.clone_state())
        expected = gradient_of(exact, table, *visit, None, generator)
        error, size = error + (found - expected).square().sum(), size + expected.square().sum()
    assert 0 < (error / size).sqrt() < 0.02
