"""Models that are loaded once, when they are first used, and then shared by all plugins of the process.

Comes in: functions that load, a device's name.  Goes out: what they loaded, and the device to load it on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from mmrl_plugins._arguments import imported

V = TypeVar("V")

EMBEDDED = "embedded"
"""The name of the model whose weights come with an installed package."""


class Once(Generic[V]):
    """Values by key, each made at its first use and then shared; safe to use from several threads.

    An exception while making one is passed on and not remembered: the next use tries again.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._made: dict[Hashable, V] = {}

    def get(self, key: Hashable, make: Callable[[], V]) -> V:
        """The value of ``key``; ``make`` is called if there is none yet."""
        with self._lock:
            if key not in self._made:
                self._made[key] = make()
            return self._made[key]


def torch_device(device: str) -> str:
    """The device that ``auto`` stands for on this machine; any other name as it is."""
    if device != "auto":
        return device
    torch = imported("torch")
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def first_line(error: BaseException) -> str:
    """The first line of what ``error`` says, or its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def utf8(text: str) -> str:
    """``text`` with lone surrogates, which tokenizers refuse, replaced by question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")
