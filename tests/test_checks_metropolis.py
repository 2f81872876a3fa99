"""The exercise checks of chapter 04 reject wrong answers."""

import math

import pytest
import torch
from solutions import load

from emc2_lite.course.checks.metropolis import accepts, step_matrix, steps_to_forget

solutions = load()


def no_logarithm(new, held, temperature, uniform):
    return new / temperature - uniform > held / temperature


def ratio_reversed(new, held, temperature, uniform):
    return uniform > math.exp((new - held) / temperature)


def uphill_only(new, held, temperature, uniform):
    return new >= held


def always(new, held, temperature, uniform):
    return True


def coin(new, held, temperature, uniform):
    return new > held or uniform < 0.5


def similarities_not_scores(new, held, temperature, uniform):
    return uniform < math.exp(new - held)


def ratio_of_similarities(new, held, temperature, uniform):
    return uniform < new / held


def barker(new, held, temperature, uniform):
    return uniform < 1 / (1 + math.exp((held - new) / temperature))


def never(new, held, temperature, uniform):
    return False


def distance_only(new, held, temperature, uniform):
    return uniform < math.exp(-abs(new - held) / temperature)


def other_logarithm(new, held, temperature, uniform):
    return (new - held) / temperature > math.log10(uniform)


def sizes_compared(new, held, temperature, uniform):
    return abs(new) / temperature - math.log(uniform) > abs(held) / temperature


def one_temperature_forgotten(new, held, temperature, uniform):
    return new / temperature - math.log(uniform) > held


def bonus_divided_too(new, held, temperature, uniform):
    return (new - math.log(uniform)) / temperature > held / temperature


@pytest.mark.parametrize(
    "wrong",
    [
        never,
        distance_only,
        other_logarithm,
        sizes_compared,
        one_temperature_forgotten,
        bonus_divided_too,
        no_logarithm,
        ratio_reversed,
        uphill_only,
        always,
        coin,
        similarities_not_scores,
        ratio_of_similarities,
        barker,
    ],
)
def test_a_wrong_acceptance_is_rejected(wrong):
    assert accepts.verdict(wrong).startswith("not yet")


def no_remainder(similarities, temperature):
    scores = similarities / temperature
    matrix = (scores - scores[:, None]).exp().clamp(max=1) / len(scores)
    return matrix.fill_diagonal_(0)


def diagonal_not_removed_first(similarities, temperature):
    scores = similarities / temperature
    return (scores - scores[:, None]).exp().clamp(max=1) / len(scores)


def among_the_others(similarities, temperature):
    matrix = no_remainder(similarities, temperature) * len(similarities) / (len(similarities) - 1)
    return matrix + torch.diag(1 - matrix.sum(dim=1))


def upside_down(similarities, temperature):
    return solutions.step_matrix(-similarities, temperature)


def no_clamp(similarities, temperature):
    scores = similarities / temperature
    matrix = ((scores - scores[:, None]).exp() / len(scores)).fill_diagonal_(0)
    return matrix + torch.diag(1 - matrix.sum(dim=1))


def normalised_rows(similarities, temperature):
    scores = similarities / temperature
    return (scores - scores[:, None]).clamp(max=0).softmax(dim=1)


def softmax_at_once(similarities, temperature):
    return (similarities / temperature).softmax(dim=0).expand(len(similarities), -1)


def temperature_forgotten(similarities, temperature):
    return solutions.step_matrix(similarities, 1.0)


def barker_matrix(similarities, temperature):
    scores = similarities / temperature
    matrix = ((scores - scores[:, None]).sigmoid() / len(scores)).fill_diagonal_(0)
    return matrix + torch.diag(1 - matrix.sum(dim=1))


def remainder_of_the_columns(similarities, temperature):
    matrix = no_remainder(similarities, temperature)
    return matrix + torch.diag(1 - matrix.sum(dim=0))


def rows_scaled_to_one(similarities, temperature):
    matrix = no_remainder(similarities, temperature)
    return matrix / matrix.sum(dim=1, keepdim=True)


def two_steps(similarities, temperature):
    return torch.linalg.matrix_power(solutions.step_matrix(similarities, temperature), 2)


@pytest.mark.parametrize(
    "wrong",
    [
        barker_matrix,
        remainder_of_the_columns,
        rows_scaled_to_one,
        two_steps,
        no_remainder,
        diagonal_not_removed_first,
        among_the_others,
        upside_down,
        no_clamp,
        normalised_rows,
        softmax_at_once,
        temperature_forgotten,
    ],
)
def test_a_wrong_matrix_is_rejected(wrong):
    assert step_matrix.verdict(wrong).startswith("not yet")


def p_max(similarities, temperature):
    return (similarities / temperature).softmax(dim=0).max().item()


def gap_upside_down(similarities, temperature, epsilon):
    return math.ceil(math.log(epsilon) / math.log(1 - p_max(similarities, temperature) / len(similarities)))


def not_rounded(similarities, temperature, epsilon):
    return math.log(epsilon) / math.log(1 - 1 / (len(similarities) * p_max(similarities, temperature)))


def rounded_to_nearest(similarities, temperature, epsilon):
    return round(not_rounded(similarities, temperature, epsilon))


def one_step_more(similarities, temperature, epsilon):
    return math.floor(not_rounded(similarities, temperature, epsilon)) + 2


def mixed_bases(similarities, temperature, epsilon):
    return math.ceil(math.log2(epsilon) / math.log(1 - 1 / (len(similarities) * p_max(similarities, temperature))))


def first_order(similarities, temperature, epsilon):
    return math.ceil(len(similarities) * p_max(similarities, temperature) * -math.log(epsilon))


def without_m(similarities, temperature, epsilon):
    return math.ceil(math.log(epsilon) / math.log(1 - p_max(similarities, temperature)))


def worst_case(similarities, temperature, epsilon):
    return math.ceil(math.log(epsilon) / math.log1p(-math.exp(-2 / temperature)))


def negative_similarities_cut(similarities, temperature, epsilon):
    return solutions.steps_to_forget(similarities.clamp_min(0), temperature, epsilon)


def half_of_epsilon(similarities, temperature, epsilon):
    return solutions.steps_to_forget(similarities, temperature, epsilon / 2)


def linear(similarities, temperature, epsilon):
    return math.ceil((1 - epsilon) * len(similarities) * p_max(similarities, temperature))


@pytest.mark.parametrize(
    "wrong",
    [
        negative_similarities_cut,
        half_of_epsilon,
        linear,
        gap_upside_down,
        not_rounded,
        rounded_to_nearest,
        one_step_more,
        mixed_bases,
        first_order,
        without_m,
        worst_case,
    ],
)
def test_a_wrong_number_of_steps_is_rejected(wrong):
    assert steps_to_forget.verdict(wrong).startswith("not yet")
