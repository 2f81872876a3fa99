"""SogCLR divides by each chain's average: state, gradient and expectation are those of the method."""

import itertools
import math

import pytest
import reference
import torch
from trials import call, gradient_of, random_visit

from emc2_lite.losses import DCLLoss, SogCLRLoss


@pytest.mark.parametrize("temperature", [0.1, 0.5])
@pytest.mark.parametrize("gamma", [0.05, 0.5, 0.9, 1.0])
def test_every_visit_is_that_of_the_method(gamma, temperature):
    """40 successive visits, replayed by a plain loop with raw averages: state, gradient and readable numbers."""
    samples, views, b = 7, 3, 3
    table = reference.unit_vectors(samples, views, 4).requires_grad_()
    criterion, averages = SogCLRLoss(samples, temperature, gamma).double(), {}
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        index, view = random_visit(samples, views, b, generator)
        loss = call(criterion, table, index, view)
        z1, z2 = table[index, view[0]], table[index, view[1]]
        plain, weights = reference.sogclr(averages, z1, z2, index, temperature=temperature, gamma=gamma)
        torch.testing.assert_close(loss, plain, rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(
            torch.autograd.grad(loss, table), torch.autograd.grad(plain, table), rtol=1e-10, atol=1e-11
        )
        for sample, slot in itertools.product(range(samples), range(2)):
            expected = math.log(averages[sample, slot]) if (sample, slot) in averages else -math.inf
            assert criterion.log_u[sample, slot].item() == pytest.approx(expected, abs=1e-11)
        positives = (z1 * z2).sum(dim=1) / temperature
        log_sums = [math.log((2 * b - 2) * averages[int(i), slot]) for slot in range(2) for i in index]
        readable = sum(log_sums) / (2 * b) - positives.mean().item()
        assert criterion.stats.loss.item() == pytest.approx(readable, rel=1e-10)
        repulsion = sum(sum(row.values()) for row in weights) / (2 * b)
        assert criterion.stats.repulsion.item() == pytest.approx(repulsion, rel=1e-10)


def batch_means(table, index, temperature):
    """The mean over its in-batch negatives of exp l(r, k), for each (sample, view) of a batch."""
    return {
        (i, v): sum(
            math.exp((table[i, v] @ table[j, u]).item() / temperature) for j in index if j != i for u in range(2)
        )
        / (2 * len(index) - 2)
        for i in index
        for v in range(2)
    }


def test_each_sample_has_its_own_first_visit():
    """Samples 2 and 3 have averages, 0 and 4 are new in the same batch: their averages are their first means."""
    temperature, gamma = 0.2, 0.9
    table = reference.unit_vectors(6, 2, 3)
    criterion = SogCLRLoss(6, temperature, gamma).double()
    call(criterion, table, torch.tensor([1, 2, 3]))
    before = batch_means(table, [1, 2, 3], temperature)
    call(criterion, table, torch.tensor([0, 2, 3, 4]))
    now = batch_means(table, [0, 2, 3, 4], temperature)
    for slot in range(2):
        for new in (0, 4):
            assert criterion.log_u[new, slot].exp().item() == pytest.approx(now[new, slot], rel=1e-12)
        for known in (2, 3):
            expected = (1 - gamma) * before[known, slot] + gamma * now[known, slot]
            assert criterion.log_u[known, slot].exp().item() == pytest.approx(expected, rel=1e-12)
        assert criterion.log_u[1, slot].exp().item() == pytest.approx(before[1, slot], rel=1e-12)
        assert criterion.log_u[5, slot] == -math.inf


def test_each_slot_has_its_own_first_visit():
    """Slot 0 has averages and slot 1 has none: only slot 0's past counts."""
    temperature, gamma, held = 0.2, 0.9, 5.0
    table = reference.unit_vectors(4, 2, 3)
    criterion = SogCLRLoss(4, temperature, gamma).double()
    criterion.log_u[:, 0] = math.log(held)
    call(criterion, table, torch.arange(4))
    now = batch_means(table, range(4), temperature)
    for i in range(4):
        assert criterion.log_u[i, 0].exp().item() == pytest.approx((1 - gamma) * held + gamma * now[i, 0], rel=1e-12)
        assert criterion.log_u[i, 1].exp().item() == pytest.approx(now[i, 1], rel=1e-12)


@pytest.mark.parametrize("gamma", [0.1, 0.9])
@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_a_first_visit_has_the_gradient_of_dcl(temperature, gamma):
    """No factor of 2, beta or gamma. The readable loss is DCL's value, the repulsion 1."""
    table, index = reference.unit_vectors(5, 2, 3).requires_grad_(), torch.tensor([4, 0, 3])
    sogclr, dcl = SogCLRLoss(5, temperature, gamma), DCLLoss(temperature)
    found, expected = (gradient_of(criterion, table, index) for criterion in (sogclr, dcl))
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)
    assert sogclr.stats.loss.item() == pytest.approx(dcl.stats.loss.item(), rel=1e-12)
    assert sogclr.stats.repulsion.item() == pytest.approx(1, rel=1e-12)


