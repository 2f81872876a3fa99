"""Solutions to the exercises of chapter 04."""

import math

import torch


def accepts(new, held, temperature, uniform):
    """Scores are similarities divided by the temperature, and -log U is the newcomer's bonus.

    `uniform < math.exp((new - held) / temperature)` is the same decision; the log form does not overflow.
    """
    return new / temperature - math.log(uniform) > held / temperature


def step_matrix(similarities, temperature):
    """Off the diagonal: proposed with probability 1/m, then accepted with min(1, p(z') / p(z)).

    The diagonal takes the rest: the proposal of z itself and all the rejected ones.
    """
    scores = similarities / temperature
    matrix = (scores[None, :] - scores[:, None]).exp().clamp(max=1) / len(scores)
    matrix.fill_diagonal_(0)
    return matrix + torch.diag(1 - matrix.sum(dim=1))


def steps_to_forget(similarities, temperature, epsilon):
    """Solve (1 - gap)^t = epsilon for t with gap = 1 / (m p_max), and round up: steps are whole."""
    p_max = (similarities / temperature).softmax(dim=0).max().item()
    gap = 1 / (len(similarities) * p_max)
    return math.ceil(math.log(epsilon) / math.log(1 - gap))
