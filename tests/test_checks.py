"""Every exercise check accepts right answers in many forms, recognises an empty stub, and refuses wrong answers.

Right and wrong answers lie in `answers`, a module for each module of checks.
"""

import importlib
import pkgutil

import numpy as np
import pytest
import solutions
import torch
from answers import runs as answers_runs

from emc2_lite.course import Exercise, checks
from emc2_lite.course.checks import runs as checks_runs

NAMES = [module.name for module in pkgutil.iter_modules(checks.__path__)]
MODULES = [importlib.import_module(f"{checks.__name__}.{name}") for name in NAMES]
ANSWERS = [importlib.import_module(f"answers.{name}") for name in NAMES]
RIGHT = [pair for answers in ANSWERS for pair in answers.RIGHT]
WRONG = [pair for answers in ANSWERS for pair in answers.WRONG]
EXERCISES = [(name, value) for module in MODULES for name, value in vars(module).items() if isinstance(value, Exercise)]
every_exercise = pytest.mark.parametrize("exercise", [value for _, value in EXERCISES], ids=lambda value: value.name)
# Those whose answer is a function of the case: what a driven answer returns in between is not compared.
every_plain_exercise = pytest.mark.parametrize(
    "exercise", [value for _, value in EXERCISES if not value.drive], ids=lambda value: value.name
)


@every_exercise
def test_the_solution_is_right(exercise):
    assert exercise.verdict(getattr(solutions.load(), exercise.name)).startswith("right")


def _in_form(answer, form):
    if isinstance(answer, tuple | list) and form in ("list", "tuple"):
        return {"list": list, "tuple": tuple}[form](_in_form(part, form) for part in answer)
    if isinstance(answer, tuple | list):
        same = len({np.shape(part) for part in answer}) == 1
        parts = [_in_form(part, form) for part in answer]
        return {"numpy": np.stack, "numbers": list}.get(form, torch.stack)(parts) if same else parts
    tensor = torch.as_tensor(answer)
    if form in ("list", "tuple", "numbers"):
        return tensor.tolist()
    if form == "numpy":
        return tensor.numpy()[()]
    return tensor.to(getattr(torch, form)) if tensor.is_floating_point() else tensor


@every_plain_exercise
@pytest.mark.parametrize("form", ["list", "tuple", "numbers", "numpy", "float32", "float64"])
def test_a_right_answer_is_right_in_every_form(exercise, form):
    solution = getattr(solutions.load(), exercise.name)
    assert exercise.verdict(lambda *inputs: _in_form(solution(*inputs), form)).startswith("right")


@every_plain_exercise
def test_whole_numbers_may_be_floats(exercise):
    solution = getattr(solutions.load(), exercise.name)

    def as_floats(*inputs):
        answer = solution(*inputs)
        return float(answer) if isinstance(answer, int) else answer

    assert exercise.verdict(as_floats).startswith("right")


@every_plain_exercise
def test_no_input_gives_the_answer_away(exercise):
    """An answer that is an argument or a constant is wrong, and a constant is not a known mistake."""
    answer = exercise.reference(*exercise.cases[0])
    for place in range(len(exercise.cases[0])):
        assert exercise.verdict(lambda *inputs, place=place: inputs[place]).startswith("not yet")
    verdict = exercise.verdict(lambda *_: answer)
    assert verdict.startswith("not yet")
    assert not any(verdict.startswith(f"not yet: {sentence.rstrip('.')}") for sentence in exercise.mistakes)


def test_the_printed_line_names_each_exercise_as_the_chapters_call_it():
    assert [value.name for _, value in EXERCISES] == [name for name, _ in EXERCISES]


@every_exercise
def test_an_empty_stub_is_not_written_yet(exercise):
    assert exercise.verdict(... if exercise.drive else lambda *_: ...) == "not written yet"


@every_exercise
def test_each_known_mistake_is_named(exercise):
    assert exercise.mistakes
    for sentence, wrong in exercise.mistakes.items():
        assert exercise.verdict(wrong).startswith(f"not yet: {sentence.rstrip('.')}.")


@pytest.mark.parametrize(("exercise", "right"), RIGHT, ids=lambda value: getattr(value, "name", ""))
def test_a_right_answer_is_accepted(exercise, right):
    assert exercise.verdict(right).startswith("right")


@pytest.mark.parametrize(("exercise", "wrong"), WRONG, ids=lambda value: getattr(value, "name", ""))
def test_a_wrong_answer_without_a_sentence_is_rejected(exercise, wrong):
    said = exercise.verdict(wrong)
    assert said.startswith("not yet: ") and "your function raises" not in said
    assert not any(said.startswith(f"not yet: {sentence.rstrip('.')}.") for sentence in exercise.mistakes)


@every_exercise
def test_each_check_is_tried_with_enough_answers(exercise):
    """Three right answers, the solution among them, and six wrong ones, the known mistakes among them."""
    assert 1 + sum(other is exercise for other, _ in RIGHT) >= 3
    assert len(exercise.mistakes) + sum(other is exercise for other, _ in WRONG) >= 6


@pytest.mark.parametrize("write", [answers_runs.as_bytes, answers_runs.as_a_copy], ids=["bytes", "a copy"])
def test_a_checkpoint_that_is_not_written_in_one_act_is_refused(write):
    said = checks_runs.survivor.verdict(answers_runs.written_by(write))
    assert said.startswith("not yet: your function raises TypeError") and "one act" in said
