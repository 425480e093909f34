"""Gymnasium spaces for what mmrl's environments show and take.

``ContentSpace`` holds observations (tuples of text, image and video parts), ``UnicodeText`` holds actions
(any string up to a length; Gymnasium's own ``Text`` has no spaces or punctuation by default).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from gymnasium.spaces import Space

from mmrl.sample import Content, Image, Message, Text, Video, from_openai, to_openai

_ALPHABET = tuple("abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789 .,:;!?'\"<>()[]{}-_/\n\t") + tuple(
    "äéßñøλЖאع你好日本🙂"
)


class UnicodeText(Space[str]):
    """All strings of at most ``max_length`` characters.

    Args:
        max_length: the longest string, in characters; at least 1.
        seed: seed of :meth:`sample`.
    """

    def __init__(self, max_length: int = 65_536, seed: int | np.random.Generator | None = None) -> None:
        if max_length < 1:
            raise ValueError(f"max_length is at least 1, not {max_length}")
        self.max_length = int(max_length)
        super().__init__(dtype=str, seed=seed)

    @property
    def is_np_flattenable(self) -> bool:
        """Strings do not flatten into an array."""
        return False

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """Draw a string of up to 32 mixed characters; masks are not supported."""
        length = int(self.np_random.integers(0, min(32, self.max_length) + 1))
        return "".join(_ALPHABET[int(i)] for i in self.np_random.integers(0, len(_ALPHABET), size=length))

    def contains(self, x: Any) -> bool:
        """Whether ``x`` is a string that is short enough."""
        return isinstance(x, str) and len(x) <= self.max_length

    def __repr__(self) -> str:
        return f"UnicodeText(max_length={self.max_length})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UnicodeText) and self.max_length == other.max_length

    def __hash__(self) -> int:
        return hash(self.max_length)


class ContentSpace(Space[Content]):
    """All tuples of text, image and video parts."""

    def __init__(self, seed: int | np.random.Generator | None = None) -> None:
        super().__init__(dtype=object, seed=seed)

    @property
    def is_np_flattenable(self) -> bool:
        """Content does not flatten into an array."""
        return False

    def sample(self, mask: Any = None, probability: Any = None) -> Content:
        """Draw one text part; masks are not supported."""
        length = int(self.np_random.integers(0, 33))
        return (Text("".join(_ALPHABET[int(i)] for i in self.np_random.integers(0, len(_ALPHABET), size=length))),)

    def contains(self, x: Any) -> bool:
        """Whether ``x`` is a tuple of parts."""
        return isinstance(x, tuple) and all(isinstance(p, Text | Image | Video) for p in x)

    def to_jsonable(self, sample_n: Iterable[Content]) -> list[Any]:
        """Encode contents as OpenAI message parts."""
        return [to_openai([Message("user", c)])[0]["content"] for c in sample_n]

    def from_jsonable(self, sample_n: list[Any]) -> list[Content]:
        """Decode what :meth:`to_jsonable` wrote."""
        return [from_openai([{"role": "user", "content": c}])[0].content for c in sample_n]

    def __repr__(self) -> str:
        return "ContentSpace()"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ContentSpace)

    def __hash__(self) -> int:
        return hash("ContentSpace")