def test_with_gamma_one_every_visit_has_the_gradient_of_dcl():
    table = reference.unit_vectors(6, 2, 3).requires_grad_()
    sogclr, generator = SogCLRLoss(6, 0.1, gamma=1), torch.Generator().manual_seed(0)
    for _ in range(10):
        index, _ = random_visit(6, 2, 3, generator)
        expected = gradient_of(DCLLoss(0.1), table, index)
        torch.testing.assert_close(gradient_of(sogclr, table, index), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("temperature", [0.01, 0.002])
def test_low_precision_is_right_at_low_temperature(temperature, dtype):
    """Raw averages reach e^500, which only float64 can hold. Against the plain loop on the rounded embeddings."""
    table = reference.unit_vectors(8, 2, 3, dtype=dtype)
    criterion, averages, generator = SogCLRLoss(8, temperature), {}, torch.Generator().manual_seed(0)
    for _ in range(20):
        index, _ = random_visit(8, 2, 4, generator)
        loss = call(criterion, table, index)
        z1, z2 = table[index].double().unbind(dim=1)
        plain, _ = reference.sogclr(averages, z1, z2, index, temperature=temperature, gamma=0.9)
        assert loss.item() == pytest.approx(plain.item(), rel=1e-3, abs=1e-3)
    assert max(averages.values()) > 1e38
    for (sample, slot), average in averages.items():
        assert criterion.log_u[sample, slot].item() == pytest.approx(math.log(average), abs=1e-3)


def means_beside(table, temperature):
    """For batches of 2: the mean over the negatives of row (i, v) beside sample i + step, (N, 2, N - 1)."""
    samples = len(table)
    means = torch.empty(samples, 2, samples - 1, dtype=torch.float64)
    for i, step in itertools.product(range(samples), range(1, samples)):
        batch = batch_means(table, [i, (i + step) % samples], temperature)
        means[i, :, step - 1] = torch.tensor([batch[i, v] for v in range(2)], dtype=torch.float64)
    return means


def averages_after(means, past, gamma):
    """u of every chain after the visits `past`: their steps (visits, N), or one step a visit for all samples alike."""
    u = None
    for steps in past:
        mean = means.gather(2, torch.as_tensor(steps).expand(len(means))[:, None, None].expand(-1, 2, 1))[..., 0]
        u = mean if u is None else (1 - gamma) * u + gamma * mean
    return u


def mean_gradient_over_all_pairs(criterion, table, u):
    """The gradient averaged over all batches of 2, each from the averages u."""
    gradients = []
    for pair in itertools.combinations(range(len(table)), 2):
        criterion.log_u.copy_(u.log())
        gradients.append(gradient_of(criterion, table, torch.tensor(pair)))
    return torch.stack(gradients).mean(dim=0)


@pytest.mark.parametrize("gamma", [0.9, 0.4])
def test_expected_weights_are_those_of_the_docstring(gamma):
    """E w(r, k) = p_r(k) E[g(r) / u_r | k in the batch], at a chain's fifth visit; 4 samples, b = 2, exactly.

    Beside a row comes one of 3 samples, so a chain has 3^4 equally likely pasts. Each is written into the state, all
    6 batches are called, and the mean gradient of the 486 calls is compared. Any number of visits will do; with
    gamma = 0.9 the fifth is within 0.1^4 of the limit.
    """
    samples, temperature = 4, 0.3
    table = reference.unit_vectors(samples, 2, 3, seed=3).requires_grad_()
    exact = table.detach()
    means = means_beside(exact, temperature)
    held = [averages_after(means, past, gamma) for past in itertools.product(range(3), repeat=4)]

    def weight(r, k):
        (i, v), step = r, (k[0] - r[0]) % samples - 1
        g = means[i, v].mean().item()
        p = math.exp((exact[r] @ exact[k]).item() / temperature) / (6 * g)
        ratios = [g / ((1 - gamma) * u[i, v] + gamma * means[i, v, step]).item() for u in held]
        return p * sum(ratios) / len(ratios)

    criterion = SogCLRLoss(samples, temperature, gamma).double()
    found = torch.stack([mean_gradient_over_all_pairs(criterion, table, u) for u in held]).mean(dim=0)
    expected = reference.weighted_gradient(exact, temperature, weight)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    bias = (expected - reference.global_gradient(exact, temperature)).norm()
    assert bias > 0.05 * expected.norm()


def test_a_small_gamma_has_a_small_bias():
    """6 samples, batches of 2, temperature 0.2: the mean gradient over all batches and 40 random pasts of 8 / gamma.

    Bias relative to the exact gradient with this seed: 0.50, 0.21, 0.09 and 0.03, with a standard error of 0.013 each.
    """
    samples, temperature = 6, 0.2
    table = reference.unit_vectors(samples, 2, 4, seed=2).requires_grad_()
    exact, generator = reference.global_gradient(table.detach(), temperature), torch.Generator().manual_seed(0)
    means, errors = means_beside(table.detach(), temperature), []
    for gamma in (1.0, 0.3, 0.1, 0.03):
        criterion = SogCLRLoss(samples, temperature, gamma).double()
        gradients = []
        for _ in range(1 if gamma == 1 else 40):
            past = torch.randint(samples - 1, (math.ceil(8 / gamma), samples), generator=generator)
            gradients.append(mean_gradient_over_all_pairs(criterion, table, averages_after(means, past, gamma)))
        errors.append(((torch.stack(gradients).mean(dim=0) - exact).norm() / exact.norm()).item())
    assert errors[0] > 0.45 and errors[1] < 0.3 and errors[2] < 0.15 and errors[3] < 0.1
    assert errors == sorted(errors, reverse=True)
