"""Whether the answer is the reference, or a number near it (ChartQA's measure).

Comes in: the last answer and the acceptable references.  Goes out: 1 or 0.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, cast

from mmrl.errors import BadInput
from mmrl.reward import RewardPlugin
from mmrl.score import Score
from mmrl_plugins._answers import answer_in, answer_texts, tag_name
from mmrl_plugins._arguments import one_of
from mmrl_plugins._text import only_number

PERCENT: dict[str, float] = {"hundredth": 1.0, "ignored": 100.0}
"""What a number with a percent sign, read as so many hundredths, is multiplied with."""
ROUNDING = 1e-9
"""Relative slack for floating point, so that 2.1 is within 5% of 2."""


class RelaxedAccuracy(RewardPlugin):
    """Is the answer the reference, or a number within 5% of it?  1 or 0; microseconds.

    ChartQA's relaxed accuracy (arXiv 2203.10244, after PlotQA, arXiv 1909.00997): if answer and reference are numbers
    and nothing else, ``|answer - reference| <= tolerance * |reference|``; else they must be equal but for case and the
    amount of white space.  The best over the references.  Numbers may be written ``1,234.5``, ``-3``, ``1e-3``,
    ``3/4``, ``$5``, ``50%``; the original takes fewer spellings.  For the reference 0 only 0 is near enough.

    Failure modes: as in the original, years are numbers, so that 1950 passes for 2000; ``number_match`` or
    ``exact_match`` are stricter.  A right answer with a unit or inside a sentence is wrong.

    Args:
        tag: compare only what stands in ``<tag>...</tag>``; an answer in which that pair does not occur exactly
            once scores 0.
        tolerance: the difference relative to the reference that passes, in [0, 1).
        percent: what a percent sign means, on both sides: ``hundredth`` (50% is 0.5 and not 50, as in the common
            scripts) or ``ignored`` (50% is 50, for charts whose references leave the sign out).

    Raises:
        BadInput: if ``tag`` is no name, for a tolerance outside these bounds, or an unknown ``percent``.
    """

    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __init__(self, tag: str | None = None, tolerance: float = 0.05,
                 percent: Literal["hundredth", "ignored"] = "hundredth") -> None:
        self.tag = tag_name(tag)
        if isinstance(tolerance, bool) or not isinstance(cast("Any", tolerance), int | float) or not 0 <= tolerance < 1:
            raise BadInput(f"tolerance is a number in [0, 1), not {tolerance!r}")
        self.tolerance = float(tolerance)
        self.percent = PERCENT[one_of("percent", percent, PERCENT)]

    def compute(self, response: str, reference: Any) -> Score:
        """Compare ``response`` with ``reference``.

        Raises:
            TypeError: if a reference is neither text nor a number, nor a mapping with ``answer``.
        """
        accepted = answer_texts(reference)
        if not accepted:
            return Score.not_applicable(reason="the sample has no reference")
        answer, problem = answer_in(response, self.tag)
        if answer is None:
            return Score(0.0, info={"problem": problem})
        number = self.number(answer)
        right = any(_same(answer, text) or self.near(number, self.number(text)) for text in accepted)
        return Score(float(right), info={"answer": answer[:200]} if number is None else {"number": number})

    def number(self, text: str) -> float | None:
        """The number that ``text`` is, or None."""
        value = only_number(text)
        return value * self.percent if value is not None and text.rstrip().endswith("%") else value

    def near(self, answer: float | None, reference: float | None) -> bool:
        """Whether both are numbers and near enough to each other."""
        if answer is None or reference is None:
            return False
        return abs(answer - reference) <= self.tolerance * abs(reference) * (1.0 + ROUNDING)


def _same(one: str, other: str) -> bool:
    return " ".join(one.casefold().split()) == " ".join(other.casefold().split())
