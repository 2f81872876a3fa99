"""chain_mixing separates chains that follow their softmax from chains that do not."""

import numpy as np
import pytest
import torch
from scipy.stats import binom

from emc2_lite.laboratory import chain_mixing, embedding_table
from emc2_lite.losses import EMC2Loss
from emc2_lite.sampling import effective_sample_size

TABLE = embedding_table(num_samples=12, dim=4)


class Watched(EMC2Loss):
    """Records the batch and stats of each call, and the views and scores that its chains end with."""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.calls, self.ends = [], []

    def estimate(self, block, encode, generator):
        estimate = super().estimate(block, encode, generator)
        self.calls.append((block.index[: len(block.index) // 2].tolist(), estimate.stats))
        return estimate

    def forward(self, *arguments):
        loss = super().forward(*arguments)
        self.ends.append(((2 * self.chain_index + self.chain_view).clone(), self.chain_score.clone()))
        return loss


def captive(**settings):
    """Chains that hold view 1 of the next sample, with a score that no candidate can beat."""
    criterion = Watched(12, 0.2, held="stale", **settings)
    criterion.chain_index[:] = ((torch.arange(12) + 1) % 12)[:, None]
    criterion.chain_view[:] = 1
    criterion.chain_score[:] = 1e6
    return criterion


def softmax_over_the_others(temperature):
    """(24, 24) plain: exp of the score, 0 at the views of the own sample, over the sum."""
    flat = TABLE.flatten(0, 1)
    weights = (flat @ flat.T / temperature).exp() * (1 - torch.eye(12).repeat_interleave(2, 0).repeat_interleave(2, 1))
    return weights / weights.sum(dim=1, keepdim=True)


def expected_distance(target, draws):
    """Mean over chains of the expected total variation of `draws` independent draws: (rows, views) -> number."""
    p, k = target.double().numpy()[..., None], np.arange(draws + 1)
    return 0.5 * (abs(k / draws - p) * binom.pmf(k, draws, p)).sum(axis=(1, 2)).mean()


def test_fast_chains_are_as_far_from_their_softmax_as_independent_draws():
    """Null: visits end at independent draws from the softmax, here within 2e-3 of uniform over 22 views.

    The mean of 24 distances, n = 400 visits. A distance is half a sum of 22 absolute deviations; its relative standard
    deviation is about sqrt((pi / 2 - 1) / 22) = 0.16, that of the mean 0.033. The bound of 20 % is 6 deviations, a
    little more than independent chains would need, as chains of a batch depend slightly on each other; false-alarm rate
    below 1e-6.
    """
    result = chain_mixing(EMC2Loss(12, 1000.0), TABLE, batch_size=4, visits=400)
    expected = expected_distance(softmax_over_the_others(1000.0), 400)
    assert result.distance.mean().item() == pytest.approx(expected, rel=0.2)
    assert result.noise.mean().item() == pytest.approx(expected, rel=0.2)
    assert result.acceptance_rate > 0.99
    assert result.carried_over_share < 0.01
    assert result.effective_sample_size.mean() > 200
    assert result.visits == 400
    assert all(column.shape == (12, 2) for column in result[:3])


def test_noise_is_the_distance_of_independent_draws_from_the_softmax():
    """n = 300 draws for each of 24 chains. By McDiarmid's inequality the mean distance has an error above 0.03 with
    probability below 2 exp(-2 * 0.03^2 * 24 * 300) = 5e-6.
    """
    result = chain_mixing(EMC2Loss(12, 0.2), TABLE, batch_size=12, visits=300)
    expected = expected_distance(softmax_over_the_others(0.2), 300)
    assert result.noise.mean().item() == pytest.approx(expected, abs=0.03)
    assert expected_distance(softmax_over_the_others(1000.0), 300) > expected + 0.03


def test_distance_compares_the_ends_of_visits_with_the_softmax():
    criterion = Watched(12, 0.5)
    result = chain_mixing(criterion, TABLE, batch_size=2, visits=30, warm_up=10)
    counts, scores = torch.zeros(24, 24), []
    for held, score in criterion.ends[10 * 6 + 5 :: 6]:  # after the last of the 6 batches of each epoch
        counts[torch.arange(24), held.flatten()] += 1
        scores.append(score)
    by_hand = 0.5 * (counts / 30 - softmax_over_the_others(0.5)).abs().sum(dim=1).view(12, 2)
    torch.testing.assert_close(result.distance, by_hand)
    torch.testing.assert_close(result.effective_sample_size, effective_sample_size(torch.stack(scores, dim=-1)))


def test_captive_chains_never_move_and_are_far_from_their_softmax():
    criterion = captive()
    result = chain_mixing(criterion, TABLE, batch_size=4, visits=20)
    assert result.acceptance_rate == 0
    assert result.carried_over_share == 1
    held = 2 * ((torch.arange(24) // 2 + 1) % 12) + 1
    torch.testing.assert_close(
        result.distance.flatten(), 1 - softmax_over_the_others(0.2)[torch.arange(24), held], rtol=1e-4, atol=1e-6
    )
    assert result.distance.mean() > 0.7
    assert result.noise.mean() < 0.5 * result.distance.mean()
    assert torch.equal(result.effective_sample_size, torch.ones(12, 2, dtype=torch.float64))


def test_encodings_count_the_held_views_outside_the_batch():
    criterion = captive()
    result = chain_mixing(criterion, TABLE, batch_size=4, visits=20)
    outside = [sum((i + 1) % 12 not in batch for i in batch) for batch, _ in criterion.calls]
    assert 0 < result.views_encoded < 4
    assert result.views_encoded == result.views_encoded_with_gradient == pytest.approx(sum(outside) / len(outside))


def test_warm_up_is_not_measured_and_every_chain_is_visited_once_an_epoch():
    criterion = Watched(12, 0.2)
    result = chain_mixing(criterion, TABLE, batch_size=3, visits=10, warm_up=5)
    assert len(criterion.calls) == 15 * 4
    for epoch in range(15):
        batches = [batch for batch, _ in criterion.calls[4 * epoch : 4 * epoch + 4]]
        assert sorted(i for batch in batches for i in batch) == list(range(12))
    measured = [stats for _, stats in criterion.calls[5 * 4 :]]
    for name in ("acceptance_rate", "carried_over_share", "views_encoded", "views_encoded_with_gradient"):
        mean = sum(float(getattr(stats, name)) for stats in measured) / len(measured)
        assert getattr(result, name) == pytest.approx(mean)
    assert result.views_encoded > result.views_encoded_with_gradient > 0


def test_chains_continue_from_their_present_state():
    criterion = captive()
    criterion.chain_score[:, 1] = -torch.inf
    result = chain_mixing(criterion, TABLE, batch_size=4, visits=8)
    assert (criterion.chain_index[:, 0] == (torch.arange(12) + 1) % 12).all()
    assert result.carried_over_share < 1
    assert (result.effective_sample_size[:, 0] == 1).all()


def test_a_seed_fixes_the_measurement():
    before = torch.get_rng_state()
    first, again, other = (
        chain_mixing(EMC2Loss(12, 0.2), TABLE, batch_size=4, visits=8, seed=seed) for seed in (0, 0, 1)
    )
    assert all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.distance, other.distance)
    assert not torch.equal(first.noise, other.noise)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_batch_size_that_leaves_chains_unvisited_is_refused():
    with pytest.raises(ValueError, match="batch_size is 5: it must divide the number of samples, 12,"):
        chain_mixing(Watched(12, 0.2), TABLE, batch_size=5, visits=10)
