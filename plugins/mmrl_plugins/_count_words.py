"""Counts in English text: digits and number words up to nine thousand nine hundred.  Linear in the text's length."""

from __future__ import annotations

import re

from mmrl_plugins._text import last_number_at

_SMALL = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_VALUES = {word: i for i, word in enumerate(_SMALL)} | {word: 10 * i for i, word in enumerate(_TENS, 2)}
_ANY = "|".join(sorted(_VALUES, key=lambda word: -len(word)))
_UP_TO_99 = rf"(?:(?:{'|'.join(_TENS)})[-\s](?:{'|'.join(_SMALL[1:10])})|{_ANY})"
_WORDS = re.compile(
    rf"\b(?<!point\s)(?:(?P<hundreds>{_UP_TO_99}|a)[-\s]hundred(?:(?:\sand)?\s(?P<rest>{_UP_TO_99}))?|(?P<small>{_UP_TO_99}))\b"
)
# What makes the number before it part of a greater one, or of a fraction, that is not read here.
_GOES_ON = re.compile(
    r"[-\s](?:and a )?(?:hundreds?|thousands?|millions?|billions?|dozens?|half|halves|thirds?|quarters?|point)\b"
)
_NONE = re.compile(r"\b(?:no(?!\s(?:idea|clue|answer|doubt|way)\b)|none|nothing|nobody)\b")


def last_count(text: str) -> tuple[float | None, str]:
    """The last count that ``text`` names, in digits or words; "no", "none" and "nothing" are 0 where no other is named.

    Returns:
        A whole number of at least 0 and an empty string; or None and what is wrong.
    """
    folded = text.lower()
    digits, word = last_number_at(folded), None
    for match in _WORDS.finditer(folded):
        word = match
    if word is not None and (digits is None or word.start() > digits.start):
        number, end = float(_value(word)), word.end()
    elif digits is not None:
        number, end = digits.value, digits.end
    else:
        return (0.0, "") if _NONE.search(folded) else (None, "the answer names no count")
    if number is None or number < 0 or not number.is_integer() or _GOES_ON.match(folded, end):
        return None, "the last number is no count that is read here: a whole number of at least 0"
    return number, ""


def _value(match: re.Match[str]) -> int:
    if match["small"] is not None:
        return _up_to_99(match["small"])
    above = 1 if match["hundreds"] == "a" else _up_to_99(match["hundreds"])
    return 100 * above + (_up_to_99(match["rest"]) if match["rest"] else 0)


def _up_to_99(words: str) -> int:
    return sum(_VALUES[word] for word in re.split(r"[-\s]", words))
