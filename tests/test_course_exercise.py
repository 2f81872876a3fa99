"""What an exercise check says to learners who are right, wrong, unfinished or whose code raises."""

import numpy as np
import pytest
import torch

from emc2_lite.course import Exercise


def scaled(z, temperature):
    return z / temperature


SCALE = Exercise(
    "1.1 scaling",
    scaled,
    cases=[(torch.tensor([1.0, 2.0]), 1.0), (torch.tensor([1.0, 2.0]), 0.5), (torch.ones(3, 4), 0.5)],
    mistakes={"The temperature divides, it does not multiply.": lambda z, temperature: z * temperature},
)


def in_place(z, temperature):
    return z.div_(temperature)


def raising(z, temperature):
    return z @ undefined  # noqa: F821


VERDICTS = {
    "right": (scaled, "right, on 3 inputs"),
    "right in other words": (lambda z, t: (z / t).numpy().astype("f4"), "right, on 3 inputs"),
    "unwritten": (lambda z, t: None, "not written yet"),
    "dots": (lambda z, t: ..., "not written yet"),
    "no function": (None, "not written yet"),
    "a number": (3, "not yet: a function is expected, this is of type int"),
    "wrong on the second": (
        lambda z, t: z,
        "not yet: got [1, 2], expected [2, 4] for z = [1, 2], temperature = 0.5",
    ),
    "known mistake": (
        lambda z, t: t * z,
        "not yet: The temperature divides, it does not multiply. "
        "got [0.5, 1], expected [2, 4] for z = [1, 2], temperature = 0.5",
    ),
    "wrong shape": (
        lambda z, t: (z / t).sum(),
        "not yet: got shape (), expected shape (2,) for z = [1, 2], temperature = 1",
    ),
    "wrong kind": (lambda z, t: "z", "not yet: got z, expected [1, 2] for z = [1, 2], temperature = 1"),
    "no numbers": (
        lambda z, t: np.array(["a", "b"]),
        "not yet: got [a, b], expected [1, 2] for z = [1, 2], temperature = 1",
    ),
    "not a number": (
        lambda z, t: z / 0 * 0,
        "not yet: got [nan, nan], expected [1, 2] for z = [1, 2], temperature = 1",
    ),
    "nothing on the third": (
        lambda z, t: z / t if z.ndim == 1 else None,
        "not yet: your function returns nothing for z = an array of shape (3, 4), temperature = 0.5",
    ),
    "one number of many": (
        lambda z, t: (z / t).index_put((torch.tensor(2), torch.tensor(3)), torch.tensor(0.0)) if z.ndim == 2 else z / t,
        "not yet: 1 of 12 numbers differ, the first at [2, 3]: got 0, expected 2 "
        "for z = an array of shape (3, 4), temperature = 0.5",
    ),
    "changes its input": (
        in_place,
        "not yet: the answer is right, but the function changes its input z; work on a copy",
    ),
    "wrong arguments": (
        lambda z: z,
        "not yet: your function raises TypeError: <lambda>() takes 1 positional argument but 2 were given "
        "for z = [1, 2], temperature = 1",
    ),
}


@pytest.mark.parametrize(("learner", "expected"), VERDICTS.values(), ids=VERDICTS)
def test_verdict(learner, expected):
    assert SCALE.verdict(learner) == expected


def test_every_known_mistake_is_refused_with_its_sentence():
    for sentence, wrong in SCALE.mistakes.items():
        assert SCALE.verdict(wrong).startswith(f"not yet: {sentence}")


def test_an_exception_is_told_with_its_line():
    line = raising.__code__.co_firstlineno + 1
    assert SCALE.verdict(raising) == (
        f"not yet: your function raises NameError at line {line} (return z @ undefined  # noqa: F821): "
        "name 'undefined' is not defined for z = [1, 2], temperature = 1"
    )


def test_calling_prints_one_line_and_returns_nothing(capsys):
    assert SCALE(scaled) is None
    assert capsys.readouterr().out == "1.1 scaling: right, on 3 inputs\n"


def test_cases_are_the_same_for_the_next_learner():
    SCALE.verdict(in_place)
    assert SCALE.verdict(scaled) == "right, on 3 inputs"


def test_tuples_are_compared_part_by_part():
    moments = Exercise("moments", lambda x: (x.mean(), x.var()), cases=[(np.arange(4.0),)])
    assert moments.verdict(lambda x: [x.mean(), x.var()]) == "right"
    assert "value 2 of 2: got 1.118, expected 1.25" in moments.verdict(lambda x: (x.mean(), x.std()))
    assert "returns 1 values, expected 2" in moments.verdict(lambda x: (x.mean(),))
    assert "expected 2 values" in moments.verdict(lambda x: x.mean())


def test_random_functions_get_the_same_generator():
    def draw(n, generator):
        return torch.rand(n, generator=generator)

    drawing = Exercise("draw", draw, cases=[(3, torch.Generator().manual_seed(0))])
    assert drawing.verdict(draw) == drawing.verdict(draw) == "right"
    assert "expected" in drawing.verdict(lambda n, generator: torch.rand(n, generator=generator.manual_seed(1)))


def test_gradients_reach_the_input():
    slope = Exercise("slope", lambda x: 2 * x.detach(), cases=[(torch.tensor([1.0, 3.0], requires_grad=True),)])
    assert slope.verdict(lambda x: torch.autograd.grad((x**2).sum(), x)[0]) == "right"
