"""Settings: described once by their annotations, checked in one place, refused in a sentence."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import pytest

from emc2_lite.checks import (
    Bounds,
    Distinct,
    Increasing,
    Share,
    Unread,
    Width,
    check_fields,
    check_values,
    checked,
    checked_settings,
    descriptions,
)

ACCEPTED = [
    (3, int, 3),
    (np.int64(3), int, 3),
    (2, float, 2.0),
    (np.float32(0.5), Share, 0.5),
    (0, Share, 0.0),
    (1, Share, 1.0),
    (True, bool, True),
    ("a", Literal["a", "b"], "a"),
    (None, Width | None, None),
    (7, Width | None, 7),
    ([0.2, 1], tuple[float, float], (0.2, 1.0)),
    ([4, 8], Annotated[Sequence[int], Distinct()], (4, 8)),
    ((0, 60), Annotated[Sequence[int], Increasing()], (0, 60)),
]


@pytest.mark.parametrize(("value", "hint", "expected"), ACCEPTED)
def test_a_value_gets_the_form_of_its_description(value, hint, expected):
    found = checked("x", value, hint)
    assert found == expected and type(found) is type(expected)


REFUSED = {
    "x is '5': it must be a whole number.": ("5", int),
    "x is True: it must be a whole number.": (True, int),
    "x is 2.0: it must be a whole number.": (2.0, int),
    "x is 'abc': it must be a number from 0 to 1.": ("abc", Share),
    "x is nan: it must be a number from 0 to 1.": (float("nan"), Share),
    "x is inf: it must be a number.": (float("inf"), float),
    "x is 1.5: it must be a number from 0 to 1.": (1.5, Share),
    "x is 1000000000000: it must be a whole number from 1 to 65,536.": (10**12, Width),
    "x is 0: it must be a number above 0.": (0, Annotated[float, Bounds(above=0)]),
    "x is 1: it must be a number from 0, and below 1.": (1, Annotated[float, Bounds(least=0, below=1)]),
    "x is 0: it must be a number above 0 and at most 1.": (0, Annotated[float, Bounds(above=0, most=1)]),
    "x is 5: it must be a whole number at most 4.": (5, Annotated[int, Bounds(most=4)]),
    "x is 'c': use one of a, b.": ("c", Literal["a", "b"]),
    "x is ['a']: use one of a, b.": (["a"], Literal["a", "b"]),
    "x is 'yes': it must be true or false.": ("yes", bool),
    "x is [1]: it must be a list of 2 values.": ([1], tuple[float, float]),
    "x is []: it must be a list of at least 1 value.": ([], Sequence[int]),
    "x is 3: it must be a list of at least 1 value.": (3, Sequence[int]),
    "x holds 0: it must be a whole number from 1 to 65,536.": ([4, 0], Annotated[Sequence[Width], Distinct()]),
    "x holds 'c': use one of a, b.": (["a", "c"], Sequence[Literal["a", "b"]]),
    "x holds [1]: it must be a list of 2 values.": ([[1]], Sequence[tuple[int, int]]),
    "x holds '8': it must be a whole number.": ((4, "8"), tuple[int, int]),
    "x holds 16 more than once": ([16, 8, 16], Annotated[Sequence[int], Distinct()]),
    "x is [0, 0]: its numbers must grow": ([0, 0], Annotated[Sequence[int], Increasing()]),
    "...: it must be a number.": (10**400, float),
}


@pytest.mark.parametrize(("sentence", "case"), REFUSED.items(), ids=REFUSED)
def test_a_value_of_another_form_is_refused_in_a_sentence(sentence, case):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        checked("x", *case)


@checked_settings
def kernel(
    scores: list,
    kind: Literal["chain", "many"] = "chain",
    burn_in: Annotated[Share, Unread("kind", "many")] = 0.5,
) -> tuple:
    return scores, kind, burn_in


def test_a_functions_settings_are_checked_before_it_is_called():
    assert kernel([1], "many") == ([1], "many", 0.5)
    assert kernel([1], burn_in=1) == ([1], "chain", 1.0)
    with pytest.raises(ValueError, match=re.escape("burn_in is 2: it must be a number from 0 to 1.")):
        kernel([1], burn_in=2)
    with pytest.raises(ValueError, match=r"burn_in is 0\.3, and nothing reads it where kind is 'many': leave it out"):
        kernel([1], "many", burn_in=0.3)
    assert kernel([1], "many", burn_in=0.5) == ([1], "many", 0.5)


def test_a_parameter_without_a_description_passes_unchecked():
    assert set(descriptions(kernel)) == {"kind", "burn_in"}
    assert kernel("anything")[0] == "anything"


def test_fields_are_checked_with_the_name_of_their_section():
    @dataclass(frozen=True)
    class Section:
        size: Width
        ratio: tuple[float, float] = (0.5, 2.0)

        def __post_init__(self):
            check_fields(self, "views")

    assert Section(3, [1, 2]).ratio == (1.0, 2.0)
    with pytest.raises(ValueError, match=re.escape("views.size is 0: it must be a whole number from 1 to 65,536.")):
        Section(0)


def test_an_unknown_setting_is_refused_with_the_known_names():
    with pytest.raises(ValueError, match=re.escape("There is no setting loss.gama: use gamma.")):
        check_values({"gamma": Share}, {"gama": 0.5}, {"gamma": 0.9}, "loss")


def test_a_long_value_is_shown_in_part():
    with pytest.raises(ValueError, match=r"x is \[0, 1, .*\.\.\.: it must be a whole number\.$") as refused:
        checked("x", list(range(1000)), int)
    assert len(str(refused.value)) < 140
