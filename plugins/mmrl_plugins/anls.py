"""Whether the answer is the reference but for a few misread characters (DocVQA's measure).

Comes in: the last answer and the acceptable references.  Goes out: the best similarity, in [0, 1].
"""

from __future__ import annotations

from typing import Any, ClassVar

from mmrl.reward import RewardPlugin
from mmrl.score import Score
from mmrl_plugins._answers import answer_in, answer_texts, tag_name
from mmrl_plugins._arguments import share
from mmrl_plugins._levenshtein import edit_distance


class Anls(RewardPlugin):
    """Is the answer spelled like the reference, but for a few characters?  In [0, 1]; microseconds.

    Average Normalised Levenshtein Similarity of ST-VQA (arXiv 1905.13648), which DocVQA and InfographicVQA use: with
    NL, the edit distance over the length of the longer text, the score is ``1 - NL`` if NL is below the threshold, else
    0; the best over the references.  (So the paper; public scripts still give 0.5 for an NL of exactly 0.5.)  Case and
    the amount of white space do not count.  The "average" is the mean over questions, which a run's metrics take.

    Failure modes: a number with one wrong digit is nearly right ("1930" for "1980": 0.75); a right answer inside a
    sentence is wrong.

    Args:
        tag: compare only what stands in ``<tag>...</tag>``; an answer in which that pair does not occur exactly
            once scores 0.
        threshold: NL from which on nothing is given, above 0 and at most 1.

    Raises:
        BadInput: if ``tag`` is no name, or for a threshold outside these bounds.
    """

    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __init__(self, tag: str | None = None, threshold: float = 0.5) -> None:
        self.tag = tag_name(tag)
        self.threshold = share("threshold", threshold)

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
        value, best = max(((similarity(answer, text, self.threshold), text) for text in accepted), key=lambda p: p[0])
        return Score(value, info={"best": best[:200]} if value else {})


def similarity(answer: str, reference: str, threshold: float = 0.5) -> float:
    """``1 - NL`` if ``NL < threshold``, else 0, with ``NL = edit_distance / max(lengths)``; two empty texts give 1.

    A text so much longer than the other that NL cannot be below the threshold is not looked at any further.
    """
    one, other = " ".join(answer.lower().split()), " ".join(reference.lower().split())
    if one == other:
        return 1.0
    longer = max(len(one), len(other))
    if abs(len(one) - len(other)) >= threshold * longer:
        return 0.0
    distance = edit_distance(one, other) / longer
    return 1.0 - distance if distance < threshold else 0.0
