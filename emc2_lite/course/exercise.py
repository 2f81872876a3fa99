"""The frame of an exercise check: try a learner's answer beside the reference, print one line, hand one of them on."""

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


@dataclass
class Exercise:
    """A task with a known answer. A call with a learner's answer prints one line, never raises, and returns a function.

    The function returned is the learner's if it is right, else the reference: the chapter goes on with it.

    name: the beginning of the line, and the exercise's name in its module.
    reference: the right function.
    cases: tuples of positional arguments; each function gets its own copy.
    tolerance: largest difference that counts as equal, absolute for numbers below 1 and relative above; whole numbers
        and booleans must be equal.
    mistakes: wrong functions by the sentence for a learner who gives the same answers on every case.
    also_right: functions whose answers are accepted too, where the task leaves a choice.
    runs: what the chapter does with the function, such as "the next figure"; empty if nothing below runs it.
    drive: `drive(answer, *case)` gives what is compared, where the answer is a class or takes other functions;
        without it, `answer(*case)`.

    What is compared may be a number, a list, an array or a tensor of any precision that holds its digits.

    >>> double = Exercise("double", lambda n: 2 * n, [(1,), (4,)], mistakes={"This is the square": lambda n: n * n})
    >>> used = double(lambda n: n * n)
    double: not yet: This is the square. got 1, expected 2 for n = 1. checks.double.case is the input that failed
    >>> used(3)
    6
    """

    name: str
    reference: Callable
    cases: Sequence[tuple]
    tolerance: float = 1e-5
    mistakes: Mapping[str, Callable] = field(default_factory=dict)
    also_right: Sequence[Callable] = ()
    runs: str = ""
    drive: Callable | None = None
    _failed: tuple | None = field(default=None, init=False, repr=False)

    def __call__(self, learner: Any) -> Callable:
        verdict = self.verdict(learner)
        right = verdict.startswith("right")
        parts = [verdict]
        if self._failed is not None:
            parts.append(f"checks.{self.name}.case is the input that failed")
        if self.runs:
            parts.append(f"{self.runs} runs {'your function' if right else 'the reference'}")
        print(f"{self.name}: {'. '.join(parts)}")
        return learner if right else self.reference

    @property
    def case(self) -> tuple | None:
        """A copy of the arguments on which the last answer went wrong; None if it went wrong on none."""
        return self._failed and _copied(self._failed)

    def verdict(self, learner: Any) -> str:
        """The line without the name: "right ...", "not written yet", or "not yet: ..." with the difference."""
        self._failed = None
        if learner is None or learner is ...:
            return UNWRITTEN
        if not callable(learner):
            return f"not yet: a function is expected, this is of type {type(learner).__name__}"
        for case in self.cases:
            if problem := self._problem(learner, case):
                if problem == UNWRITTEN:
                    return UNWRITTEN
                self._failed = case
                return f"not yet: {problem}"
        return f"right, on {len(self.cases)} inputs" if len(self.cases) > 1 else "right"

    def _answer(self, function: Callable, case: tuple) -> Any:
        return self.drive(function, *case) if self.drive else function(*case)

    def _problem(self, learner: Callable, case: tuple) -> str:
        """What is wrong with the learner's answer on one case, or an empty string."""
        inputs, names = _copied(case), list(inspect.signature(self.drive or self.reference).parameters)
        names = names[1:] if self.drive else names
        given = "for " + ", ".join(f"{name} = {_text(value)}" for name, value in zip(names, case, strict=False))
        code = _code(learner)
        try:
            with time_limit(LONGEST):
                got = self._answer(learner, inputs)
        except TimeUp:
            return f"your function has not ended after {LONGEST:g} seconds {given}; does a loop in it never end?"
        except Exception as error:
            return _raised(error, code, given)
        changed = [name for name, old, new in zip(names, case, inputs, strict=False) if _difference(new, old, 0)]
        if got is None or got is ...:
            return _nothing_returned(got, code, changed, given)
        rights = self.reference, *self.also_right
        problems = [_difference(got, self._answer(right, _copied(case)), self.tolerance) for right in rights]
        if all(problems):
            return f"{self._recognised(learner)}{problems[0]} {given}"
        if changed:
            return f"the answer is right, but the function changes its input {changed[0]}; work on a copy"
        return ""

    def _recognised(self, learner: Callable) -> str:
        """The sentence of the mistake that gives the learner's answers on every case, or an empty string."""
        try:
            with time_limit(LONGEST):
                answers = [self._answer(learner, _copied(case)) for case in self.cases]
        except (Exception, TimeUp):
            return ""
        for sentence, wrong in self.mistakes.items():
            wrongs = [self._answer(wrong, _copied(case)) for case in self.cases]
            varies = len(wrongs) == 1 or _difference(wrongs[1:], wrongs[:-1], self.tolerance)
            if varies and not _difference(answers, wrongs, self.tolerance):  # no constant answer is a known mistake
                return f"{sentence.rstrip('.')}. "
        return ""


