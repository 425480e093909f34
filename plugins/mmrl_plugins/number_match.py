"""Whether the last number of the answer equals the reference.

Comes in: the last answer and a numeric reference (one, or a list of acceptable ones).  Goes out: 1 or 0.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from mmrl.errors import BadInput
from mmrl.reward import RewardPlugin
from mmrl.score import Score
from mmrl_plugins._text import last_number, references


class NumberMatch(RewardPlugin):
    """1 if ``|answer - reference| <= max(rel_tol * |reference|, abs_tol)``, else 0.

    Only the last number of the answer counts, so that listing many gains nothing.  It may be written as
    ``1,234.5``, ``-3``, ``1e-3``, ``3/4`` or ``50%`` (which is 0.5).  Not applicable without a numeric reference.

    Args:
        rel_tol: tolerance relative to the reference, in [0, 1).
        abs_tol: absolute tolerance, at least 0.

    Raises:
        BadInput: for a tolerance outside these bounds.
    """

    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __init__(self, rel_tol: float = 1e-9, abs_tol: float = 1e-12) -> None:
        if not 0.0 <= rel_tol < 1.0:
            raise BadInput(f"rel_tol is in [0, 1), not {rel_tol}")
        if not 0.0 <= abs_tol < math.inf:
            raise BadInput(f"abs_tol is at least 0, not {abs_tol}")
        self.rel_tol, self.abs_tol = float(rel_tol), float(abs_tol)

    def compute(self, response: str, reference: Any) -> Score:
        """Compare the last number of ``response`` with ``reference``."""
        accepted = [n for r in references(reference) if (n := _number(r)) is not None]
        if not accepted:
            return Score.not_applicable(reason="the sample has no numeric reference")
        number = last_number(response)
        if number is None:
            return Score(0.0, info={"problem": "the answer ends in no number"})
        close = any(abs(number - a) <= max(self.rel_tol * abs(a), self.abs_tol) for a in accepted)
        return Score(float(close), info={"number": number})


def _number(reference: Any) -> float | None:
    if isinstance(reference, bool) or reference is None:
        return None
    if isinstance(reference, str):
        return last_number(reference)
    try:
        value = float(reference)
    except (TypeError, ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None
