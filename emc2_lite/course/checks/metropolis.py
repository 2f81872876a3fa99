"""Exercises of chapter 04."""

import math

import torch

from emc2_lite.course.exercise import Exercise


def _accepts(new, held, temperature, uniform):
    return new / temperature - math.log(uniform) > held / temperature


def _decisions(count):
    """Arguments drawn at random, of which none is close to a draw."""
    generator = torch.Generator().manual_seed(0)
    cases = []
    while len(cases) < count:
        new, held, place, uniform = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
        case = round(2 * new - 1, 2), round(2 * held - 1, 2), (0.2, 0.5, 1.0, 2.0)[int(4 * place)], round(uniform, 2)
        if 0 < case[3] < 1 and abs((case[0] - case[1]) / case[2] - math.log(case[3])) > 0.02:
            cases.append(case)
    return cases


accepts = Exercise(
    "accepts",
    _accepts,
    cases=[
        (0.5, 0.3, 0.2, 0.99),
        (0.5, 0.3, 0.2, 0.05),
        (0.3, 0.5, 0.2, 0.36),
        (0.3, 0.5, 0.2, 0.38),
        (0.3, 0.5, 0.2, 0.05),
        (0.3, 0.5, 0.2, 0.9),
        (0.3, 0.5, 0.07, 0.05),
        (0.3, 0.5, 1.0, 0.75),
        (-0.2, -0.6, 0.5, 0.9),
        (-0.6, -0.2, 0.5, 0.5),
        (-0.6, -0.2, 0.5, 0.4),
        (0.25, 0.25, 0.3, 0.7),
        *_decisions(40),
    ],
    mistakes={
        "The uniform number is used as it is: the bonus is -log U": (
            lambda new, held, temperature, uniform: new / temperature - uniform > held / temperature
        ),
        "U and the ratio are the wrong way round: accept when U is below p(new) / p(held)": (
            lambda new, held, temperature, uniform: uniform > math.exp((new - held) / temperature)
        ),
        "This walker climbs only: a lower score must be accepted sometimes, and that is what U is for": (
            lambda new, held, temperature, uniform: new > held
        ),
        "The temperature is missing: a score is a similarity divided by the temperature": (
            lambda new, held, temperature, uniform: new - math.log(uniform) > held
        ),
        "The similarities are multiplied by the temperature: divide": (
            lambda new, held, temperature, uniform: (new - held) * temperature > math.log(uniform)
        ),
        "log U is negative, so adding it is a penalty: subtract it": (
            lambda new, held, temperature, uniform: new / temperature + math.log(uniform) > held / temperature
        ),
    },
)


def _transitions(similarities, temperature, proposals_among=0, inverted=False, remainder=True):
    scores = similarities / temperature
    m = len(scores)
    ratio = (scores - scores[:, None]).exp()
    matrix = (1 / ratio if inverted else ratio).clamp(max=1) / (m + proposals_among)
    matrix.fill_diagonal_(0)
    return matrix + torch.diag(1 - matrix.sum(dim=1)) if remainder else matrix


def _step_matrix(similarities, temperature):
    return _transitions(similarities, temperature)


def _diagonal_one_over_m(similarities, temperature):
    return _transitions(similarities, temperature, remainder=False) + torch.eye(len(similarities)) / len(similarities)


step_matrix = Exercise(
    "step_matrix",
    _step_matrix,
    cases=[
        (torch.tensor([0.6, 0.1, -0.3]), 0.2),
        (torch.tensor([0.0, 0.5]), 1.0),
        (torch.tensor([0.9, 0.85, 0.2, -0.4, 0.2]), 0.07),
        (torch.tensor([0.1, 0.1, 0.1, 0.1]), 0.5),
    ],
    mistakes={
        "The diagonal is missing: what is not moved stays, so each row must sum to 1": (
            lambda similarities, temperature: _transitions(similarities, temperature, remainder=False)
        ),
        "The diagonal holds only the proposal of the state itself; every rejected proposal stays there too": (
            _diagonal_one_over_m
        ),
        "A proposal is one of all m states, the state itself included: divide by m, not by m - 1": (
            lambda similarities, temperature: _transitions(similarities, temperature, proposals_among=-1)
        ),
        "The ratio is upside down: moving from z to z' is accepted with min(1, p(z') / p(z))": (
            lambda similarities, temperature: _transitions(similarities, temperature, inverted=True)
        ),
        "Entry [z, z'] is the move from z to z'; this matrix has it the other way": (
            lambda similarities, temperature: _transitions(similarities, temperature).T
        ),
        "The temperature is missing: a score is a similarity divided by the temperature": (
            lambda similarities, temperature: _transitions(similarities, 1.0)
        ),
    },
)


def _gap(similarities, temperature):
    return 1 / (len(similarities) * (similarities / temperature).softmax(dim=0).max().item())


def _steps(gap, epsilon):
    return math.log(epsilon) / math.log(1 - gap)


steps_to_forget = Exercise(
    "steps_to_forget",
    lambda similarities, temperature, epsilon: math.ceil(_steps(_gap(similarities, temperature), epsilon)),
    cases=[
        (torch.tensor([0.6, 0.1, -0.3, 0.2]), 0.2, 0.01),
        (torch.tensor([0.9, 0.85, 0.2, -0.4, 0.2, 0.0]), 0.07, 0.001),
        (torch.tensor([0.3, -0.3]), 1.0, 0.1),
        (torch.linspace(-0.8, 0.8, 100), 0.1, 0.05),
        (torch.tensor([-0.5, 0.9, -0.9, -0.7]), 1.0, 1e-12),
    ],
    mistakes={
        "The gap is 1 / (m p_max), not p_max / m": lambda similarities, temperature, epsilon: math.ceil(
            _steps(1 / (_gap(similarities, temperature) * len(similarities) ** 2), epsilon)
        ),
        "The walker takes whole steps: round up": lambda similarities, temperature, epsilon: _steps(
            _gap(similarities, temperature), epsilon
        ),
        "Rounded down, the bound is still above epsilon: round up": lambda similarities, temperature, epsilon: int(
            _steps(_gap(similarities, temperature), epsilon)
        ),
        "Both logarithms need the same base": lambda similarities, temperature, epsilon: math.ceil(
            math.log10(epsilon) / math.log(1 - _gap(similarities, temperature))
        ),
        "1 / gap steps shrink the distance by about e = 2.7, whatever epsilon is": (
            lambda similarities, temperature, epsilon: math.ceil(1 / _gap(similarities, temperature))
        ),
        "The temperature is missing: p is the softmax of similarity / temperature": (
            lambda similarities, temperature, epsilon: math.ceil(_steps(_gap(similarities, 1.0), epsilon))
        ),
        "log(1 - gap) is not -gap: this is a few steps more than the bound needs": (
            lambda similarities, temperature, epsilon: math.ceil(-math.log(epsilon) / _gap(similarities, temperature))
        ),
    },
)
