"""Counts the memory of tensors as they come and go.

Comes in: any torch code.  Goes out: bytes alive at the end and at the worst moment, exact to the byte and the same on
every device, because storages are counted and not what an allocator rounds them to.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Tally(TorchDispatchMode):
    """Enter it to count the storages that operations make; several threads may enter the same one.

    What existed before is not counted, also when operations give views of it: a storage counts if it is first seen as
    the output of an operation that was not given it.

    Attributes:
        live: bytes that are alive.
        peak: the most that were.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known = weakref.WeakSet[Any]()
        self._lock = threading.RLock()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count what it made."""
        given = {id(t.untyped_storage()) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        out = func(*args, **(kwargs or {}))
        for made in tree_leaves(out):
            if isinstance(made, Tensor) and id(made.untyped_storage()) not in given:
                self._count(made.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        with self._lock:
            if storage in self._known:
                return
            self._known.add(storage)
            weakref.finalize(storage, self._gone, storage.nbytes())
            self.live += storage.nbytes()
            self.peak = max(self.peak, self.live)

    def _gone(self, nbytes: int) -> None:
        with self._lock:
            self.live -= nbytes
