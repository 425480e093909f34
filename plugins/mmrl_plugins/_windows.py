"""Overlapping windows over a text that is too long for a model at once.

Comes in: a text, and where its words or tokens lie.  Goes out: pieces of the text, in order, that cover all of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_WORD = re.compile(r"\S+")


def spans(length: int, size: int, overlap: int) -> list[tuple[int, int]]:
    """Windows over ``length`` units: (first, one past the last), each ``size`` long, the last perhaps shorter.

    Args:
        length: number of units, at least 0.
        size: units in a window, at least 1.
        overlap: units that neighbours share, below ``size``.

    Returns:
        At least one window; one of everything if it fits.
    """
    starts = range(0, max(1, length - overlap), size - overlap)
    return [(start, min(start + size, length)) for start in starts]


def by_offsets(text: str, offsets: Sequence[tuple[int, int]], size: int, overlap: int) -> list[str]:
    """Cut ``text`` into windows of ``size`` tokens.

    Args:
        text: what is cut.
        offsets: where each token begins and ends in ``text``, without special tokens.
        size: tokens in a window.
        overlap: tokens that neighbours share.
    """
    if len(offsets) <= size:
        return [text]
    return [text[offsets[a][0] : offsets[b - 1][1]] for a, b in spans(len(offsets), size, overlap)]


def by_words(text: str, size: int, overlap: int) -> list[str]:
    """Cut ``text`` into windows of ``size`` words (runs without white space)."""
    return by_offsets(text, [match.span() for match in _WORD.finditer(text)], size, overlap)