class TimeUp(BaseException):
    """The time limit has passed. Not an Exception: a learner's own ``except Exception`` must not catch it."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise ``TimeUp`` in the body after ``seconds``; a timer and handler of SIGALRM set before go on afterwards.

    Only the main thread of a system with alarms can be interrupted: elsewhere, as on Windows, there is no limit.
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


def _copied(case: tuple) -> tuple:
    return tuple(copy.deepcopy(value) for value in case)


def _code(learner: Callable) -> CodeType | None:
    """The code of a function, or of a class's first method."""
    plain = inspect.unwrap(learner)
    functions = [plain, *vars(plain).values()] if isinstance(plain, type) else [plain]
    return next((function.__code__ for function in functions if hasattr(function, "__code__")), None)


def _raised(error: Exception, code: CodeType | None, given: str) -> str:
    """The error with the line of the learner's code, or "not written yet" for the function's own NotImplementedError.

    Only a raise statement of the function itself counts: torch's operations raise NotImplementedError too.
    """
    last = error.__traceback__
    while last and last.tb_next:
        last = last.tb_next
    own = code and last and last.tb_frame.f_code is code and code.co_code[last.tb_lasti] == dis.opmap["RAISE_VARARGS"]
    if own and isinstance(error, NotImplementedError):
        return UNWRITTEN
    lines = [line for line in traceback.extract_tb(error.__traceback__) if code and line.filename == code.co_filename]
    place = f" at line {lines[-1].lineno} ({lines[-1].line})" if lines else ""
    message = (str(error).strip() or "no message").splitlines()[0].rstrip(".")
    return f"your function raises {type(error).__name__}{place}: {message} {given}"


# The instructions of a function that is empty, or holds only a docstring, pass, ... or a return of nothing.
_IDLE = {"RESUME", "NOP", "COPY_FREE_VARS", "LOAD_CONST", "LOAD_COMMON_CONSTANT", "RETURN_CONST", "RETURN_VALUE"}


def _nothing_returned(got: Any, code: CodeType | None, changed: list[str], given: str) -> str:
    if code and {instruction.opname for instruction in dis.get_instructions(code)} <= _IDLE:
        return UNWRITTEN
    if got is ...:
        return f"your function still returns the three dots {given}; return your result in their place"
    if changed:
        return f"your function changes its input {changed[0]} and returns nothing {given}; return a changed copy"
    return f"your function returns nothing {given}; is a return missing?"


def _array(value: Any) -> np.ndarray | None:
    """The numbers in a number, an array, a tensor, or a list of these with one shape; None for anything else."""
    if isinstance(value, list | tuple):
        parts = [_array(item) for item in value]
        shapes = {None if part is None else part.shape for part in parts}
        return None if None in shapes or len(shapes) > 1 else np.array(parts)
    try:
        if isinstance(value, torch.Tensor):
            value = value.detach().cpu()
            value = (value.double() if value.is_floating_point() else value).numpy()  # numpy has no bfloat16
        elif not isinstance(value, np.ndarray | np.generic | bool | int | float):
            return None
    except (TypeError, RuntimeError):  # a sparse tensor, or a tensor without data
        return None
    array = np.asarray(value)
    return array if array.dtype.kind in "biuf" else None


def _text(value: Any, digits: int = 4) -> str:
    """A value in a few characters: numbers and small arrays in full, larger arrays by their shape."""
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
    """Both values, with as many digits as they need to look different; a kind of number with few digits is named."""
    for digits in (4, 6, 9, 17):
        one, other = _text(got, digits), _text(expected, digits)
        if one != other:
            break
    few = f" in {kind}, which holds 3 digits" if kind in ("float16", "bfloat16") else ""
    return f"got {one}{few}, expected {other}"


def _difference(got: Any, expected: Any, tolerance: float) -> str:
    """How ``got`` differs from ``expected``, or an empty string when they agree."""
    if isinstance(expected, tuple | list):
        if isinstance(got, torch.Tensor | np.ndarray) and len(got.shape) > 0 and len(got) == len(expected):
            got = list(got)
        if not isinstance(got, tuple | list):
            return f"your function returns {_text(got)}, expected {len(expected)} values"
        if len(got) != len(expected):
            return f"your function returns {len(got)} values, expected {len(expected)}"
        for position, (one, other) in enumerate(zip(got, expected, strict=True), start=1):
            if difference := _difference(one, other, tolerance):
                return f"value {position} of {len(expected)}: {difference}"
        return ""
    wanted, found = _array(expected), _array(got)
    if wanted is None or found is None:
        same = wanted is None and isinstance(got, type(expected)) and (not isinstance(got, str) or got == expected)
        return "" if same else _pair(got, expected)
    if found.shape != wanted.shape:
        return f"got shape {found.shape}, expected shape {wanted.shape}"
    tolerance = tolerance if wanted.dtype.kind == "f" else 0
    kind = str(getattr(got, "dtype", "")).removeprefix("torch.")
    wrong = ~np.isclose(found.astype(float), wanted.astype(float), rtol=tolerance, atol=tolerance, equal_nan=True)
    if not wrong.any():
        return ""
    if found.ndim <= 1 and found.size <= 6:
        return _pair(got, expected, kind)
    where = tuple(np.argwhere(wrong)[0].tolist())
    pair = _pair(found[where].item(), wanted[where].item(), kind)
    return f"{wrong.sum()} of {wrong.size} numbers differ, the first at {list(where)}: {pair}"
