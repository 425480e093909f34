"""Values that are kept by key as long as they fit: above a number of bytes those used longest ago go."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

V = TypeVar("V")


class Kept(Generic[V]):
    """A memory of bounded size.

    Args:
        size: bytes of a value.
        limit: bytes of all values; the newest stays, however large.
    """

    def __init__(self, size: Callable[[V], int], limit: int) -> None:
        self._size, self._limit = size, limit
        self._values: OrderedDict[str, V] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: str) -> V | None:
        """The value of ``key``, or None if it is not (or no longer) there."""
        if key in self._values:
            self._values.move_to_end(key)
        return self._values.get(key)

    def put(self, key: str, value: V) -> V:
        """Keep a value under a key that has none."""
        self._values[key] = value
        self._bytes += self._size(value)
        while self._bytes > self._limit and len(self._values) > 1:
            self._bytes -= self._size(self._values.popitem(last=False)[1])
        return value

    def clear(self) -> None:
        """Let go of everything."""
        self._values.clear()
        self._bytes = 0
