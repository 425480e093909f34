"""Words of any language, for counting and comparing.

Chinese, Japanese, Thai, Lao, Khmer and Burmese are written without spaces between words: there, every character
counts as a word.  Every function is linear in the text's length.
"""

from __future__ import annotations

import unicodedata

_UNSPACED = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF),
)  # fmt: skip
"""Code points of the scripts without spaces: Thai and Lao, Burmese, Khmer, kana, Han."""


def _apart(code: int) -> bool:
    return any(low <= code <= high for low, high in _UNSPACED)


class _Runs(dict[int, str]):
    """Sets a character of a script without spaces apart; filled in as characters come up."""

    def __missing__(self, code: int) -> str:
        self[code] = f" {chr(code)} " if _apart(code) else chr(code)
        return self[code]


class _Words(dict[int, str]):
    """Besides that, turns everything that is no letter, digit or mark of a letter into a space."""

    def __missing__(self, code: int) -> str:
        kept = unicodedata.category(chr(code))[0] in "LNM"
        self[code] = " " if not kept else f" {chr(code)} " if _apart(code) else chr(code)
        return self[code]


class _Unpunctuated(dict[int, str]):
    """Deletes punctuation, and ASCII's symbols with it, as SQuAD does."""

    def __missing__(self, code: int) -> str:
        category = unicodedata.category(chr(code))[0]
        self[code] = "" if category == "P" or (category == "S" and code < 128) else chr(code)
        return self[code]


_RUNS, _WORDS, _UNPUNCTUATED = _Runs(), _Words(), _Unpunctuated()


def runs(text: str) -> list[str]:
    """What white space separates, as it stands; a character of a script without spaces is one by itself."""
    return text.translate(_RUNS).split()


def words(text: str) -> list[str]:
    """The words, case folded: runs of letters, digits and their marks."""
    return unicodedata.normalize("NFKC", text).casefold().translate(_WORDS).split()


def unpunctuated(text: str) -> str:
    """``text`` without punctuation."""
    return text.translate(_UNPUNCTUATED)
