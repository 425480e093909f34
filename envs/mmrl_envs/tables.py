"""Tables of rows that all copies of an environment share.

Comes in: what a table is made of, as a key, and a function that makes it.  Goes out: the table, made once; a changed
file has another key and is read again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

KEPT = 8
"""Tables that are kept in memory, at most."""

_making = threading.RLock()
_made: dict[Hashable, Any] = {}


def shared(key: Hashable, make: Callable[[], T]) -> T:
    """The table of ``key``, made at its first use; an exception while making it is not remembered.

    Environments are made in several threads at once: the others wait for the first.
    """
    with _making:
        if key not in _made:
            _made[key] = make()
            while len(_made) > KEPT:
                del _made[next(iter(_made))]
        return _made[key]


def stamp(path: str | Path | None) -> Hashable:
    """What changes when the file or folder ``path`` does; None if there is none."""
    path = None if path is None else Path(path)
    if path is None or not path.exists():
        return None
    # A folder's own time tells of files that come and go, but not of those in its sub-folders.
    inner = sorted(p for p in path.iterdir() if p.is_dir()) if path.is_dir() else []
    return tuple((str(p), found.st_mtime_ns, found.st_size) for p in (path, *inner) if (found := p.stat()))
