"""How many words of the answer are the reference's, and the other way round.

Comes in: the last answer and the reference (one, or a list of acceptable ones).  Goes out: the best F1 of words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

from mmrl.reward import RewardPlugin
from mmrl.score import Score
from mmrl_plugins._answers import answer_in, reference_texts, tag_name
from mmrl_plugins._words import unpunctuated, words

ARTICLES = frozenset({"a", "an", "the"})


class TokenF1(RewardPlugin):
    """How much of the reference's wording does the answer have, and how little else?  In [0, 1]; microseconds.

    SQuAD's F1 (arXiv 1606.05250): harmonic mean of precision and recall over the bag of words, the best over the
    references, after removing case, punctuation and the articles a, an and the.  In scripts without spaces every
    character is a word.  If either side is empty then, 1 if both are, else 0.

    Failure modes: order and negation do not count ("is not red" resembles "is red"); a short reference makes F1
    coarse.

    Args:
        tag: compare only what stands in ``<tag>...</tag>``; an answer in which that pair does not occur exactly
            once scores 0.

    Raises:
        BadInput: if ``tag`` is no name.
    """

    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __init__(self, tag: str | None = None) -> None:
        self.tag = tag_name(tag)

    def compute(self, response: str, reference: Any) -> Score:
        """Compare ``response`` with ``reference``."""
        accepted = reference_texts(reference)
        if not accepted:
            return Score.not_applicable(reason="the sample has no reference")
        answer, problem = answer_in(response, self.tag)
        if answer is None:
            return Score(0.0, info={"problem": problem})
        said = squad_words(answer)
        value, best = max(((f1(said, squad_words(text)), text) for text in accepted), key=lambda pair: pair[0])
        return Score(value, info={"best": best[:200]} if value else {})


def squad_words(text: str) -> list[str]:
    """The words of ``text`` that SQuAD compares."""
    return [word for word in words(unpunctuated(text)) if word not in ARTICLES]


def f1(said: Sequence[str], right: Sequence[str]) -> float:
    """``2 p r / (p + r)`` with the precision p and the recall r of ``said`` over the bag ``right``."""
    if not said or not right:
        return float(not said and not right)
    shared = (Counter(said) & Counter(right)).total()
    return 2 * shared / (len(said) + len(right))
