"""The ledger: every number in the prose of chapters and pages is the number of its cell, its record or its code."""

import re

import pytest
from claims import CHAPTERS, GIVEN, ROOT, agrees, claims, ledger, places, problems, text_of
from number_words import number_of

BESIDE = (
    "README.md",
    "chapters/notation.md",
    "chapters/elsewhere/README.md",
    "chapters/elsewhere/fine_tuning.md",
    "chapters/book/index.md",
    "chapters/book/teachers.md",
    "data/README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
)
PAGES = [*CHAPTERS, *(ROOT / name for name in BESIDE)]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_each_number_of_the_prose_is_that_of_its_source(page):
    assert problems(page) == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_a_number_changed_by_hand_is_found(page):
    """Each number in turn, its last digit one higher or in other words: the page's ledger knows no such sentence."""
    known = {sentence for sentence, _ in ledger(page)}
    for sentence, numbers in claims(text_of(page)):
        for number in numbers:
            other = number[:-1] + str((int(number[-1]) + 1) % 10) if number[-1].isdigit() else "seventy"
            changed = re.sub(rf"(?<![\w.,]){re.escape(number)}(?!\w|\.\d)", other, sentence, count=1)
            assert changed not in known, (number, sentence)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_a_part_of_the_course_that_prose_names_is_there(page):
    texts = {path.name[:2]: text_of(path) for path in CHAPTERS}
    exercises = {n for text in texts.values() for n in re.findall(r"\*\*[A-Z][\w ]* (\d\.\d)\b", text)}
    for kind, number in places(text_of(page)):
        known = {"chapter": texts, "exercise": exercises}.get(kind)
        assert known is None or number in known, (kind, number)


def test_numbers_are_compared_at_the_precision_in_which_they_are_written():
    assert agrees("0.54", 0.5449) and not agrees("0.54", 0.5451)
    assert agrees("1,797", 1797) and not agrees("1,797", 1798)
    assert agrees("40", 39.6) and not agrees("40", 39.4)
    assert agrees("-0.5", -0.46) and not agrees("0.5", -0.5)
    assert agrees("1e-4", 1.2e-4) and not agrees("1e-4", 1.6e-4)
    assert agrees("three", 3.4) and not agrees("three", 3.6)
    assert agrees("sixth", 0.18) and not agrees("sixth", 0.19)
    assert agrees("Twice", 2.1) and not agrees("twice", 2.3)


def test_numbers_of_code_formulas_headings_and_references_are_no_claims():
    text = (
        "## 3. A title\n\nIn `range(7)` of $x^{34}$, see [a page](p9.html#5), chapter 04 and exercise 4.2."
        "\n\n# References\n\nIn 2020."
    )
    assert list(claims(text)) == []
    assert list(places(text)) == [("chapter", "04"), ("exercise", "4.2")]
    assert list(claims("It has $T = 0.07$ and ResNet-18.\n\nOf 1,797 images, 20 % are 8 pixels wide.")) == [
        ("It has $T = 0.07$ and ResNet-18.", ("0.07",)),
        ("Of 1,797 images, 20 % are 8 pixels wide.", ("1,797", "20", "8")),
    ]


def test_numbers_in_words_are_claims():
    assert list(claims("In five of the ten seeds two thirds, in one of them twice as much.\n\nA three-step walk.")) == [
        ("In five of the ten seeds two thirds, in one of them twice as much.", ("five", "ten", "two thirds", "twice"))
    ]
    words = ("Three", "twenty-five", "three hundred", "ten billion", "two thirds", "three quarters", "half", "twice")
    assert [number_of(each) for each in words] == [3, 25, 300, 10**10, 2 / 3, 3 / 4, 1 / 2, 2]


@pytest.mark.parametrize("page", CHAPTERS, ids=lambda page: page.stem)
def test_a_source_says_which_of_the_known_kinds_it_is(page):
    """A number that nothing computes is an example of the text, a name, a definition, a count or cited."""
    calls = (
        "printed(",
        "described(",
        "code(",
        "source(",
        "parameter(",
        "trace(",
        "record(",
        "row(",
        "best(",
        "lead(",
        "setting(",
        "math.",
    )
    for sentence, sources in ledger(page):
        for source in sources:
            computed = any(call in source for call in calls) or re.fullmatch(r"[\d.*/+\-() ,e]+|about\(.*\)", source)
            assert computed or source.startswith(GIVEN), (source, sentence)
