"""The exercise checks of chapter 02 reject wrong answers."""

import math

import pytest
import torch
from solutions import load

from emc2_lite.course.checks.global_loss import global_loss, log_sum_from_batch, row_weights
from emc2_lite.losses import global_contrastive_loss

solutions = load()


def test_the_library_passes_the_check_of_the_loss():
    assert global_loss.verdict(global_contrastive_loss).startswith("right")


def nt_xent_of_everything(z, temperature):
    return global_contrastive_loss(z, temperature, include_positive=True)


def other_view_is_a_negative(z, temperature):
    flat = z.flatten(0, 1)
    scores = (flat @ flat.T / temperature).fill_diagonal_(-torch.inf)
    positive = torch.block_diag(*[torch.ones(z.shape[1], z.shape[1])] * len(z)).bool().fill_diagonal_(False)
    return scores.logsumexp(dim=1).mean() - scores[positive].mean()


def pairs_with_itself(z, temperature):
    log_sum = global_contrastive_loss(z, temperature) + positive_scores(z, temperature)
    return log_sum - (z @ z.mT).mean() / temperature


def positive_scores(z, temperature):
    views = z.shape[1]
    return ((z @ z.mT).sum((1, 2)) - views).mean() / (views * (views - 1)) / temperature


def divided_by_views(z, temperature):
    return global_contrastive_loss(z, temperature) * (z.shape[1] - 1) / z.shape[1]


def first_two_views(z, temperature):
    return global_contrastive_loss(z[:, :2], temperature)


def same_view_number_only(z, temperature):
    terms = []
    for v in range(z.shape[1]):
        scores = (z[:, v] @ z[:, v].T / temperature).fill_diagonal_(-torch.inf)
        terms.append(scores.logsumexp(dim=1).mean() - positive_scores(z, temperature))
    return torch.stack(terms).mean()


def each_pair_once(z, temperature):
    return pairs_chosen(z, temperature, lambda v, w: v < w)


def the_next_view_only(z, temperature):
    return pairs_chosen(z, temperature, lambda v, w: w == (v + 1) % z.shape[1])


def the_first_view_as_anchor(z, temperature):
    return pairs_chosen(z, temperature, lambda v, w: v == 0 and w > 0)


def pairs_chosen(z, temperature, chosen):
    views = range(z.shape[1])
    terms = []
    for i in range(len(z)):
        others = torch.cat((z[:i], z[i + 1 :])).flatten(0, 1)
        for v, w in [(v, w) for v in views for w in views if chosen(v, w)]:
            terms.append((others @ z[i, v] / temperature).logsumexp(0) - z[i, v] @ z[i, w] / temperature)
    return torch.stack(terms).mean()


def summed_over_rows(z, temperature):
    return global_contrastive_loss(z, temperature) * z.shape[0] * z.shape[1]


def negated(z, temperature):
    return -global_contrastive_loss(z, temperature)


def times_temperature(z, temperature):
    return global_contrastive_loss(z, 1 / temperature)


@pytest.mark.parametrize(
    "wrong",
    [
        nt_xent_of_everything,
        other_view_is_a_negative,
        pairs_with_itself,
        divided_by_views,
        first_two_views,
        same_view_number_only,
        each_pair_once,
        the_next_view_only,
        the_first_view_as_anchor,
        summed_over_rows,
        negated,
        times_temperature,
    ],
)
def test_a_wrong_loss_is_rejected(wrong):
    assert global_loss.verdict(wrong).startswith("not yet")


def softmax_of_everything(z, i, v, temperature):
    return (z @ z[i, v] / temperature).flatten().softmax(dim=0).view(z.shape[:2])


def not_itself(z, i, v, temperature):
    scores = z @ z[i, v] / temperature
    scores[i, v] = -torch.inf
    return scores.flatten().softmax(dim=0).view_as(scores)


def zeroed_scores(z, i, v, temperature):
    scores = z @ z[i, v] / temperature
    scores[i] = 0
    return scores.flatten().softmax(dim=0).view_as(scores)


def scores_of_minus_ten(z, i, v, temperature):
    scores = z @ z[i, v] / temperature
    scores[i] = -10
    return scores.flatten().softmax(dim=0).view_as(scores)


def two_views_masked(z, i, v, temperature):
    scores = z @ z[i, v] / temperature
    scores[i, :2] = -torch.inf
    return scores.flatten().softmax(dim=0).view_as(scores)


