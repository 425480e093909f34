"""Whether the answer names the right count.

Comes in: the last answer and the count (one, or a list of acceptable ones).  Goes out: 1 or 0, or how near it was.
"""

from __future__ import annotations

from typing import Any, ClassVar

from mmrl.reward import RewardPlugin
from mmrl.score import Score
from mmrl_plugins._answers import answer_in, answer_texts, tag_name
from mmrl_plugins._checked import checked_flag
from mmrl_plugins._count_words import last_count


class Counting(RewardPlugin):
    """Is the count that the answer names the right one?  In [0, 1]; microseconds.

    The last count counts, so that listing many gains nothing.  It may be digits (``7``, ``1,234``) or English words
    ("seven", "twenty-one", "a hundred and five"); "no", "none" and "nothing" are 0 where no number is named.  The score
    is 1 if it equals a reference, else 0; or, ``graded``, ``max(0, 1 - |count - reference| / max(1, reference))``, the
    best over the references.  Not applicable without a reference that names a count.

    Failure modes: "one" as a pronoun is a count ("3, and this one is red"): ask for the number last, or for a tag.
    Graded, a constant guess earns something where counts vary little.

    Args:
        tag: read only what stands in ``<tag>...</tag>``; an answer in which that pair does not occur exactly once
            scores 0.
        graded: give part of the score for a count that is near.

    Raises:
        BadInput: if ``tag`` is no name, or ``graded`` is neither true nor false.
    """

    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __init__(self, tag: str | None = None, graded: bool = False) -> None:
        self.tag = tag_name(tag)
        self.worth = nearness if checked_flag("graded", graded) else equality

    def compute(self, response: str, reference: Any) -> Score:
        """Compare the count in ``response`` with ``reference``.

        Raises:
            TypeError: if a reference is neither text nor a number, nor a mapping with ``answer``.
        """
        accepted = [count for text in answer_texts(reference) if (count := last_count(text)[0]) is not None]
        if not accepted:
            return Score.not_applicable(reason="the sample's reference names no count")
        answer, problem = answer_in(response, self.tag)
        count, problem = last_count(answer) if answer is not None else (None, problem)
        if count is None:
            return Score(0.0, info={"problem": problem})
        return Score(max(self.worth(count, right) for right in accepted), info={"count": count})


def equality(count: float, reference: float) -> float:
    """1 if the counts are equal, else 0."""
    return float(count == reference)


def nearness(count: float, reference: float) -> float:
    """``max(0, 1 - |count - reference| / max(1, reference))``."""
    return max(0.0, 1.0 - abs(count - reference) / max(1.0, reference))
