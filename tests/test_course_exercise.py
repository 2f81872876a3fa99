"""What an exercise check says to learners who are right, wrong, unfinished or whose code raises."""

import numpy as np
import pytest
import torch

from emc2_lite.course import Exercise


def scaled(z, temperature):
    return z / temperature


SCALE = Exercise(
    "scale",
    scaled,
    cases=[(torch.tensor([1.0, 2.0]), 1.0), (torch.tensor([1.0, 2.0]), 0.5), (torch.ones(3, 4), 0.5)],
    mistakes={"The temperature divides, it does not multiply.": lambda z, temperature: z * temperature},
)


def in_place(z, temperature):
    return z.div_(temperature)


def raising(z, temperature):
    return z @ undefined  # noqa: F821


def only_a_docstring(z, temperature):
    """Divide."""


def only_an_error(z, temperature):
    raise NotImplementedError("later")


def without_return(z, temperature):
    z / temperature


def with_the_dots_left(z, temperature):
    z = z / temperature
    return ...


def in_place_without_return(z, temperature):
    z /= temperature


def with_a_helper(z, temperature):
    return only_an_error(z, temperature)


def difference_of_booleans(z, temperature):
    return (z > 0) - (z > temperature)


VERDICTS = {
    "right": (scaled, "right, on 3 inputs"),
    "right in other words": (lambda z, t: (z / t).numpy().astype("f4"), "right, on 3 inputs"),
    "unwritten": (lambda z, t: None, "not written yet"),
    "a docstring": (only_a_docstring, "not written yet"),
    "an error of its own": (only_an_error, "not written yet"),
    "no return": (
        without_return,
        "not yet: your function returns nothing for z = [1, 2], temperature = 1; is a return missing?",
    ),
    "dots at the end": (
        with_the_dots_left,
        "not yet: your function still returns the three dots for z = [1, 2], temperature = 1; "
        "return your result in their place",
    ),
    "in place, no return": (
        lambda z, t: in_place_without_return(z, t / 2),
        "not yet: your function changes its input z and returns nothing for z = [1, 2], temperature = 1; "
        "return a changed copy",
    ),
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
        "not yet: your function returns nothing for z = an array of shape (3, 4), temperature = 0.5; "
        "is a return missing?",
    ),
    "a list": (lambda z, t: (z / t).tolist(), "right, on 3 inputs"),
    "a list of tensors": (lambda z, t: list(z / t), "right, on 3 inputs"),
    "a list of lists of other lengths": (
        lambda z, t: [[1.0], [1.0, 2.0]],
        "not yet: got [[1], [1, 2]], expected [1, 2] for z = [1, 2], temperature = 1",
    ),
    "a small difference": (
        lambda z, t: z / t + 5e-5,
        "not yet: got [1.00005, 2.00005], expected [1, 2] for z = [1, 2], temperature = 1",
    ),
    "complex numbers": (
        lambda z, t: z / t + 0j,
        "not yet: got a Tensor, expected [1, 2] for z = [1, 2], temperature = 1",
    ),
    "a sparse tensor": (
        lambda z, t: (z / t).to_sparse(),
        "not yet: got a Tensor, expected [1, 2] for z = [1, 2], temperature = 1",
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


def test_an_exception_is_shown_with_its_line():
    line = raising.__code__.co_firstlineno + 1
    assert SCALE.verdict(raising) == (
        f"not yet: your function raises NameError at line {line} (return z @ undefined  # noqa: F821): "
        "name 'undefined' is not defined for z = [1, 2], temperature = 1"
    )


def test_an_error_in_torch_does_not_count_as_an_unwritten_function():
    line = difference_of_booleans.__code__.co_firstlineno + 1
    with pytest.raises(RuntimeError) as raised:  # NotImplementedError in newer versions of torch, a RuntimeError too
        difference_of_booleans(torch.tensor([1.0]), 1)
    said = SCALE.verdict(difference_of_booleans)
    assert said.startswith(f"not yet: your function raises {raised.type.__name__} at line {line} (return (z > 0)")
    assert "raises NotImplementedError" in SCALE.verdict(with_a_helper)


def test_calling_prints_one_line_and_hands_the_right_function_on(capsys):
    right = lambda z, t: z / t  # noqa: E731
    assert SCALE(right) is right
    assert capsys.readouterr().out == "scale: right, on 3 inputs\n"
    for wrong in (lambda z, t: z, lambda z, t: ..., lambda z, t: 1 / 0, ..., 3):
        assert SCALE(wrong) is scaled


def test_the_line_says_what_runs_the_function(capsys):
    shown = Exercise("scale", scaled, SCALE.cases, runs="the next figure")
    shown(lambda z, t: z / t)
    assert capsys.readouterr().out == "scale: right, on 3 inputs. the next figure runs your function\n"
    shown(lambda z, t: ...)
    assert capsys.readouterr().out == "scale: not written yet. the next figure runs the reference\n"


class Counter:
    def __init__(self, start):
        self.count = start

    def add(self, number):
        self.count += number
        return self.count


class Forgetful(Counter):
    def add(self, number):
        return number


class Broken(Counter):
    def add(self, number):
        return self.total + number


def sums(kind, start, numbers):
    counter = kind(start)
    return [counter.add(number) for number in numbers]


COUNTING = Exercise("counting", Counter, [(0, [1, 2]), (5, [1])], mistakes={"It forgets": Forgetful}, drive=sums)


def test_a_class_is_driven():
    assert COUNTING.verdict(Counter) == "right, on 2 inputs"
    assert COUNTING.verdict(Forgetful) == (
        "not yet: It forgets. value 2 of 2: got 2, expected 3 for start = 0, numbers = [1, 2]"
    )
    assert COUNTING.verdict(...) == "not written yet"
    line = Broken.add.__code__.co_firstlineno + 1
    assert COUNTING.verdict(Broken).startswith(f"not yet: your function raises AttributeError at line {line} (return")


def test_the_input_that_failed_is_kept_and_the_line_says_where(capsys):
    SCALE(lambda z, t: z)
    assert capsys.readouterr().out.endswith(", temperature = 0.5. checks.scale.case is the input that failed\n")
    z, temperature = SCALE.case
    assert z.tolist() == [1, 2] and temperature == 0.5
    z.zero_()
    assert SCALE.case[0].tolist() == [1, 2]
    assert SCALE.verdict(scaled) == "right, on 3 inputs"
    for learner in (scaled, lambda z, t: ..., 3):
        SCALE(learner)
        assert SCALE.case is None
        assert "that failed" not in capsys.readouterr().out


def sign(x):
    return x > 0


SIGN = Exercise(
    "sign",
    sign,
    cases=[(1.0,), (-2.0,)],
    mistakes={"It is never above.": lambda x: abs(x) < 0, "It is the other side.": lambda x: x < 0},
)


@pytest.mark.parametrize("constant", [True, False])
def test_a_constant_answer_is_no_known_mistake(constant):
    assert SIGN.verdict(lambda x: constant).startswith(f"not yet: got {constant}, expected {not constant} for x")
    assert SIGN.verdict(lambda x: x < 0).startswith("not yet: It is the other side. got")


def test_another_right_answer_is_accepted_and_the_reference_explains_the_wrong_one():
    spread = Exercise("spread", np.std, cases=[(np.arange(4.0),)], also_right=[lambda x: np.std(x, ddof=1)])
    assert spread.verdict(np.std) == spread.verdict(lambda x: np.std(x, ddof=1)) == "right"
    assert "got 1.25, expected 1.118" in spread.verdict(np.var)


def test_numbers_that_look_alike_get_more_digits_and_a_kind_of_few_digits_is_named():
    halves = Exercise("halves", lambda x: x, cases=[(torch.tensor([1.7]),), (torch.linspace(0, 1, 9),)])
    assert halves.verdict(lambda x: x.half()).startswith("not yet: got [1.7002] in float16, which holds 3 digits, exp")
    assert halves.verdict(lambda x: x.bfloat16()).startswith("not yet: got [1.703] in bfloat16, which holds 3 digits")
    assert halves.verdict(lambda x: x + 3e-5).startswith("not yet: got [1.70003], expected [1.7] for")
    assert "got 0.00012 in float16" in halves.verdict(lambda x: x if len(x) == 1 else (x + 1.2e-4).half())


def test_whole_numbers_are_compared_exactly():
    steps = Exercise("steps", lambda n: 1_000_000 * n, cases=[(1,), (2,)])
    assert steps.verdict(lambda n: 1e6 * n) == "right, on 2 inputs"
    assert "got 1000001, expected 1000000" in steps.verdict(lambda n: 1_000_000 * n + 1)


def test_cases_are_the_same_for_the_next_learner():
    SCALE.verdict(in_place)
    assert SCALE.verdict(scaled) == "right, on 3 inputs"


def test_tuples_are_compared_part_by_part():
    moments = Exercise("moments", lambda x: (x.mean(), x.var()), cases=[(np.arange(4.0),)])
    assert moments.verdict(lambda x: [x.mean(), x.var()]) == "right"
    assert "value 2 of 2: got 1.118, expected 1.25" in moments.verdict(lambda x: (x.mean(), x.std()))
    assert "returns 1 values, expected 2" in moments.verdict(lambda x: (x.mean(),))
    assert "expected 2 values" in moments.verdict(lambda x: x.mean())
    assert moments.verdict(lambda x: torch.tensor([x.mean(), x.var()])) == "right"
    assert moments.verdict(lambda x: np.array([x.mean(), x.var()])) == "right"
    assert "expected 2 values" in moments.verdict(lambda x: torch.tensor([x.mean(), x.var(), 0.0]))


def test_random_functions_get_the_same_generator():
    def draw(n, generator):
        return torch.rand(n, generator=generator)

    drawing = Exercise("draw", draw, cases=[(3, torch.Generator().manual_seed(0))])
    assert drawing.verdict(draw) == drawing.verdict(draw) == "right"
    assert "expected" in drawing.verdict(lambda n, generator: torch.rand(n, generator=generator.manual_seed(1)))


def test_gradients_reach_the_input():
    slope = Exercise("slope", lambda x: 2 * x.detach(), cases=[(torch.tensor([1.0, 3.0], requires_grad=True),)])
    assert slope.verdict(lambda x: torch.autograd.grad((x**2).sum(), x)[0]) == "right"