def one_view_number_masked(z, i, v, temperature):
    scores = z @ z[i, v] / temperature
    scores[:, v] = -torch.inf
    return scores.flatten().softmax(dim=0).view_as(scores)


def zeroed_weights(z, i, v, temperature):
    weights = softmax_of_everything(z, i, v, temperature)
    weights[i] = 0
    return weights


def multiplied(z, i, v, temperature):
    return solutions.row_weights(z, i, v, 1 / temperature)


def without_temperature(z, i, v, temperature):
    return solutions.row_weights(z, i, v, 1.0)


def first_view(z, i, v, temperature):
    return solutions.row_weights(z, i, 0, temperature)


def own_views_dropped(z, i, v, temperature):
    weights = solutions.row_weights(z, i, v, temperature)
    return torch.cat((weights[:i], weights[i + 1 :]))


def a_softmax_per_view(z, i, v, temperature):
    scores = z @ z[i, v] / temperature
    scores[i] = -torch.inf
    return scores.softmax(dim=0) / z.shape[1]


def logarithms(z, i, v, temperature):
    return solutions.row_weights(z, i, v, temperature).log()


@pytest.mark.parametrize(
    "wrong",
    [
        softmax_of_everything,
        not_itself,
        zeroed_scores,
        scores_of_minus_ten,
        two_views_masked,
        one_view_number_masked,
        zeroed_weights,
        multiplied,
        without_temperature,
        first_view,
        own_views_dropped,
        a_softmax_per_view,
        logarithms,
    ],
)
def test_wrong_weights_are_rejected(wrong):
    assert row_weights.verdict(wrong).startswith("not yet")


def mean_of_logs(similarities, num_samples, temperature):
    return math.log(2 * num_samples - 2) + (similarities / temperature).mean()


def not_rescaled(similarities, num_samples, temperature):
    return (similarities / temperature).logsumexp(dim=0)


def log_of_the_mean(similarities, num_samples, temperature):
    return not_rescaled(similarities, num_samples, temperature) - math.log(len(similarities))


def rescaled_sum(similarities, num_samples, temperature):
    return not_rescaled(similarities, num_samples, temperature) + math.log(2 * num_samples - 2)


def rescaled_by_the_ratio_without_log(similarities, num_samples, temperature):
    return not_rescaled(similarities, num_samples, temperature) * (2 * num_samples - 2) / len(similarities)


def own_sample_counted(similarities, num_samples, temperature):
    return log_of_the_mean(similarities, num_samples, temperature) + math.log(2 * num_samples)


def one_view_a_sample(similarities, num_samples, temperature):
    return log_of_the_mean(similarities, num_samples, temperature) + math.log(num_samples - 1)


def overflowing(similarities, num_samples, temperature):
    return ((2 * num_samples - 2) * (similarities / temperature).exp().mean()).log()


def overflowing_in_float64(similarities, num_samples, temperature):
    return overflowing(similarities.double(), num_samples, temperature)


def cut_before_it_overflows(similarities, num_samples, temperature):
    return ((2 * num_samples - 2) * (similarities / temperature).clamp(max=80).exp().mean()).log()


def own_view_left_out_twice(similarities, num_samples, temperature):
    return log_of_the_mean(similarities, num_samples, temperature) + math.log(2 * num_samples - 3)


def without_the_log(similarities, num_samples, temperature):
    return (2 * num_samples - 2) * (similarities / temperature).exp().mean()


def similarities_as_scores(similarities, num_samples, temperature):
    return log_of_the_mean(similarities, num_samples, 1.0) + math.log(2 * num_samples - 2)


def largest_score(similarities, num_samples, temperature):
    return math.log(2 * num_samples - 2) + (similarities / temperature).max()


@pytest.mark.parametrize(
    "wrong",
    [
        mean_of_logs,
        not_rescaled,
        log_of_the_mean,
        rescaled_sum,
        rescaled_by_the_ratio_without_log,
        own_sample_counted,
        one_view_a_sample,
        overflowing,
        overflowing_in_float64,
        cut_before_it_overflows,
        own_view_left_out_twice,
        without_the_log,
        similarities_as_scores,
        largest_score,
    ],
)
def test_a_wrong_estimate_is_rejected(wrong):
    assert log_sum_from_batch.verdict(wrong).startswith("not yet")
