"""gradient_quality measures the bias, error and direction that an estimator was made with."""

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
from emc2_lite.losses import DCLLoss, EMC2Loss, NTXentLoss, global_contrastive_loss

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
    return gradient_quality(make, table, **({"batch_size": len(table), "edges": [0, 40], "runs": 4} | settings))


def assert_near(interval, value, within):
    assert interval.value == pytest.approx(value, abs=within)
    assert interval.low <= interval.value <= interval.high


def test_an_exact_estimator_has_no_error():
    for window in whole_set(Exact, edges=[0, 3, 5]) + whole_set(lambda: DCLLoss(0.2), edges=[0, 3]):
        assert max(window.bias) < 1e-5
        assert max(window.rmse) < 1e-5
        assert_near(window.cosine, 1, 1e-9)
        assert (window.views_encoded, window.views_encoded_with_gradient) == (0, 0)


def test_a_nan_gradient_has_nan_bias_error_and_direction():
    (window,) = whole_set(lambda: Exact(lambda step, generator: math.nan), edges=[0, 3])
    assert all(math.isnan(interval.value) for interval in (window.bias, window.rmse, window.cosine))


def test_known_bias_and_known_noise_are_measured():
    """Estimates are e + c + noise, normal with sigma = 0.02 per coordinate; 4 runs of 400 steps, D = 48 coordinates.

    Along any direction the mean over the runs has the standard error sigma / sqrt(1600); 6 of them bound the errors of
    bias and cosine (the spread of <n_i, n_j> over pairs of runs, D sigma^2 / 400 / sqrt(6), is a tenth). rmse^2 is a
    mean over 4 x 50 steps: relative spread below sqrt(2 / (200 D)) = 1.5 %. False-alarm rates below 1e-8.
    """
    sigma, offset = 0.02, 0.1 * tensor(6, 2, 4, seed=0)
    noisy = partial(Exact, lambda step, generator: offset + sigma * torch.randn(6, 2, 4, generator=generator))
    (window,) = whole_set(noisy, edges=[0, 400])
    scale, mean = EXACT.norm(), EXACT + offset
    reach = 6 * sigma / math.sqrt(1600) / scale.item()
    assert reach < 0.01
    assert_near(window.bias, (offset.norm() / scale).item(), reach)
    assert_near(window.cosine, ((mean * EXACT).sum() / mean.norm() / scale).item(), reach)
    rmse = (offset.square().sum() + 48 * sigma**2).sqrt() / scale
    assert window.rmse.value == pytest.approx(rmse.item(), rel=0.05)
    assert rmse / window.bias.value > 1.01


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

    def square_error(runs):
        return sum(offsets[i].square().sum() for i in runs) / len(runs) / EXACT.square().sum()

    def cosine(runs):
        along = sum((gradients[i] * EXACT).sum() for i in runs) / len(runs)
        return along / mean_of_pairs([gradients[i] for i in runs]).sqrt() / EXACT.norm()

    for measured, statistic, root in (
        (window.bias, square_bias, True),
        (window.rmse, square_error, True),
        (window.cosine, cosine, False),
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


def test_chains_last_through_a_run_and_each_run_has_new_chains():
    """A new chain encodes nothing; a chain that was visited has a state to encode."""
    (first,) = gradient_quality(lambda: EMC2Loss(6, 0.2), TABLE, batch_size=2, edges=[0, 1], runs=3)
    (later,) = gradient_quality(lambda: EMC2Loss(6, 0.2), TABLE, batch_size=2, edges=[20, 40], runs=3)
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


def test_quality_is_measured_in_the_encoders_weights():
    images = tensor(6, 2, 1, 8, 8, seed=4)
    offset = 0.1 * tensor(6, 2, 4, seed=5)
    biased = partial(Exact, lambda step, generator: offset * (1 + (-1) ** step / 2))
    (window,) = whole_set(biased, pull_back=partial(pull_back, Linear(), lambda i, v: images[i, v]))

    def by_hand(gradient):
        return torch.einsum("ivd,ivp->dp", gradient, images.flatten(2).to(gradient))

    e, c = by_hand(EXACT), by_hand(offset.double())
    assert window.bias.value == pytest.approx((c.norm() / e.norm()).item(), rel=1e-4)
    assert window.rmse.value == pytest.approx((c.norm() / e.norm()).item() * math.sqrt(1.25), rel=1e-4)
    assert window.cosine.value == pytest.approx(F.cosine_similarity((e + c).flatten(), e.flatten(), 0).item(), rel=1e-4)
    (in_the_table,) = whole_set(biased)
    assert abs(in_the_table.bias.value / window.bias.value - 1) > 0.01
