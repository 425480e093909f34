"""Reading answers out of text: tagged spans and numbers.  Every scan here is linear in the text's length."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, cast

_MINUS_SIGNS = str.maketrans({"\u2212": "-", "\ufe63": "-", "\uff0d": "-"})
# A candidate is a maximal run that looks like a number.  It is judged whole by _value, so that "1,2,3" is one
# malformed candidate and not three numbers.  The sign counts only where it cannot be a subtraction ("5-3"), and
# digits after a letter, a point or a caret ("x2", "km^2") belong to something else.
_CANDIDATE = re.compile(
    r"(?<![\w.^])(?:(?<![)\]])[-+])?[$€£¥]?\.?[0-9](?:[0-9.,/]|(?<=[0-9])[eE][-+]?[0-9])*+(?:[ ]?%)?"
)
_PLAIN = re.compile(r"(?:[0-9]++(?:\.[0-9]++)?|\.[0-9]++)(?:[eE][-+]?[0-9]++)?")
_GROUPED = re.compile(r"[0-9]{1,3}(?:,[0-9]{3})++(?:\.[0-9]++)?")
_TAG = re.compile(r"[A-Za-z][\w-]*")


def is_tag(name: Any) -> bool:
    """Whether ``name`` can be a tag's name: a letter, then letters, digits, ``_`` or ``-``."""
    return isinstance(name, str) and _TAG.fullmatch(name) is not None


def tagged(text: str, tag: str) -> tuple[str | None, str]:
    """Take what stands between ``<tag>`` and ``</tag>``, if that pair occurs exactly once.

    Returns:
        The content and an empty string; or None and what is wrong.
    """
    opening, closing = f"<{tag}>", f"</{tag}>"
    opened, closed = text.count(opening), text.count(closing)
    if opened != 1 or closed != 1:
        wrong = [f"{n} times {mark}" for mark, n in ((opening, opened), (closing, closed)) if n != 1]
        return None, f"{' and '.join(wrong)}, must be once"
    start, end = text.index(opening) + len(opening), text.index(closing)
    return (text[start:end], "") if start <= end else (None, f"{closing} stands before {opening}")


def _plain(body: str) -> float | None:
    """The value of digits with optional thousands separators, decimals and exponent; None if malformed."""
    if not (_GROUPED.fullmatch(body) or _PLAIN.fullmatch(body)):
        return None
    value = float(body.replace(",", ""))
    return value if math.isfinite(value) else None


def _value(candidate: str) -> float | None:
    sign = -1.0 if candidate.startswith("-") else 1.0
    body = candidate.lstrip("+-$€£¥").rstrip("% ").rstrip(".,/")
    above, slash, below = body.partition("/")
    value = _plain(above)
    if value is not None and slash:
        divisor = _plain(below)
        value = value / divisor if divisor else None
    if value is None or not math.isfinite(value):
        return None
    return sign * (value / 100 if candidate.endswith("%") else value)


def last_number(text: str) -> float | None:
    """The last number in ``text``: ``1,234.5``, ``-3``, ``1e-3``, ``3/4``, ``50%`` (which is 0.5), ``$5``.

    Returns:
        The number; None if there is none, or if the last thing that looks like a number is not one
        (``1,2,3``, ``1.2.3``, ``1/0``, ``1e999``).
    """
    found = last_number_at(text)
    return None if found is None else found.value


@dataclass(frozen=True)
class NumberAt:
    """A thing that looks like a number: where it stands, and its value, or None if it is malformed."""

    start: int
    end: int
    value: float | None


def last_number_at(text: str) -> NumberAt | None:
    """The last thing in ``text`` that looks like a number, if there is one."""
    last: re.Match[str] | None = None
    for match in _CANDIDATE.finditer(text.translate(_MINUS_SIGNS)):
        last = match
    return None if last is None else NumberAt(last.start(), last.end(), _value(last[0]))


def only_number(text: str) -> float | None:
    """The number, written as for :func:`last_number`, that ``text`` is and nothing else; or None."""
    match = _CANDIDATE.fullmatch(text.translate(_MINUS_SIGNS).strip())
    return None if match is None else _value(match[0])


def references(reference: Any) -> list[Any]:
    """The acceptable answers: ``reference`` itself, or its items if it is a list or a tuple."""
    return list(cast("list[Any]", reference)) if isinstance(reference, list | tuple) else [reference]
