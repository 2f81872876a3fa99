"""The exercise checks of chapter 01 reject wrong answers."""

import math

import pytest
import torch
from solutions import load
from torch.nn import functional as F

from emc2_lite.course.checks.contrastive import batch_logits, effective_negatives, paired_nt_xent
from emc2_lite.course.figures.contrastive import effective_number
from emc2_lite.losses import NTXentLoss

solutions = load()


def test_the_solution_is_the_library_s_loss_in_another_layout():
    z = F.normalize(torch.randn(12, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64), dim=1)
    expected = NTXentLoss(0.3)(z[::2], z[1::2], torch.arange(6))
    torch.testing.assert_close(solutions.paired_nt_xent(z, 0.3), expected)


def test_n_equal_shares_are_n_effective_negatives():
    equal = torch.cat((torch.full((7,), 0.5), torch.full((20,), -0.5))).double()
    assert effective_number(equal, 0.01).item() == pytest.approx(7)
    torch.testing.assert_close(effective_number(equal, 0.4), solutions.effective_negatives(equal, 0.4))


def multiplied(h1, h2, temperature):
    z = F.normalize(torch.cat((h1, h2)), dim=1)
    return z @ z.T * temperature


def raw(h1, h2, temperature):
    h = torch.cat((h1, h2))
    return h @ h.T / temperature


def normalised_over_all(h1, h2, temperature):
    h = torch.cat((h1, h2))
    h = h / h.norm()
    return h @ h.T / temperature


def sum_to_one(h1, h2, temperature):
    h = torch.cat((h1, h2))
    h = h / h.sum(dim=1, keepdim=True)
    return h @ h.T / temperature


def root_of_the_temperature_forgotten(h1, h2, temperature):
    z = F.normalize(torch.cat((h1, h2)), dim=1) / temperature
    return z @ z.T


def second_view_first(h1, h2, temperature):
    return solutions.batch_logits(h2, h1, temperature)


def first_view_only(h1, h2, temperature):
    return solutions.batch_logits(h1, h1, temperature)


def one_block(h1, h2, temperature):
    return F.normalize(h1, dim=1) @ F.normalize(h2, dim=1).T / temperature


def softmax_taken(h1, h2, temperature):
    return solutions.batch_logits(h1, h2, temperature).softmax(dim=1)


def diagonal_taken_out(h1, h2, temperature):
    return solutions.batch_logits(h1, h2, temperature).fill_diagonal_(-math.inf)


def distances(h1, h2, temperature):
    z = F.normalize(torch.cat((h1, h2)), dim=1)
    return -torch.cdist(z, z).square() / temperature


def lower_left_block_not_transposed(h1, h2, temperature):
    a, b = F.normalize(h1, dim=1), F.normalize(h2, dim=1)
    return torch.cat((torch.cat((a @ a.T, a @ b.T), 1), torch.cat((a @ b.T, b @ b.T), 1))) / temperature


def only_positive_similarities(h1, h2, temperature):
    return solutions.batch_logits(h1, h2, temperature).clamp_min(0)


def sizes_of_similarities(h1, h2, temperature):
    return solutions.batch_logits(h1, h2, temperature).abs()


@pytest.mark.parametrize(
    "wrong",
    [
        multiplied,
        raw,
        normalised_over_all,
        sum_to_one,
        root_of_the_temperature_forgotten,
        second_view_first,
        first_view_only,
        one_block,
        softmax_taken,
        diagonal_taken_out,
        distances,
        lower_left_block_not_transposed,
        only_positive_similarities,
        sizes_of_similarities,
    ],
)
def test_wrong_logits_are_rejected(wrong):
    assert batch_logits.verdict(wrong).startswith("not yet")


