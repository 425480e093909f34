"""How much memory tensors take while code runs, at the end and at most; on the ``meta`` device without taking any.

Comes in: operations, as they are dispatched.  Goes out: bytes.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode


class Tally(TorchDispatchMode):
    """Counts the bytes of every storage that comes into being inside, from then until nothing holds it any more.

    Code that asks a ``meta`` tensor whether something holds is told that it does: what models ask is whether positions
    follow each other and whether masks have no holes.

    Args:
        known: tensors that were there before and are not counted.

    Attributes:
        now: bytes held.
        peak: the most that ``now`` has been.
    """

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.now = 0
        self.peak = 0
        self._held: dict[int, int] = {}
        self._known = frozenset(_key(t) for t in known)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation and count what it made."""
        if func is torch.ops.aten._local_scalar_dense.default and args[0].is_meta and args[0].dtype == torch.bool:
            return True
        out = func(*args, **(kwargs or {}))
        for leaf in pytree.tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._note(leaf)
        return out

    def _note(self, tensor: Tensor) -> None:
        key = _key(tensor)
        if key in self._held or key in self._known:
            return
        storage = tensor.untyped_storage()
        self._held[key] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, key)

    def _gone(self, key: int) -> None:
        self.now -= self._held.pop(key)


def _key(tensor: Tensor) -> int:
    return StorageWeakRef(tensor.untyped_storage()).cdata  # storages without data have no address to tell them by
