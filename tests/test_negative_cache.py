"""The negative cache draws exactly from the softmax over cached views, and measures its staleness."""

import itertools
import math

import pytest
import reference
import torch
from trials import Encoder, assert_mean, assert_multinomial, call, gradient_of, random_visit

from emc2_lite.losses import NegativeCacheLoss
from emc2_lite.sampling import random_uniforms
from emc2_lite.sampling.gumbel import perturbed


def fill(criterion, table):
    """Put views 0 and 1 of every sample into the cache."""
    criterion.cache.copy_(table.detach()[:, :2])
    criterion.cache_view.copy_(torch.arange(2).expand(len(table), 2))


def noted_draws(monkeypatch):
    """A list that gets the entries drawn in each call, (2b, K), numbered 2 sample + slot."""
    draws = []

    def noting(scores, uniforms):
        found = perturbed(scores, uniforms)
        draws.append(found.argmax(dim=-1))
        return found

    monkeypatch.setattr("emc2_lite.losses.negative_cache.perturbed", noting)
    return draws


@pytest.mark.parametrize("num_negatives", [1, 3])
@pytest.mark.parametrize("refresh", [0, 0.01024, 0.2, 0.65])
def test_every_visit_is_that_of_the_method(refresh, num_negatives):
    """30 visits while the weights move, replayed by a plain loop from the same random numbers."""
    samples, views, b, temperature = 7, 3, 3, 0.2
    start, drift = reference.unit_vectors(samples, views, 4), reference.unit_vectors(samples, views, 4, seed=1)
    criterion = NegativeCacheLoss(samples, 4, temperature, refresh, num_negatives, check_encode=False).double()
    generator, cache, cursor = torch.Generator().manual_seed(0), {}, 0
    for step in range(30):
        table = torch.nn.functional.normalize(start + 0.05 * step * drift, dim=-1).requires_grad_()
        encoder = Encoder(table)
        index, view = random_visit(samples, views, b, generator)
        replay = generator.clone_state()
        loss = call(criterion, table, index, view, encoder, generator)
        uniforms = random_uniforms((2 * b, num_negatives, 2 * samples), table.dtype, table.device, replay)
        plain, cursor, readable, staleness, refreshed, encoded = reference.negative_cache(
            cache, cursor, table, index, view, uniforms, temperature=temperature, refresh=refresh
        )
        torch.testing.assert_close(loss, plain, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(
            torch.autograd.grad(loss, table), torch.autograd.grad(plain, table), rtol=1e-11, atol=1e-12
        )
        stats = criterion.stats
        assert stats.loss.item() == pytest.approx(readable, rel=1e-10)
        assert stats.staleness.item() == pytest.approx(staleness, rel=1e-10, abs=1e-12)
        assert stats.filled.item() == pytest.approx(len(cache) / (2 * samples))
        assert (stats.views_encoded, stats.views_encoded_with_gradient) == (len(refreshed) + len(encoded), len(encoded))
        assert [(sorted(pairs), grad) for pairs, grad in encoder.asked] == [
            (sorted(pairs), grad) for pairs, grad in ((refreshed, False), (encoded, True)) if pairs
        ]
        assert criterion.cursor.item() == cursor
        for slot in itertools.product(range(samples), range(2)):
            held_view, embedding = cache.get(slot, (-1, torch.zeros(4)))
            assert criterion.cache_view[slot] == held_view
            torch.testing.assert_close(criterion.cache[slot], embedding.double(), rtol=0, atol=0)


def test_draws_follow_the_softmax_over_the_cached_views_of_other_samples(monkeypatch):
    """The cache's embeddings are not today's, except for the batch's and 3 refreshed entries.

    Null: the 20,000 draws of each of the 4 rows are multinomial with q_r; chi-square, false-alarm rate 1e-5 a row.
    """
    samples, temperature, draws = 6, 0.4, noted_draws(monkeypatch)
    table, cached = reference.unit_vectors(samples, 2, 4), reference.unit_vectors(samples, 2, 4, seed=1)
    criterion = NegativeCacheLoss(samples, 4, temperature, refresh=0.25, num_negatives=20_000).double()
    fill(criterion, cached)
    index, seen = torch.tensor([4, 2]), cached.clone()
    call(criterion, table, index, generator=torch.Generator().manual_seed(0))
    seen[index], seen[0], seen[1, 0] = table[index], table[0], table[1, 0]
    for row, (sample, slot) in enumerate([(4, 0), (2, 0), (4, 1), (2, 1)]):
        raw = (seen @ table[sample, slot] / temperature).exp()
        raw[sample] = 0
        assert_multinomial(draws[0][row], (raw / raw.sum()).flatten())


@pytest.mark.parametrize(
    ("refresh", "num_negatives", "full"), [(1, 1, False), (0, 1, True), (0, 4, True)], ids=["refresh 1", "K 1", "K 4"]
)
def test_without_staleness_the_mean_gradient_is_the_exact_one(refresh, num_negatives, full):
    """Each call encodes everything again, or the cache is full and the weights are fixed; K negatives weigh 1 / K.

    Null: the exact gradient. 1,000 independent calls; 24 coordinates, each within 6 standard errors: false-alarm rate
    under 1e-7. Together the errors are under 10 % of the gradient.
    """
    samples, temperature = 4, 0.3
    table = reference.unit_vectors(samples, 2, 3, seed=2).requires_grad_()
    generator, gradients = torch.Generator().manual_seed(0), []
    criterion = NegativeCacheLoss(samples, 3, temperature, refresh, num_negatives).double()
    if full:
        fill(criterion, table)
    for _ in range(1_000):
        index, _ = random_visit(samples, 2, 2, generator)
        gradients.append(gradient_of(criterion, table, index, generator=generator))
        assert criterion.stats.staleness < 1e-12 and criterion.stats.filled == 1
    assert_mean(torch.stack(gradients), reference.global_gradient(table.detach(), temperature), precision=0.1)


def test_negatives_are_drawn_with_replacement():
    """One sample is far closer to the rows than all others: all 8 draws of a row are of its views, each with 1 / 8.

    Without replacement 6 of them would have to be other views, and each would weigh as much.
    """
    table = torch.eye(6, dtype=torch.float64)[:, None].repeat(1, 2, 1)
    table[0] = table[1] = torch.tensor([1.0, 0, 0, 0, 0, 0])
    table.requires_grad_()
    criterion = NegativeCacheLoss(6, 6, 0.01, refresh=0, num_negatives=8).double()
    fill(criterion, table)
    gradient = gradient_of(criterion, table, torch.tensor([0, 5]), generator=torch.Generator().manual_seed(0))
    assert gradient[2:5].abs().max() > 0  # sample 5 has no hard negative, and is content with any
    assert torch.equal(gradient[1, :, 1:5], torch.zeros(2, 4, dtype=torch.float64))
    push = gradient[1].sum(dim=0)[0].item()
    assert push == pytest.approx(2 / (4 * 0.01), rel=0.05)


def test_the_positive_is_the_other_view_and_not_the_view_itself():
    """All views are at right angles: the pull is towards the other view only."""
    table = torch.eye(8, dtype=torch.float64).view(4, 2, 8).requires_grad_()
    criterion = NegativeCacheLoss(4, 8, 0.1, refresh=0).double()
    loss = call(criterion, table, torch.tensor([0, 1]), generator=torch.Generator().manual_seed(0))
    assert loss.item() == 0 and criterion.stats.loss.item() == pytest.approx(math.log(2))
    gradient = torch.autograd.grad(loss, table)[0]
    for sample, slot in itertools.product((0, 1), (0, 1)):
        assert gradient[sample, slot, 2 * sample + 1 - slot].item() == pytest.approx(-2 / (4 * 0.1))
        assert gradient[sample, slot, 2 * sample + slot] == 0


def test_a_drawn_view_is_encoded_once_and_only_if_it_is_not_in_the_batch(monkeypatch):
    table, draws = reference.unit_vectors(5, 2, 3).requires_grad_(), noted_draws(monkeypatch)
    criterion = NegativeCacheLoss(5, 3, 0.5, refresh=0, num_negatives=6, check_encode=False).double()
    fill(criterion, table)
    encoder, index = Encoder(table), torch.tensor([3, 1])
    call(criterion, table, index, None, encoder, torch.Generator().manual_seed(0))
    drawn = {(int(entry) // 2, int(entry) % 2) for entry in draws[0].flatten()}
    assert any(sample in (1, 3) for sample, _ in drawn)
    assert encoder.asked == [(sorted(name for name in drawn if name[0] not in (1, 3)), True)]


def test_the_cursor_takes_its_entries_in_turn_and_skips_those_of_the_batch():
    """5 samples, 10 entries, refresh 0.25: ceil(2.5) = 3 a call, in a circle; the batch is samples 1 and 4."""
    table = reference.unit_vectors(5, 2, 3)
    criterion = NegativeCacheLoss(5, 3, 0.5, refresh=0.25, check_encode=False)
    generator, asked = torch.Generator().manual_seed(0), []
    for _ in range(5):
        encoder = Encoder(table.requires_grad_())
        call(criterion, table, torch.tensor([1, 4]), None, encoder, generator)
        asked.append([pairs for pairs, with_gradient in encoder.asked if not with_gradient])
    turns = [[(0, 0), (0, 1)], [(2, 0), (2, 1)], [(3, 0), (3, 1)], [(0, 0), (0, 1)], [(2, 0)]]
    assert asked == [[turn] for turn in turns]
    assert criterion.cursor.item() == 15 % 10


def test_entries_keep_the_views_that_batches_brought():
    """A refresh encodes the view of the entry; an entry that no batch brought has its slot's number as the view."""
    table = reference.unit_vectors(3, 9, 4)
    criterion, generator = NegativeCacheLoss(3, 4, 0.5, refresh=0), torch.Generator().manual_seed(0)
    call(criterion, table, torch.tensor([2, 0]), torch.tensor([[5, 7], [8, 3]]), None, generator)
    assert criterion.cache_view.tolist() == [[7, 3], [-1, -1], [5, 8]] and criterion.stats.filled == pytest.approx(
        2 / 3
    )
    criterion.refresh = 1
    encoder = Encoder(table)
    call(criterion, table, torch.tensor([0, 1]), torch.tensor([[1, 2], [4, 6]]), encoder, generator)
    assert encoder.asked[0] == ([(2, 5), (2, 8)], False)
    assert criterion.cache_view.tolist() == [[1, 4], [2, 6], [5, 8]]
    torch.testing.assert_close(criterion.cache[2].double(), table[2, [5, 8]], rtol=0, atol=1e-7)
    fresh = NegativeCacheLoss(3, 4, 0.5, refresh=1)
    call(fresh, table, torch.tensor([0, 1]), torch.tensor([[1, 2], [4, 6]]), None, generator)
    assert fresh.cache_view.tolist() == [[1, 4], [2, 6], [0, 1]]


def test_entries_that_were_never_encoded_and_views_of_the_sample_are_not_drawn(monkeypatch):
    """Own views are alike and all others orthogonal, so own views would be every draw; the cache has 2 of 6 samples."""
    table, draws = torch.eye(6, dtype=torch.float64)[:, None].repeat(1, 2, 1), noted_draws(monkeypatch)
    criterion = NegativeCacheLoss(6, 6, 0.05, refresh=0, num_negatives=50)
    call(criterion, table, torch.tensor([5, 2]), generator=torch.Generator().manual_seed(0))
    assert [sorted(set(row.tolist())) for row in draws[0]] == [[4, 5], [10, 11], [4, 5], [10, 11]]


def test_staleness_is_how_far_the_scores_have_moved():
    """Fixed weights: 0. Then all encodings change sign: the batch's scores stay, those with cached views change sign.

    One sample beside the batch, at the same cosine 0.8 to all rows, is every draw: |0.8 - (-0.8)| / temperature.
    """
    table = torch.zeros(3, 2, 4, dtype=torch.float64)
    table[0, :, 0], table[1, :, 1] = 1, 1
    table[2] = torch.tensor([0.6, 0.6, math.sqrt(0.28), 0])
    criterion, generator = NegativeCacheLoss(3, 4, 0.01, refresh=0).double(), torch.Generator().manual_seed(0)
    fill(criterion, table)
    call(criterion, table, torch.tensor([0, 1]), generator=generator)
    assert criterion.stats.staleness == 0 and criterion.stats.views_encoded_with_gradient > 0
    call(criterion, table, torch.tensor([0, 1]), None, Encoder(-table), generator)
    assert criterion.stats.staleness.item() == pytest.approx(1.2 / 0.01)
