"""Numbers in words: three, twenty-five, ten billion, two thirds, twice.

One, two and ordinals, but for the names of parts (third, fifth), are left out: they are seldom claims.
"""

import re

TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
UNITS = ("three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen")
UNITS += ("fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
CARDINALS = {word: number for number, word in enumerate(UNITS, 3)} | {word: 10 * n for n, word in enumerate(TENS, 2)}
POWERS = {"hundred": 100, "thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000}
PARTS = {"half": 2, "halve": 2, "third": 3, "quarter": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8}
PARTS |= {"tenth": 10, "twentieth": 20, "hundredth": 100, "thousandth": 1_000}
TIMES = {"twice": 2, "thrice": 3, "threefold": 3, "tenfold": 10, "hundredfold": 100, "thousandfold": 1_000}


def _any(*known: dict[str, int]) -> str:
    return "|".join(word for words in known for word in words)


_WHOLE = rf"(?:{_any(CARDINALS)})(?:[ -](?:one|two|{_any(CARDINALS, POWERS)}))*"
_PART = rf"(?:(?:one|two|{_any(CARDINALS)})[ -])?(?:{_any(PARTS)})s?"
WORDS = re.compile(
    rf"(?<![\w-])(?:{_PART}|{_WHOLE}|(?:(?:one|two) )?(?:{_any(POWERS)}|{_any(TIMES)}))(?!\w|-\w)", re.IGNORECASE
)


def is_rough(words: str) -> bool:
    """Whether the words are a part or a multiple, such as "a sixth" or "twice", which prose gives roughly."""
    return words.lower().split()[-1].removesuffix("s") in PARTS | TIMES


def number_of(words: str) -> float:
    """The number that words found by `WORDS` say."""
    number: float = 0
    for word in re.split(r"[ -]", words.lower()):
        if small := {"one": 1, "two": 2, **CARDINALS}.get(word):
            number += small
        elif part := PARTS.get(word.removesuffix("s")):
            number = (number or 1) / part
        else:
            number = (number or 1) * (POWERS | TIMES)[word]
    return number
