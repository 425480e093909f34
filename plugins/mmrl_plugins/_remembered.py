"""Vectors that were computed lately, by key.

Comes in: keys, and a function that computes the vectors of those that are new.  Goes out: the vectors.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Item = TypeVar("Item")


class Remembered:
    """A memory for vectors; those used longest ago are forgotten first.  Safe to use from several threads.

    Args:
        kept: how many vectors are remembered.
    """

    def __init__(self, kept: int) -> None:
        self.kept = kept
        self._known: OrderedDict[str, Vectors] = OrderedDict()
        self._lock = threading.Lock()

    def look_up(self, items: Mapping[str, Item], embed: Callable[[Sequence[Item]], Vectors]) -> dict[str, Vectors]:
        """The vector of every key, shape (dimensions,).

        Args:
            items: what each key stands for.
            embed: called at most once, with all items whose keys are not remembered; one row an item.
        """
        with self._lock:
            found = {key: self._known[key] for key in items if key in self._known}
            new = [key for key in items if key not in found]
            if new:
                found.update(zip(new, embed([items[key] for key in new]), strict=True))
            for key in items:
                self._known[key] = found[key]
                self._known.move_to_end(key)
            while len(self._known) > self.kept:
                self._known.popitem(last=False)
        return found

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def forget(self) -> None:
        """Let go of all vectors."""
        with self._lock:
            self._known.clear()
