"""The frame of an exercise check: run a learner's function beside a reference, say in one line how it went."""

import copy
import dis
import inspect
import math
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

import numpy as np
import torch

LONGEST = 10.0  # seconds a learner's function may take on one input
UNWRITTEN = "not written yet"
_FEW_DIGITS = ("float16", "bfloat16")


@dataclass
class Exercise:
    """A task with a known answer. Call it with a learner's function; it prints one line and never raises.

    name: what the line begins with, and the exercise's name in its module.
    reference: the right function.
    cases: tuples of positional arguments on which both are run, each on its own copy.
    tolerance: largest difference that still counts as equal, absolute for numbers below 1 and relative above; whole
        numbers and booleans must be equal.
    mistakes: wrong functions by the sentence to show for a learner whose answers are theirs on every case.
    also_right: functions whose answers are accepted beside the reference's, where the task leaves a choice.

    An answer may come as a number, a list, an array or a tensor of any precision that holds its digits.
    """

    name: str
    reference: Callable
    cases: Sequence[tuple]
    tolerance: float = 1e-5
    mistakes: Mapping[str, Callable] = field(default_factory=dict)
    also_right: Sequence[Callable] = ()
    _failed: tuple | None = field(default=None, init=False, repr=False)

    def __call__(self, learner: Any) -> None:
        verdict = self.verdict(learner)
        where = "" if self._failed is None else f". The input is kept in checks.{self.name}.failed"
        print(f"{self.name}: {verdict}{where}")

    @property
    def failed(self) -> tuple | None:
        """A copy of the arguments on which the last function went wrong; None when there are none."""
        return _copied(self._failed)

    def verdict(self, learner: Any) -> str:
        """The line without the name: "right ...", "not written yet", or "not yet: ..." and what differs."""
        self._failed = None
        if learner is None or learner is ...:
            return UNWRITTEN
        if not callable(learner):
            return f"not yet: a function is expected, this is of type {type(learner).__name__}"
        for case in self.cases:
            problem = self._problem(learner, case)
            if problem == UNWRITTEN:
                return UNWRITTEN
            if problem:
                self._failed = case
                return f"not yet: {problem}"
        return f"right, on {len(self.cases)} inputs" if len(self.cases) > 1 else "right"

    def _problem(self, learner: Callable, case: tuple) -> str:
        """What is wrong with the learner's answer on one case, or an empty string."""
        inputs, given = _copied(case), self._described(case)
        try:
            with time_limit(LONGEST):
                got = learner(*inputs)
        except TimeUp:
            return f"your function has not ended after {LONGEST:g} seconds {given}; does a loop in it never end?"
        except Exception as error:
            if _says_unwritten(error, learner):
                return UNWRITTEN
            return f"your function raises {type(error).__name__}{_place(error, learner)}: {_first_line(error)} {given}"
        changed = [n for n, old, new in zip(self._names(), case, inputs, strict=False) if _difference(new, old, 0)]
        if got is None or got is ...:
            return UNWRITTEN if _does_nothing(learner) else _nothing_returned(got, changed, given)
        differences = [
            _difference(got, right(*_copied(case)), self.tolerance) for right in (self.reference, *self.also_right)
        ]
        if all(differences):
            return f"{self._recognised(learner)}{differences[0]} {given}"
        if changed:
            return f"the answer is right, but the function changes its input {changed[0]}; work on a copy"
        return ""

    def _recognised(self, learner: Callable) -> str:
        """The sentence of the mistake that gives the learner's answers on every case, or an empty string.

        A mistake that answers every case alike explains nothing: a function that returns a constant does so too.
        """
        try:
            with time_limit(LONGEST):
                answers = [learner(*_copied(case)) for case in self.cases]
        except (Exception, TimeUp):
            return ""
        for sentence, wrong in self.mistakes.items():
            theirs = [wrong(*_copied(case)) for case in self.cases]
            if self._equal(answers, theirs) and not (len(theirs) > 1 and self._equal(theirs[1:], theirs[:-1])):
                return f"{sentence.rstrip('.')}. "
        return ""

    def _equal(self, some: list, others: list) -> bool:
        return not any(_difference(one, other, self.tolerance) for one, other in zip(some, others, strict=True))

    def _names(self) -> list[str]:
        return list(inspect.signature(self.reference).parameters)

    def _described(self, case: tuple) -> str:
        return "for " + ", ".join(f"{name} = {_text(value)}" for name, value in zip(self._names(), case, strict=False))