def in_halves(z, temperature):
    return NTXentLoss(temperature)(*z.chunk(2), torch.arange(len(z) // 2))


def own_row_kept(z, temperature):
    return F.cross_entropy(z @ z.T / temperature, torch.arange(len(z)) ^ 1)


def own_row_at_zero(z, temperature):
    return F.cross_entropy((z @ z.T / temperature).fill_diagonal_(0), torch.arange(len(z)) ^ 1)


def own_row_at_minus_ten(z, temperature):
    return F.cross_entropy((z @ z.T / temperature).fill_diagonal_(-10), torch.arange(len(z)) ^ 1)


def one_sum_for_all_rows(z, temperature):
    logits = (z @ z.T / temperature).fill_diagonal_(-math.inf)
    rows = torch.arange(len(z))
    return logits.flatten().logsumexp(0) - logits[rows, rows ^ 1].mean()


def without_the_positive(z, temperature):
    logits = z @ z.T / temperature
    pairs = torch.eye(len(z) // 2, dtype=torch.bool).repeat_interleave(2, 0).repeat_interleave(2, 1)
    positive = logits[torch.arange(len(z)), torch.arange(len(z)) ^ 1]
    return (logits.masked_fill(pairs, -math.inf).logsumexp(1) - positive).mean()


def first_rows(z, temperature):
    logits = (z @ z.T / temperature).fill_diagonal_(-math.inf)
    return F.cross_entropy(logits[::2], torch.arange(1, len(z), 2))


def first_half_of_the_rows(z, temperature):
    logits = (z @ z.T / temperature).fill_diagonal_(-math.inf)
    b = len(z) // 2
    return F.cross_entropy(logits[:b], torch.arange(b) ^ 1)


def one_direction(z, temperature):
    return F.cross_entropy(z[::2] @ z[1::2].T / temperature, torch.arange(len(z) // 2))


def next_row(z, temperature):
    logits = (z @ z.T / temperature).fill_diagonal_(-math.inf)
    return F.cross_entropy(logits, (torch.arange(len(z)) + 1) % len(z))


def temperature_ignored(z, temperature):
    return solutions.paired_nt_xent(z, 1.0)


def summed(z, temperature):
    return solutions.paired_nt_xent(z, temperature) * len(z)


def divided_by_b(z, temperature):
    return solutions.paired_nt_xent(z, temperature) * 2


def multiplied_by_temperature(z, temperature):
    return solutions.paired_nt_xent(z, temperature) * temperature


def a_loss_a_row(z, temperature):
    logits = (z @ z.T / temperature).fill_diagonal_(-math.inf)
    return F.cross_entropy(logits, torch.arange(len(z)) ^ 1, reduction="none")


def in_bits(z, temperature):
    return solutions.paired_nt_xent(z, temperature) / math.log(2)


@pytest.mark.parametrize(
    "wrong",
    [
        in_halves,
        own_row_kept,
        own_row_at_zero,
        own_row_at_minus_ten,
        one_sum_for_all_rows,
        without_the_positive,
        first_rows,
        first_half_of_the_rows,
        one_direction,
        next_row,
        temperature_ignored,
        summed,
        divided_by_b,
        multiplied_by_temperature,
        a_loss_a_row,
        in_bits,
    ],
)
def test_a_wrong_nt_xent_is_rejected(wrong):
    assert paired_nt_xent.verdict(wrong).startswith("not yet")


def entropy(similarities, temperature):
    p = (similarities / temperature).softmax(0)
    return -torch.xlogy(p, p).sum()


def not_exponentiated(similarities, temperature):
    return entropy(similarities, temperature)


def bits(similarities, temperature):
    return entropy(similarities, temperature) / math.log(2)


def two_to_the_nats(similarities, temperature):
    return 2 ** entropy(similarities, temperature)


def e_to_the_bits(similarities, temperature):
    return bits(similarities, temperature).exp()


def one_over_the_largest(similarities, temperature):
    return 1 / (similarities / temperature).softmax(0).max()


def participation_ratio(similarities, temperature):
    return 1 / (similarities / temperature).softmax(0).square().sum()


def plain_logarithm(similarities, temperature):
    p = (similarities / temperature).softmax(0)
    return (-(p * p.log()).sum()).exp()


def a_small_number_added(similarities, temperature):
    p = (similarities / temperature).softmax(0)
    return (-(p * (p + 0.001).log()).sum()).exp()


def no_temperature(similarities, temperature):
    return entropy(similarities, 1.0).exp()


def temperature_upside_down(similarities, temperature):
    return entropy(similarities, 1 / temperature).exp()


def raw_exponentials(similarities, temperature):
    shares = (similarities / temperature).exp() / (similarities / temperature).exp().sum()
    return (-torch.xlogy(shares, shares).sum()).exp()


def all_of_them(similarities, temperature):
    return torch.tensor(len(similarities), dtype=torch.float64)


def the_positive_sign(similarities, temperature):
    return (-entropy(similarities, temperature)).exp()


@pytest.mark.parametrize(
    "wrong",
    [
        not_exponentiated,
        bits,
        two_to_the_nats,
        e_to_the_bits,
        one_over_the_largest,
        participation_ratio,
        plain_logarithm,
        a_small_number_added,
        no_temperature,
        temperature_upside_down,
        raw_exponentials,
        all_of_them,
        the_positive_sign,
    ],
)
def test_a_wrong_effective_number_is_rejected(wrong):
    assert effective_negatives.verdict(wrong).startswith("not yet")
