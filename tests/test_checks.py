"""Every exercise check accepts the chapter's solution, waits for an empty stub, and names each known mistake."""

import importlib
import importlib.util
import pkgutil
from pathlib import Path

import pytest

from emc2_lite.course import Exercise, checks

SOLUTIONS = Path(__file__).parents[1] / "chapters" / "solutions"


def _solutions() -> dict:
    """The functions of all solution files by name; names are unique across chapters."""
    functions = {}
    for path in sorted(SOLUTIONS.glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"solutions_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        defined = {n: f for n, f in vars(module).items() if getattr(f, "__module__", "") == module.__name__}
        assert not functions.keys() & defined.keys(), f"{path.name} uses a name of another chapter"
        functions |= defined
    return functions


def _exercises() -> list[Exercise]:
    modules = [importlib.import_module(f"{checks.__name__}.{m.name}") for m in pkgutil.iter_modules(checks.__path__)]
    return [value for module in modules for value in vars(module).values() if isinstance(value, Exercise)]


every_exercise = pytest.mark.parametrize("exercise", _exercises(), ids=lambda exercise: exercise.name)


@every_exercise
def test_the_solution_is_right(exercise):
    assert exercise.verdict(_solutions()[exercise.name]).startswith("right")


@every_exercise
def test_an_empty_stub_is_not_written_yet(exercise):
    assert exercise.verdict(lambda *_: ...) == "not written yet"


@every_exercise
def test_each_known_mistake_is_named_to_its_maker(exercise):
    assert exercise.mistakes
    for sentence, wrong in exercise.mistakes.items():
        assert exercise.verdict(wrong).startswith(f"not yet: {sentence.rstrip('.')}.")
