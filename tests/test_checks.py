"""Every exercise check accepts the chapter's solution, waits for an empty stub, and names each known mistake."""

import importlib
import pkgutil

import pytest
import solutions

from emc2_lite.course import Exercise, checks


def _exercises() -> list[Exercise]:
    modules = [importlib.import_module(f"{checks.__name__}.{m.name}") for m in pkgutil.iter_modules(checks.__path__)]
    return [value for module in modules for value in vars(module).values() if isinstance(value, Exercise)]


every_exercise = pytest.mark.parametrize("exercise", _exercises(), ids=lambda exercise: exercise.name)


@every_exercise
def test_the_solution_is_right(exercise):
    assert exercise.verdict(getattr(solutions.load(), exercise.name)).startswith("right")


@every_exercise
def test_an_empty_stub_is_not_written_yet(exercise):
    assert exercise.verdict(lambda *_: ...) == "not written yet"


@every_exercise
def test_each_known_mistake_is_named_to_its_maker(exercise):
    assert exercise.mistakes
    for sentence, wrong in exercise.mistakes.items():
        assert exercise.verdict(wrong).startswith(f"not yet: {sentence.rstrip('.')}.")
