"""Errors that a user can mend.

Comes in: what was wrong and what would be right.  Goes out: one line, and the process exit code 2.
"""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable


class BadInput(ValueError):
    """The user's input (a name, a key, a file, a row) is wrong; the message says how to mend it."""


class RunStopped(RuntimeError):
    """A run had to stop for an outside reason (disk full, read-only folder); checkpoints are intact."""


def one_line(error: BaseException) -> str:
    """The error's type and the first line of what it says."""
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]


def place_of(error: BaseException) -> str:
    """``file.py:line`` of where an error was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "an unknown place"


def closest(name: str, known: Iterable[str], alike: float = 0.51) -> str | None:
    """The one of ``known`` that is most like ``name``, whatever the case; None if none is much like it.

    Args:
        name: what the user wrote.
        known: the names that would have been right.
        alike: how much of both must be the same, from 0 to 1 (as :class:`difflib.SequenceMatcher` has it).
    """
    by_lower = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=alike)
    return by_lower[close[0]] if close else None


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest of ``known``, or an empty string."""
    near = closest(name, known)
    return "" if near is None else f"; did you mean '{near}'?"


def unknown(kind: str, name: str, known: Iterable[str], where: str = "") -> BadInput:
    """Build the error for an unknown name: what, where, and the nearest right name.

    Args:
        kind: what was looked up ("plugin", "environment", ...).
        name: what the user wrote.
        known: the names that would have been right.
        where: ``file:line`` of the name, if it came from a file.
    """
    names = sorted(known)
    hint = nearest(name, names) or (f"; known: {', '.join(names)}" if 0 < len(names) <= 12 else "")
    prefix = f"{where}: " if where else ""
    return BadInput(f"{prefix}unknown {kind} '{name}'{hint}")
