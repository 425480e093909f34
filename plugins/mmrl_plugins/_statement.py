"""What can be compared in a statement without understanding it: names, numbers, content words, negation.

Comes in: a sentence.  Goes out: those four.  Numbers are read in digits of any script, with either decimal mark, and
small ones in English, German, French and Spanish words; names are capitalised words, so that scripts without case
have none, and German has too many.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from mmrl_plugins._function_words import ABOUT, BOUNDS, NEGATIONS, NUMBERS, SCALES, SMALL
from mmrl_plugins._words import words

Number = frozenset[float]
"""What a number may mean: ``8,849`` is 8849 or, in other countries, 8.849."""

_MARKS = "\u0300-\u036f\u0591-\u06ed\u0900-\u0dff\u0e00-\u0eff"  # vowel signs and accents are no letters to ``\w``
_TOKEN = re.compile(
    r"(?P<number>(?<![A-Za-z\d.,])(?:(?i:minus)\s|(?<!\S)[-\u2212])?\d+(?:[.,'\u2019\u00a0\u202f]\d+)*)"
    rf"|(?P<word>[^\W\d_](?:[^\W\d_]|[{_MARKS}]|['\u2019](?=[^\W\d_]))*)"
)
_POSSESSIVE = re.compile(r"['\u2019]s?$")

@dataclass(frozen=True)
class Statement:
    """The comparable parts of a sentence.

    Attributes:
        names: runs of capitalised words, as written.
        numbers: each with the values that it may mean.
        words: the other words that carry meaning, in lower case; single characters in scripts without spaces.
        tokens: every word, in lower case.
        negated: whether a word of negation occurs.
        rounded: whether the numbers are approximate.
        bounded: whether the numbers are bounds ("more than 3").
    """

    names: tuple[tuple[str, ...], ...]
    numbers: tuple[Number, ...]
    words: tuple[str, ...]
    tokens: frozenset[str]
    negated: bool
    rounded: bool
    bounded: bool


def read_statement(text: str) -> Statement:
    """Take ``text`` apart."""
    text = unicodedata.normalize("NFKC", text).replace("not only", "")
    names: list[tuple[str, ...]] = []
    numbers: list[Number] = []
    content: list[str] = []
    tokens: set[str] = set()
    end_of_name = -1
    negated = False
    for match in _TOKEN.finditer(text):
        if match["number"]:
            numbers += read_number(match["number"])
            continue
        word = _POSSESSIVE.sub("", match["word"])
        for token in words(word):  # one, except in scripts without spaces
            tokens.add(token)
            if token in SCALES and numbers:
                numbers[-1] = frozenset(value * SCALES[token] for value in numbers[-1])
            elif token in NUMBERS:
                numbers.append(frozenset({NUMBERS[token]}))
            elif token in NEGATIONS or word.casefold().endswith(("n't", "n\u2019t")):
                negated = True
            elif token not in SMALL | ABOUT | BOUNDS and not word[0].isupper():
                content.append(token)
        if word[0].isupper() and not _is_function(word.casefold()):
            adjacent = end_of_name >= 0 and text[end_of_name : match.start()] in (" ", "-", ". ")
            names = [*names[:-1], (*names[-1], word)] if adjacent else [*names, (word,)]
            end_of_name = match.end()
    return Statement(tuple(names), tuple(numbers), tuple(dict.fromkeys(content)), frozenset(tokens), negated,
                     bool(tokens & ABOUT) or "~" in text or "≈" in text, bool(tokens & BOUNDS))


def _is_function(word: str) -> bool:
    return any(word in listed for listed in (SMALL, NEGATIONS, NUMBERS, ABOUT, BOUNDS))


def read_number(written: str) -> Iterator[Number]:
    """Read a run of digits with separators; what is no number (a date, ``1.2.3``) as one number for each part."""
    digits = re.sub(r"^\D+", "", written)
    sign = 1.0 if digits == written else -1.0
    parts = re.split(r"[.,'\u2019\u00a0\u202f]", digits)
    marks = [c for c in digits if c in ".,'\u2019\u00a0\u202f"]
    grouped = len(parts[0]) <= 3 and all(len(p) == 3 for p in parts[1:])
    whole, plain = sign * float("".join(parts)), ".".join(parts)
    if not marks:
        yield frozenset({whole})
    elif len(marks) == 1 and marks[0] in ".,":
        yield frozenset({sign * float(plain), whole} if grouped and parts[0] != "0" else {sign * float(plain)})
    elif len(set(marks)) == 1 and grouped:
        yield frozenset({whole})
    elif len(set(marks)) == 2 and marks.index(marks[-1]) == len(marks) - 1 and all(len(p) == 3 for p in parts[1:-1]):
        yield frozenset({sign * float(f"{''.join(parts[:-1])}.{parts[-1]}")})
    else:
        yield from (frozenset({float(p)}) for p in parts)