class TimeUp(BaseException):
    """The time limit has passed; no Exception, so that a learner's own ``except Exception`` does not catch it."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise ``TimeUp`` in what runs inside after ``seconds``; a timer and handler of SIGALRM set before go on after.

    Only the main thread of a system with alarms can be interrupted; elsewhere, on Windows too, there is no limit.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not (in_main and hasattr(signal, "setitimer") and signal.getsignal(signal.SIGALRM) is not None):
        yield
        return

    def stop(*_):
        raise TimeUp

    left, interval = signal.setitimer(signal.ITIMER_REAL, 0)
    before, started = signal.signal(signal.SIGALRM, stop), time.monotonic()
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - started), 1e-3), interval)


# What the body of a function does that is empty, or holds only a docstring, pass, ... or a return of nothing.
_IDLE = {"RESUME", "NOP", "COPY_FREE_VARS", "LOAD_CONST", "LOAD_COMMON_CONSTANT", "RETURN_CONST", "RETURN_VALUE"}


def _code(learner: Callable) -> CodeType | None:
    return getattr(inspect.unwrap(learner), "__code__", None)


def _does_nothing(learner: Callable) -> bool:
    code = _code(learner)
    return code is not None and {instruction.opname for instruction in dis.get_instructions(code)} <= _IDLE


def _says_unwritten(error: Exception, learner: Callable) -> bool:
    """Whether a raise statement of the learner's own raised NotImplementedError; torch's operations raise it too."""
    last = error.__traceback__
    while last.tb_next is not None:
        last = last.tb_next
    code = last.tb_frame.f_code
    by_statement = code.co_code[last.tb_lasti] == dis.opmap["RAISE_VARARGS"]
    return isinstance(error, NotImplementedError) and code is _code(learner) and by_statement


def _nothing_returned(got: Any, changed: list[str], given: str) -> str:
    if got is ...:
        return f"your function still returns the three dots {given}; return your result in their place"
    if changed:
        return f"your function changes its input {changed[0]} and returns nothing {given}; return a changed copy"
    return f"your function returns nothing {given}; is a return missing?"


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
    code = _code(learner)
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if code and frame.filename == code.co_filename
    ]
    return f" at line {frames[-1].lineno} ({frames[-1].line})" if frames else ""


def _array(value: Any) -> np.ndarray | None:
    """The numbers in a number, an array, a tensor, or a list of these of one shape; None where it holds none."""
    if isinstance(value, list | tuple):
        parts = [_array(item) for item in value]
        same = all(part is not None and part.shape == parts[0].shape for part in parts)
        return np.array(parts) if same else None
    try:
        if isinstance(value, torch.Tensor):
            value = value.detach().cpu()
            value = value.double() if value.is_floating_point() else value  # numpy has no bfloat16
            array = value.numpy()
        elif isinstance(value, np.ndarray | np.generic | bool | int | float):
            array = np.asarray(value)
        else:
            return None
    except (TypeError, RuntimeError):  # a sparse tensor, or one without data
        return None
    return array if array.dtype.kind in "biuf" else None


def _text(value: Any, digits: int = 4) -> str:
    """A value in a few characters: numbers and small arrays in full, larger ones by their shape."""
    if isinstance(value, np.ndarray) or (isinstance(value, torch.Tensor) and _array(value) is not None):
        if len(value.shape) > 1 or math.prod(value.shape) > 6:
            return f"an array of shape {tuple(value.shape)}"
        return _text(value.tolist(), digits)
    if isinstance(value, list | tuple):
        if len(value) > 6:
            return f"a {type(value).__name__} of {len(value)} values"
        return "[" + ", ".join(_text(item, digits) for item in value) + "]"
    if isinstance(value, float | np.floating):
        return f"{value:.{digits}g}"
    return str(value) if isinstance(value, bool | int | str | np.generic) else f"a {type(value).__name__}"


def _pair(got: Any, expected: Any, kind: str = "") -> str:
    """Both values, with as many digits as tell them apart, and the kind of number where it has few digits."""
    for digits in (4, 6, 9, 17):
        one, other = _text(got, digits), _text(expected, digits)
        if one != other:
            break
    return f"got {one}{f' in {kind}, which holds 3 digits' if kind in _FEW_DIGITS else ''}, expected {other}"


def _difference(got: Any, expected: Any, tolerance: float) -> str:
    """How ``got`` differs from ``expected`` in plain words, or an empty string when they agree."""
    if isinstance(expected, tuple | list):
        if isinstance(got, torch.Tensor | np.ndarray) and len(got.shape) > 0 and len(got) == len(expected):
            got = list(got)
        if not isinstance(got, tuple | list):
            return f"your function returns {_text(got)}, expected {len(expected)} values"
        if len(got) != len(expected):
            return f"your function returns {len(got)} values, expected {len(expected)}"
        for position, (one, other) in enumerate(zip(got, expected, strict=True), start=1):
            difference = _difference(one, other, tolerance)
            if difference:
                return f"value {position} of {len(expected)}: {difference}"
        return ""
    wanted, found = _array(expected), _array(got)
    if wanted is None:
        if isinstance(got, type(expected)) and (not isinstance(expected, str) or got == expected):
            return ""
        return _pair(got, expected)
    if found is None:
        return _pair(got, expected)
    if found.shape != wanted.shape:
        return f"got shape {found.shape}, expected shape {wanted.shape}"
    tolerance = tolerance if wanted.dtype.kind == "f" else 0
    kind = str(getattr(got, "dtype", "")).removeprefix("torch.")
    wrong = ~np.isclose(found.astype(float), wanted.astype(float), rtol=tolerance, atol=tolerance, equal_nan=True)
    if not wrong.any():
        return ""
    if found.ndim <= 1 and found.size <= 6:
        return _pair(got, expected, kind)
    where = tuple(int(i) for i in np.argwhere(wrong)[0])
    return (
        f"{int(wrong.sum())} of {wrong.size} numbers differ, the first at {list(where)}: "
        f"{_pair(found[where].item(), wanted[where].item(), kind)}"
    )
