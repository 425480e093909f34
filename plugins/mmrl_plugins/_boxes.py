"""Boxes in text, and how well they overlap.

Comes in: an answer, or a reference as a dataset gives it.  Goes out: boxes as four numbers, and scores in [0, 1].
Every scan is linear in the text's length.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np

Box = tuple[float, float, float, float]
"""Left, top, right, bottom once its format is known; before that, four numbers."""

FORMATS: dict[str, Callable[[Box], Box]] = {
    "xyxy": lambda box: box,
    "xywh": lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3]),
}
"""How four numbers become left, top, right, bottom."""
MAX_BOXES = 1000
"""Boxes of one answer, or of one reference, that are compared."""
KEYS = ("bbox_2d", "bbox", "box")
"""Under which of these names, tried in this order, a reference's mapping has its box."""

_N = r"[-+]?+(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][-+]?+[0-9]++)?+"
_SEP = r"(?:\s*+,\s*+|\s++)"
_FOUR = rf"({_N}){_SEP}({_N}){_SEP}({_N}){_SEP}({_N})"


def _pairs(left: str, right: str) -> str:
    return rf"{left}\s*+({_N}){_SEP}({_N})\s*+{right}\s*+,?+\s*+{left}\s*+({_N}){_SEP}({_N})\s*+{right}"


# [a, b, c, d]   (a, b, c, d)   <box>a, b, c, d</box>   (a, b), (c, d)   [[a, b], [c, d]]
_BOX = re.compile("|".join((
    rf"\[\s*+{_FOUR}\s*+,?+\s*+\]", rf"\(\s*+{_FOUR}\s*+,?+\s*+\)", rf"<box>\s*+{_FOUR}\s*+</box>",
    _pairs(r"\(", r"\)"), _pairs(r"\[", r"\]"),
)))  # fmt: skip
_BARE = re.compile(rf"\s*+{_FOUR}\s*+\.?+\s*+")


def boxes_in(text: str) -> list[Box]:
    """The boxes that ``text`` names, as they stand there, in order.

    A box is ``[a, b, c, d]``, alone, in a list or in any JSON; ``(a, b, c, d)``; ``(a, b), (c, d)`` or
    ``[[a, b], [c, d]]``; any of these or plain numbers between ``<box>`` and ``</box>``; or four numbers that are the
    whole text.  Commas or blanks stand between numbers.  Numbers that are not finite make no box.
    """
    bare = _BARE.fullmatch(text)
    found = [bare] if bare else _BOX.finditer(text)
    boxes = [cast("Box", tuple(float(g) for g in match.groups() if g is not None)) for match in found]
    return [box for box in boxes if all(map(math.isfinite, box))]


def reference_boxes(reference: Any) -> list[Box]:
    """The boxes of a reference: a box, a text as for :func:`boxes_in`, a mapping with a box, or a list of these.

    What is none of these is left out.
    """
    if isinstance(reference, str):
        return boxes_in(reference)
    if isinstance(reference, Mapping):
        entry = cast("Mapping[str, Any]", reference)
        return reference_boxes(next((entry[key] for key in KEYS if key in entry), None))
    items: list[Any] = list(reference) if isinstance(reference, list | tuple) else []
    numbers = [float(n) for n in items if isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n)]
    if len(numbers) == len(items) == 4:
        return [cast("Box", tuple(numbers))]
    return [box for item in items if isinstance(item, list | tuple | Mapping | str) for box in reference_boxes(item)]


def has_area(box: Box) -> bool:
    """Whether left is left of right, and top above bottom, and all are finite."""
    return all(map(math.isfinite, box)) and box[0] < box[2] and box[1] < box[3]


def iou(one: Sequence[Box], other: Sequence[Box]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Intersection over union of each box of ``one`` with each of ``other``; boxes are left, top, right, bottom.

    Returns:
        An array of shape (len(one), len(other)) with values in [0, 1].  A box without area has 0 with every other.
    """
    a, b = (np.asarray(boxes, dtype=np.float64).reshape(-1, 4) for boxes in (one, other))
    # Scaled by the greatest number, which changes no ratio, so that products of huge numbers stay finite.
    greatest = max((float(np.abs(boxes).max()) for boxes in (a, b) if boxes.size), default=0.0) or 1.0
    a, b = a / greatest, b / greatest
    corners = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(corners[1] - corners[0], 0.0, None).prod(axis=2)
    area_a, area_b = (np.clip(boxes[:, 2:] - boxes[:, :2], 0.0, None).prod(axis=1) for boxes in (a, b))
    union = area_a[:, None] + area_b[None, :] - shared
    return np.clip(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0.0), 0.0, 1.0)


def matched(overlaps: np.ndarray[Any, np.dtype[np.float64]]) -> list[float]:
    """Pair rows with columns, the greatest overlap first, each at most once; the overlaps of the pairs above 0.

    Greedy, as detection benchmarks pair; where boxes overlap each other a lot, another pairing may add up to more.
    """
    rows, columns = overlaps.shape
    free_rows, free_columns = [True] * rows, [True] * columns
    pairs: list[float] = []
    for at in np.argsort(-overlaps, axis=None, kind="stable"):
        row, column = divmod(int(at), columns)
        value = float(overlaps[row, column])
        if value <= 0.0 or len(pairs) == min(rows, columns):
            break
        if free_rows[row] and free_columns[column]:
            free_rows[row] = free_columns[column] = False
            pairs.append(value)
    return pairs
