"""gradient_quality measures the bias, the noises and the price that an estimator was made with."""

import math
from collections import Counter
from functools import partial
from typing import NamedTuple

import pytest
import torch
from scipy.stats import t as student
from torch import nn
from torch.nn import functional as F

from emc2_lite.laboratory import embedding_table, exact_gradient, gradient_quality, pull_back
from emc2_lite.losses import DCLLoss, EMC2Loss, NTXentLoss, SogCLRLoss, global_contrastive_loss

TABLE = embedding_table(num_samples=6, dim=4)
EXACT = exact_gradient(TABLE, 0.2)


class Counts(NamedTuple):
    views_encoded: int = 0
    views_encoded_with_gradient: int = 0


class Exact(nn.Module):
    """The exact loss of the batch alone: an estimator without error if the batch is the whole set.

    `extra(step, generator)` is added to the gradient in the table, (N, 2, d).
    """

    temperature = 0.2

    def __init__(self, extra=lambda step, generator: 0.0):
        super().__init__()
        self.extra, self.step, self.stats = extra, 0, None

    def forward(self, z1, z2, index, view, encode, generator):
        z = torch.stack((z1, z2), dim=1)
        added = torch.as_tensor(self.extra(self.step, generator), dtype=z.dtype).expand(len(z), 2, z.shape[2])
        self.step += 1
        return global_contrastive_loss(z, self.temperature) + (added[index] * z).sum()


