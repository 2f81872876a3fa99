"""The frame of an exercise check: run a learner's function beside a reference, say in one line how it went."""

import copy
import inspect
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Exercise:
    """A task with a known answer. Call it with a learner's function; it prints one line and never raises.

    name: what the line begins with.
    reference: the right function.
    cases: tuples of positional arguments on which both are run, each on its own copy.
    tolerance: largest difference that still counts as equal, absolute for numbers below 1 and relative above.
    mistakes: wrong functions by the sentence to show for a learner whose answers are theirs on every case.
    """

    name: str
    reference: Callable
    cases: Sequence[tuple]
    tolerance: float = 1e-5
    mistakes: Mapping[str, Callable] = field(default_factory=dict)

    def __call__(self, learner: Any) -> None:
        print(f"{self.name}: {self.verdict(learner)}")

    def verdict(self, learner: Any) -> str:
        """The line without the name: "right ...", "not written yet", or "not yet: ..." and what differs."""
        if learner is None or learner is ...:
            return "not written yet"
        if not callable(learner):
            return f"not yet: a function is expected, this is of type {type(learner).__name__}"
        for number, case in enumerate(self.cases):
            problem = self._problem(learner, case)
            if number == 0 and problem.startswith(_UNWRITTEN):
                return "not written yet"
            if problem:
                return f"not yet: {self._recognised(learner)}{problem}"
        return f"right, on {len(self.cases)} inputs" if len(self.cases) > 1 else "right"

    def _problem(self, learner: Callable, case: tuple) -> str:
        """What is wrong with the learner's answer on one case, or an empty string."""
        inputs, expected = _copied(case), self.reference(*_copied(case))
        given = self._described(case)
        try:
            got = learner(*inputs)
        except NotImplementedError:
            return f"{_UNWRITTEN} {given}"
        except Exception as error:
            return f"your function raises {type(error).__name__}{_place(error, learner)}: {_first_line(error)} {given}"
        if got is None or got is ...:
            return f"{_UNWRITTEN} {given}"
        difference = _difference(got, expected, self.tolerance)
        if difference:
            return f"{difference} {given}"
        for name, before, after in zip(self._names(), case, inputs, strict=False):
            if _difference(after, before, 0):
                return f"the answer is right, but the function changes its input {name}; work on a copy"
        return ""

    def _recognised(self, learner: Callable) -> str:
        """The sentence of the mistake that gives the learner's answers on every case, or an empty string."""
        for sentence, wrong in self.mistakes.items():
            try:
                if not any(
                    _difference(learner(*_copied(case)), wrong(*_copied(case)), self.tolerance) for case in self.cases
                ):
                    return f"{sentence.rstrip('.')}. "
            except Exception:  # a learner's or a mistake's own error: it is not this mistake
                continue
        return ""

    def _names(self) -> list[str]:
        return list(inspect.signature(self.reference).parameters)

    def _described(self, case: tuple) -> str:
        return "for " + ", ".join(f"{name} = {_text(value)}" for name, value in zip(self._names(), case, strict=False))


_UNWRITTEN = "your function returns nothing"


def _copied(value: Any) -> Any:
    if isinstance(value, tuple) and type(value) is tuple:
        return tuple(_copied(item) for item in value)
    if isinstance(value, torch.Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    if isinstance(value, torch.Generator):
        return value.clone_state()
    return copy.deepcopy(value)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or "no message").splitlines()[0].rstrip(".")


def _place(error: Exception, learner: Callable) -> str:
    """The line of the learner's own code that raised, if it is there."""
    code = getattr(inspect.unwrap(learner), "__code__", None)
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if code and frame.filename == code.co_filename
    ]
    return f" at line {frames[-1].lineno} ({frames[-1].line})" if frames else ""


def _is_array(value: Any) -> bool:
    return isinstance(value, torch.Tensor | np.ndarray | np.generic | bool | int | float)


def _array(value: Any) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = value.double() if value.is_floating_point() else value  # numpy has no bfloat16
    return np.asarray(value)


def _text(value: Any) -> str:
    """A value in a few characters: numbers and small arrays in full, larger ones by their shape."""
    if isinstance(value, torch.Tensor | np.ndarray):
        array = _array(value)
        if array.size > 6 or array.ndim > 1:
            return f"an array of shape {array.shape}"
        return _text(array.tolist())
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_text(item) for item in value) + "]"
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    return str(value) if isinstance(value, bool | int | str | np.generic) else f"a {type(value).__name__}"


def _difference(got: Any, expected: Any, tolerance: float) -> str:
    """How ``got`` differs from ``expected`` in plain words, or an empty string when they agree."""
    if isinstance(expected, tuple | list):
        if not isinstance(got, tuple | list):
            return f"your function returns {_text(got)}, expected {len(expected)} values"
        if len(got) != len(expected):
            return f"your function returns {len(got)} values, expected {len(expected)}"
        for position, (one, other) in enumerate(zip(got, expected, strict=True), start=1):
            difference = _difference(one, other, tolerance)
            if difference:
                return f"value {position} of {len(expected)}: {difference}"
        return ""
    if not _is_array(expected):
        if isinstance(got, type(expected)) and (not isinstance(expected, str) or got == expected):
            return ""
        return f"got {_text(got)}, expected {_text(expected)}"
    if isinstance(expected, torch.Tensor) and isinstance(got, list | tuple):
        return f"your function returns a {type(got).__name__}, expected a tensor of shape {tuple(expected.shape)}"
    if not _is_array(got) or _array(got).dtype.kind not in "biuf":
        return f"got {_text(got)}, expected {_text(expected)}"
    return _array_difference(_array(got), _array(expected), tolerance)


def _array_difference(got: np.ndarray, expected: np.ndarray, tolerance: float) -> str:
    if got.shape != expected.shape:
        return f"got shape {got.shape}, expected shape {expected.shape}"
    wrong = ~np.isclose(got.astype(float), expected.astype(float), rtol=tolerance, atol=tolerance, equal_nan=True)
    if not wrong.any():
        return ""
    if got.ndim <= 1 and got.size <= 6:
        return f"got {_text(got.tolist())}, expected {_text(expected.tolist())}"
    where = tuple(int(i) for i in np.argwhere(wrong)[0])
    return (
        f"{int(wrong.sum())} of {wrong.size} numbers differ, the first at {list(where)}: "
        f"got {_text(got[where].item())}, expected {_text(expected[where].item())}"
    )
