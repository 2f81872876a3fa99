"""Exercises of chapter 04; in the mistakes: similarities s, temperature t, uniform number u, epsilon e."""

from functools import partial
from math import ceil, exp, log, log10

import torch

from emc2_lite.course.checks import wrong_temperatures
from emc2_lite.course.exercise import Exercise


def _accepts(new, held, temperature, uniform):
    return new / temperature - log(uniform) > held / temperature


def _decisions(count):
    """Random arguments, none of them close to a tie."""
    generator = torch.Generator().manual_seed(0)
    cases = []
    while len(cases) < count:
        new, held, place, uniform = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
        case = round(2 * new - 1, 2), round(2 * held - 1, 2), (0.2, 0.5, 1.0, 2.0)[int(4 * place)], round(uniform, 2)
        if 0 < case[3] < 1 and abs((case[0] - case[1]) / case[2] - log(case[3])) > 0.02:
            cases.append(case)
    return cases


accepts = Exercise(
    "accepts",
    _accepts,
    cases=[
        *((0.5, 0.3, 0.2, uniform) for uniform in (0.99, 0.05)),
        *((0.3, 0.5, 0.2, uniform) for uniform in (0.36, 0.38, 0.05, 0.9)),
        (0.3, 0.5, 0.07, 0.05),
        (0.3, 0.5, 1.0, 0.75),
        (-0.2, -0.6, 0.5, 0.9),
        *((-0.6, -0.2, 0.5, uniform) for uniform in (0.5, 0.4)),
        (0.25, 0.25, 0.3, 0.7),
        *_decisions(40),
    ],
    mistakes={
        "This subtracts U itself: the bonus is -log U": lambda new, held, t, u: new / t - u > held / t,
        "Accept when U is below p(new) / p(held), not above": lambda new, held, t, u: u > exp((new - held) / t),
        "This walker only climbs: U decides whether a lower score is accepted": lambda new, held, t, u: new > held,
        "log U is negative, so adding it is a penalty: subtract it": lambda new, held, t, u: (new - held) / t > -log(u),
        **wrong_temperatures(_accepts),
    },
)


def _transitions(similarities, temperature, proposals_among=0, inverted=False, remainder=True):
    scores = similarities / temperature
    m = len(scores)
    ratio = (scores - scores[:, None]).exp()
    matrix = (1 / ratio if inverted else ratio).clamp(max=1) / (m + proposals_among)
    matrix.fill_diagonal_(0)
    return matrix + torch.diag(1 - matrix.sum(dim=1)) if remainder else matrix


step_matrix = Exercise(
    "step_matrix",
    _transitions,
    cases=[
        (torch.tensor([0.6, 0.1, -0.3]), 0.2),
        (torch.tensor([0.0, 0.5]), 1.0),
        (torch.tensor([0.9, 0.85, 0.2, -0.4, 0.2]), 0.07),
        (torch.tensor([0.1, 0.1, 0.1, 0.1]), 0.5),
    ],
    mistakes={
        "The diagonal is missing: rejected moves stay, so each row sums to 1": partial(_transitions, remainder=False),
        "The diagonal holds only the proposal of the state itself: every rejected proposal stays there too": (
            lambda s, t: _transitions(s, t, remainder=False) + torch.eye(len(s)) / len(s)
        ),
        "A proposal is one of all m states, z itself included: divide by m": partial(_transitions, proposals_among=-1),
        "The ratio is upside down: accept the move from z to z' with probability min(1, p(z') / p(z))": (
            partial(_transitions, inverted=True)
        ),
        "This matrix is transposed: entry [z, z'] is the move from z to z'": lambda s, t: _transitions(s, t).T,
        **wrong_temperatures(_transitions),
    },
)


def _gap(similarities, temperature):
    return 1 / (len(similarities) * (similarities / temperature).softmax(dim=0).max().item())


def _steps_to_forget(similarities, temperature, epsilon, gap=_gap, rounded=ceil):
    return rounded(log(epsilon) / log(1 - gap(similarities, temperature)))


steps_to_forget = Exercise(
    "steps_to_forget",
    _steps_to_forget,
    cases=[
        (torch.tensor([0.6, 0.1, -0.3, 0.2]), 0.2, 0.01),
        (torch.tensor([0.9, 0.85, 0.2, -0.4, 0.2, 0.0]), 0.07, 0.001),
        (torch.tensor([0.3, -0.3]), 1.0, 0.1),
        (torch.linspace(-0.8, 0.8, 100), 0.1, 0.05),
        (torch.tensor([-0.5, 0.9, -0.9, -0.7]), 1.0, 1e-12),
    ],
    mistakes={
        "The gap is 1 / (m p_max), not p_max / m": (
            partial(_steps_to_forget, gap=lambda s, t: (s / t).softmax(dim=0).max().item() / len(s))
        ),
        "The walker takes whole steps: round up": partial(_steps_to_forget, rounded=float),
        "Rounded down, the bound is still above epsilon: round up": partial(_steps_to_forget, rounded=int),
        "Both logarithms need the same base": lambda s, t, e: ceil(log10(e) / log(1 - _gap(s, t))),
        "1 / gap steps divide the distance by about e = 2.7, whatever epsilon is": lambda s, t, e: ceil(1 / _gap(s, t)),
        "log(1 - gap) is not -gap: these are a few steps too many": lambda s, t, e: ceil(-log(e) / _gap(s, t)),
        **wrong_temperatures(_steps_to_forget),
    },
)