def tensor(*shape, seed, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def whole_set(make, table=TABLE, **settings):
    """The windows in the embeddings."""
    windows = gradient_quality(make, table, **({"batch_size": len(table), "edges": [0, 40], "runs": 4} | settings))
    return [window["embeddings"] for window in windows]


def assert_near(interval, value, within):
    assert interval.value == pytest.approx(value, abs=within)
    assert interval.low <= interval.value <= interval.high


def test_an_exact_estimator_has_no_error():
    for window in whole_set(Exact, edges=[0, 3, 5]) + whole_set(lambda: DCLLoss(0.2), edges=[0, 3]):
        assert max(window.bias) < 1e-5
        assert max(*window.rmse, *window.noise, *window.run_noise) < 1e-5
        assert_near(window.cosine, 1, 1e-9)
        assert_near(window.length, 1, 1e-6)
        assert (window.relative_price, window.views_encoded, window.views_encoded_with_gradient) == (1, 0, 0)


def test_a_nan_gradient_has_nan_measurements():
    (window,) = whole_set(lambda: Exact(lambda step, generator: math.nan), edges=[0, 3])
    assert all(math.isnan(interval.value) for interval in window[:6])


def test_known_bias_and_known_noise_are_measured():
    """Estimates are e + c + noise, normal with sigma = 0.02 per coordinate; 4 runs of 400 steps, D = 48 coordinates.

    Along any direction the mean over the runs has the standard error sigma / sqrt(1600); 6 of them bound the errors of
    bias, length and cosine (the spread of <n_i, n_j> over pairs of runs, D sigma^2 / 400 / sqrt(6), is a tenth). rmse^2
    and noise^2 are means over 4 x 25 steps: relative spreads below sqrt(2 / (100 D)) = 2 %, and 5 % of a root are 5 of
    them. run_noise^2 has 3 D degrees of freedom, spread 12 %, and 25 % of a root are 4.7. False-alarm rate below 1e-5.
    """
    sigma, offset = 0.02, 0.1 * tensor(6, 2, 4, seed=0)
    noisy = partial(Exact, lambda step, generator: offset + sigma * torch.randn(6, 2, 4, generator=generator))
    (window,) = whole_set(noisy, edges=[0, 400])
    scale, mean = EXACT.norm(), EXACT + offset
    reach = 6 * sigma / math.sqrt(1600) / scale.item()
    assert reach < 0.01
    assert_near(window.bias, (offset.norm() / scale).item(), reach)
    assert_near(window.cosine, ((mean * EXACT).sum() / mean.norm() / scale).item(), reach)
    assert_near(window.length, (mean.norm() / scale).item(), reach)
    noise = math.sqrt(48) * sigma / scale.item()
    assert window.noise.value == pytest.approx(noise, rel=0.05)
    assert window.run_noise.value == pytest.approx(noise, rel=0.25)
    assert window.rmse.value == pytest.approx(math.hypot(window.bias.value, window.noise.value))
    assert window.rmse.value / window.bias.value > 1.01


@pytest.mark.parametrize(("kept", "share"), [(0.8, 3.0), (-0.5, 1 / math.sqrt(3))])
def test_a_run_is_noisier_than_its_steps_if_they_resemble_each_other_and_quieter_if_they_balance(kept, share):
    """Null: the noise of a step is `kept` times that of the step before and new noise, D = 48 coordinates, 8 runs.

    From a stationary start the mean of n = 200 steps has sqrt(n) times the standard deviation sqrt(s), in units of a
    step's, with s = 1 + 2 sum_k (1 - k / n) kept^k, within 3 % of (1 + kept) / (1 - kept). The measured s has 7 D
    degrees of freedom, a root the relative spread 3.9 %: 20 % are 5 of them. noise^2 is a mean over 8 x 25 steps in D
    coordinates, at a distance of 8 steps: its root has a spread below 1 %. False-alarm rate below 1e-6.
    """

    class Correlated(Exact):
        def __init__(self):
            super().__init__(self.next)
            self.last = None

        def next(self, step, generator):
            new = 0.05 * torch.randn(6, 2, 4, generator=generator)
            self.last = new if step == 0 else kept * self.last + math.sqrt(1 - kept**2) * new
            return self.last

    (window,) = whole_set(Correlated, edges=[0, 200], runs=8)
    noise = math.sqrt(48) * 0.05 / EXACT.norm().item()
    assert window.noise.value == pytest.approx(noise, rel=0.06)
    exact = math.sqrt(1 + 2 * sum((1 - k / 200) * kept**k for k in range(1, 200)))
    assert exact == pytest.approx(share, rel=0.03)
    assert window.run_noise.value == pytest.approx(noise * exact, rel=0.2)


def test_noise_is_not_taken_for_bias():
    """Null: no bias; noise of sigma per coordinate, D = 384 coordinates, 8 runs of 25 steps.

    |mean - e|^2 would be about s^2 D / 8 = 48 s^2, s^2 = sigma^2 / 25. The mean over pairs of runs has mean 0 and
    deviation s^2 sqrt(2 D / 56) = 3.7 s^2: half of the naive value is 6.4 deviations off, false-alarm rate below 1e-8.
    """
    table = embedding_table(num_samples=24, dim=8)
    sigma = 0.2
    noise = partial(Exact, lambda step, generator: sigma * torch.randn(24, 2, 8, generator=generator))
    (window,) = whole_set(noise, table, edges=[0, 25], runs=8)
    naive = sigma * math.sqrt(384 / 25 / 8) / exact_gradient(table, 0.2).norm().item()
    assert naive > 0.1
    assert window.bias.value < math.sqrt(0.5) * naive
    assert window.rmse.value == pytest.approx(math.sqrt(8 * 25) * naive, rel=0.2)


def test_numbers_and_intervals_equal_plain_loops():
    """Each run has a constant error of its own, so all means are known; intervals leave out one run at a time."""
    offsets = [0.02 * tensor(6, 2, 4, seed=i, dtype=torch.float64) + 0.02 for i in range(4)]
    remaining = iter([None, *offsets])  # only the temperature of the first criterion is read

    def next_run():
        offset = next(remaining)
        return Exact(lambda step, generator: offset)

    (window,) = whole_set(next_run, TABLE.double(), edges=[2, 5])
    gradients = [EXACT + offset for offset in offsets]

    def mean_of_pairs(tensors):
        pairs = [(a * b).sum() for i, a in enumerate(tensors) for j, b in enumerate(tensors) if i != j]
        return sum(pairs) / len(pairs)

    def square_bias(runs):
        return mean_of_pairs([offsets[i] for i in runs]) / EXACT.square().sum()

    def square_length(runs):
        return mean_of_pairs([gradients[i] for i in runs]) / EXACT.square().sum()

    def square_error(runs):
        return sum(offsets[i].square().sum() for i in runs) / len(runs) / EXACT.square().sum()

    def square_noise(runs):  # steps of a run are alike: its 3 steps have 3 times the noise of one
        mean = sum(offsets[i] for i in runs) / len(runs)
        return sum((offsets[i] - mean).square().sum() for i in runs) / (len(runs) - 1) / EXACT.square().sum()

    def cosine(runs):
        along = sum((gradients[i] * EXACT).sum() for i in runs) / len(runs)
        return along / mean_of_pairs([gradients[i] for i in runs]).sqrt() / EXACT.norm()

    for measured, statistic, root in (
        (window.bias, square_bias, True),
        (window.cosine, cosine, False),
        (window.length, square_length, True),
        (window.rmse, square_error, True),
        (window.noise, square_noise, True),
        (window.run_noise, lambda runs: 3 * square_noise(runs), True),
    ):
        left_out = [statistic([j for j in range(4) if j != i]) for i in range(4)]
        mean = sum(left_out) / 4
        error = math.sqrt(3 / 4 * sum((value - mean) ** 2 for value in left_out))
        reach = student.ppf(0.975, 3) * error
        expected = [statistic(range(4)) + side * reach for side in (0, -1, 1)]
        assert list(measured) == pytest.approx([math.sqrt(max(x, 0)) if root else float(x) for x in expected])
    assert next(remaining, "none") == "none"


def test_a_window_holds_the_steps_between_its_edges():
    """The bias is 9, 1, 2 and 3 times a constant from steps 0, 10, 25 and 32 on; no window holds the first 10 steps."""
    constant = 0.1 * tensor(6, 2, 4, seed=0)

    def growing(step, generator):
        return constant * (9 if step < 10 else 1 if step < 25 else 2 if step < 32 else 3)

    windows = whole_set(lambda: Exact(growing), edges=[10, 25, 32, 33])
    unit = (constant.norm() / EXACT.norm()).item()
    assert [window.bias.value / unit for window in windows] == pytest.approx([1, 2, 3], rel=1e-4)
    assert [window.rmse.value / unit for window in windows] == pytest.approx([1, 2, 3], rel=1e-4)
    (both,) = whole_set(lambda: Exact(growing), edges=[22, 28])  # three steps of 1 and three of 2
    assert both.bias.value / unit == pytest.approx(1.5, rel=1e-4)
    assert both.rmse.value / unit == pytest.approx(math.sqrt(2.5), rel=1e-4)


def test_the_rmse_of_a_long_window_samples_all_of_it():
    """The last third of the steps has a constant error with changing sign: rmse^2 is a third of its square."""
    constant = 0.1 * tensor(6, 2, 4, seed=0)
    (window,) = whole_set(
        lambda: Exact(lambda step, generator: constant * (step >= 200) * (-1) ** (step // 6)), edges=[0, 300]
    )
    unit = (constant.norm() / EXACT.norm()).item()
    assert window.rmse.value / unit == pytest.approx(math.sqrt(1 / 3), abs=0.03)
    assert window.bias.value / unit < 0.02


def test_only_the_steps_before_the_first_edge_use_the_table_before():
    before = embedding_table(num_samples=6, dim=4, seed=1)
    seen = []

    class Watched(Exact):
        def forward(self, z1, z2, index, view, encode, generator):
            table = before if self.step < 3 else TABLE
            assert torch.equal(z1, table[index, 0])
            assert torch.equal(z2, table[index, 1])
            assert torch.equal(encode(index, torch.ones_like(index)), z2)
            seen.append(self.step)
            return super().forward(z1, z2, index, view, encode, generator)

    (window,) = whole_set(Watched, edges=[3, 5], runs=3, before=before)
    assert seen == [0, 1, 2, 3, 4] * 3
    assert window.bias.value < 1e-5


def test_a_run_visits_every_sample_in_batches_of_the_given_size():
    """Null: uniform batches of 2 from 6. 300 batches leave out a sample with probability 6 (2/3)^300, below 1e-50."""
    sizes, met = Counter(), Counter()

    class Watched(NTXentLoss):
        def forward(self, z1, z2, index, view, encode, generator):
            sizes[len(index)] += 1
            met.update(index.tolist())
            return super().forward(z1, z2, index)

    whole_set(lambda: Watched(0.2), batch_size=2, edges=[0, 100], runs=3)
    assert sizes == {2: 300}
    assert sorted(met) == list(range(6))


def test_encodings_are_counted_per_step_of_each_window():
    class Counting(Exact):
        def forward(self, *arguments):
            self.stats = Counts(self.step, 2 * (self.step >= 4))
            return super().forward(*arguments)

    windows = whole_set(Counting, edges=[1, 4, 6])
    assert [window.views_encoded for window in windows] == [2, 4.5]
    assert [window.views_encoded_with_gradient for window in windows] == [0, 2]
    assert [window.relative_price for window in windows] == pytest.approx([1 + 2 / 36, 1 + 8.5 / 36])


def test_chains_last_through_a_run_and_each_run_has_new_chains():
    """A new chain encodes nothing; a chain that was visited has a state to encode."""
    (first,) = whole_set(lambda: EMC2Loss(6, 0.2), batch_size=2, edges=[0, 1], runs=3)
    (later,) = whole_set(lambda: EMC2Loss(6, 0.2), batch_size=2, edges=[20, 40], runs=3)
    assert first.views_encoded == 0
    assert 0 < later.views_encoded_with_gradient < later.views_encoded <= 8


@pytest.mark.parametrize("make", [lambda: NTXentLoss(0.2), lambda: EMC2Loss(6, 0.2)], ids=["NT-Xent", "EMC2"])
def test_a_seed_fixes_the_measurement(make):
    before = torch.get_rng_state()
    first, again, other = (whole_set(make, batch_size=3, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert torch.equal(torch.get_rng_state(), before)


class Linear(nn.Module):
    """Images -> W image: the gradient in W of sum <gradient, embeddings> is sum gradient image^T, by hand."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(tensor(4, 64, seed=3))

    def forward(self, images):
        return images.flatten(1) @ self.weight.T


def test_quality_is_measured_in_the_encoders_weights_and_in_the_embeddings():
    images = tensor(6, 2, 1, 8, 8, seed=4)
    offset = 0.1 * tensor(6, 2, 4, seed=5)
    biased = partial(Exact, lambda step, generator: offset * (1 + (-1) ** step / 2))
    to_weights = partial(pull_back, Linear(), lambda i, v: images[i, v])
    (window,) = gradient_quality(biased, TABLE, batch_size=6, edges=[0, 40], runs=4, pull_back=to_weights)

    def by_hand(gradient):
        return torch.einsum("ivd,ivp->dp", gradient, images.flatten(2).to(gradient))

    assert list(window) == ["embeddings", "weights"]
    for found, to_ruler in zip(window.values(), (torch.flatten, by_hand), strict=True):
        e, c = to_ruler(EXACT), to_ruler(offset.double())
        unit = (c.norm() / e.norm()).item()
        assert found.bias.value == pytest.approx(unit, rel=1e-4)
        assert found.rmse.value == pytest.approx(unit * math.sqrt(1.25), rel=1e-4)
        assert found.noise.value == pytest.approx(unit / 2, rel=1e-4)
        direction = F.cosine_similarity((e + c).flatten(), e.flatten(), 0).item()
        assert found.cosine.value == pytest.approx(direction, rel=1e-4)
        assert found.length.value == pytest.approx(((e + c).norm() / e.norm()).item(), rel=1e-4)
    assert abs(window["embeddings"].bias.value / window["weights"].bias.value - 1) > 0.01
    assert window["embeddings"][6:] == window["weights"][6:]


ENDLESS = embedding_table(num_samples=8, num_views=4, dim=4, view_noise=0.5)


def test_endless_views_are_two_distinct_ones_at_random():
    """Null: each of the 12 ordered pairs of 4 views comes with probability 1/12; 3 runs of 50 batches of 8, n = 1200.

    A count has mean 100 and standard deviation 9.6; the bound of 50 is 5.2 of them, 12 counts: below 1e-5.
    """
    pairs = Counter()

    class Watched(NTXentLoss):
        def forward(self, z1, z2, index, view, encode, generator):
            assert torch.equal(torch.stack((z1, z2)), ENDLESS[index, view])
            assert torch.equal(encode(index, view[1]), z2)
            pairs.update(zip(*view.tolist(), strict=True))
            return super().forward(z1, z2, index, view)

    whole_set(lambda: Watched(0.2), ENDLESS, edges=[0, 50], runs=3)
    assert set(pairs) == {(v, w) for v in range(4) for w in range(4) if v != w}
    assert max(abs(count - 100) for count in pairs.values()) < 50


def test_stored_views_stay_in_their_slots():
    seen = set()

    class Watched(NTXentLoss):
        def forward(self, z1, z2, index, view, encode, generator):
            seen.add(tuple(map(tuple, view.tolist())))
            return super().forward(z1, z2, index, view)

    whole_set(lambda: Watched(0.2), batch_size=3, edges=[0, 5])
    assert seen == {((0, 0, 0), (1, 1, 1))}


class SoftmaxOfRows(nn.Module):
    """The two views of a batch with the softmax of each over the first `num_views` views of all other samples."""

    temperature = 0.2
    stats = None

    def __init__(self, num_views):
        super().__init__()
        self.num_views = num_views

    def forward(self, z1, z2, index, view, encode, generator):
        names = torch.cartesian_prod(torch.arange(8), torch.arange(self.num_views))
        own = index.repeat(2)[:, None] == names[:, 0]
        scores = torch.cat((z1, z2)) @ encode(*names.T).T / self.temperature
        log_sums = scores.masked_fill(own, -torch.inf).logsumexp(dim=1)
        return log_sums.mean() - (z1 * z2).sum(dim=1).mean() / self.temperature


def test_the_softmax_of_each_row_over_all_views_has_no_bias_with_endless_views():
    """Null: |E g - e| = 0. 8 runs of 100 steps; the estimate of the squared bias is a mean over 28 pairs of runs.

    Its standard deviation is at most run_noise^2 / 100 sqrt(2 / (8 x 7)), were all noise in one coordinate. Steps are
    independent; noise is in dozens of coordinates, so the bound of 5 of the largest deviations has a rate below 1e-6.
    """
    (unbiased,) = whole_set(lambda: SoftmaxOfRows(4), ENDLESS, batch_size=4, edges=[0, 100], runs=8)
    reach = 5 * unbiased.noise.value**2 / 100 * math.sqrt(2 / 56)
    assert unbiased.bias.value**2 < reach
    (two_views,) = whole_set(lambda: SoftmaxOfRows(2), ENDLESS, batch_size=4, edges=[0, 100], runs=8)
    assert two_views.bias.value**2 > 4 * reach


def test_endless_views_reverse_the_ranking_of_chains_and_averages():
    """24 samples in 6 dimensions, views far apart; the ruler moves all views of a sample together.

    8 runs of 300 steps. Over 8 seeds the squared bias of SogCLR (gamma = 0.1) less that of EMC2 had mean 0.070 and
    standard deviation 0.016 with stored views, and -0.226 and 0.016 with endless ones: 0 is 4.3 and 14 standard
    deviations away. False-alarm rate below 1e-4.
    """

    def squared_bias(make, num_views):
        table = embedding_table(24, num_views, 6, view_noise=0.5)
        (window,) = gradient_quality(
            make, table, batch_size=4, edges=[150, 450], pull_back=lambda gradient: gradient.sum(dim=1).flatten()
        )
        return window["weights"].bias.value ** 2

    def chains():
        return EMC2Loss(24, 0.1)

    def averages():
        return SogCLRLoss(24, 0.1, gamma=0.1)

    assert squared_bias(chains, 2) < squared_bias(averages, 2)
    assert squared_bias(chains, 6) > squared_bias(averages, 6)


def test_chains_are_noisier_over_a_run_than_in_a_step_and_independent_batches_are_not():
    """DCL keeps no state. Null: its steps are independent. 8 runs, so run_noise^2 has 7 degrees of freedom for each of

    at least 16 coordinates: a relative spread of its root of 7 % at most; 35 % are 5 of them, rate below 1e-6. Over 6
    seeds EMC2's ratio of the two noises had mean 1.43 and standard deviation 0.07: 1.1 is 4.7 deviations away.
    """
    table = embedding_table(num_samples=16, dim=4, view_noise=0.3)
    chains, batches = (
        whole_set(make, table, batch_size=4, edges=[100, 400], runs=8)[0]
        for make in (lambda: EMC2Loss(16, 0.1), lambda: DCLLoss(0.1))
    )
    assert chains.run_noise.value > 1.1 * chains.noise.value
    assert batches.run_noise.value == pytest.approx(batches.noise.value, rel=0.35)


def test_a_table_before_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"before has shape \(6, 1, 4\): pass the table's shape, \(6, 2, 4\)\."):
        whole_set(Exact, before=TABLE[:, :1])


def test_one_view_a_sample_is_refused():
    with pytest.raises(ValueError, match=r"table has shape \(6, 1, 4\): pass \(N, 2, d\), two views a sample, or"):
        whole_set(Exact, TABLE[:, :1])
