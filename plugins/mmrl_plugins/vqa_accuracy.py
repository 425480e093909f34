"""What the answer is worth among those of several annotators (VQA's measure).

Comes in: the last answer and what the annotators said.  Goes out: the official VQA accuracy, in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

from mmrl.reward import RewardPlugin
from mmrl.score import Score
from mmrl.vqa_answer import normalise_answer, vqa_score
from mmrl_plugins._answers import answer_in, answer_texts, tag_name
from mmrl_plugins._arguments import one_of

LISTS: dict[str, Callable[[str, Sequence[str]], float]] = {
    "annotators": vqa_score,
    "alternatives": lambda answer, texts: max(vqa_score(answer, [text]) for text in texts),
}
"""What a list of references means, as a function of the answer and the list."""


class VqaAccuracy(RewardPlugin):
    """How many annotators gave this answer?  The official VQA accuracy, in [0, 1]; microseconds.

    Answers are normalised as the VQA evaluation does (case, punctuation, number words, articles, contractions).  With
    ten annotators 0, 1, 2, 3, 4 or more equal answers are worth 0, 0.3, 0.6, 0.9 and 1: the mean, over each annotator
    left out, of ``min(1, equal answers of the others / 3)``.  One reference gives 1 or 0.  Source: Antol et al. 2015,
    arXiv 1505.00468, and the evaluation page of visualqa.org; ``mmrl/vqa_answer.py`` says where this differs.

    The reference is one answer, a list of answers, or a list of ``{"answer": ...}``.

    Failure modes: a right answer inside a sentence is wrong: ask for a word or a phrase, or for a tag.  A list of two
    or three answers that are alternatives and no annotators gets at most 1/3 or 2/3: set ``lists``.

    Args:
        tag: compare only what stands in ``<tag>...</tag>``; an answer in which that pair does not occur exactly
            once scores 0.
        lists: what a list of references holds: ``annotators``, one answer a person, repetitions and all; or
            ``alternatives``, of which each is wholly right.

    Raises:
        BadInput: if ``tag`` is no name, or ``lists`` is none of these.
    """

    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __init__(self, tag: str | None = None, lists: Literal["annotators", "alternatives"] = "annotators") -> None:
        self.tag = tag_name(tag)
        self.worth = LISTS[one_of("lists", lists, LISTS)]

    def compute(self, response: str, reference: Any) -> Score:
        """Compare ``response`` with ``reference``.

        Raises:
            TypeError: if a reference is neither text nor a number, nor a mapping with ``answer``.
        """
        said = answer_texts(reference)
        if not said:
            return Score.not_applicable(reason="the sample has no reference")
        answer, problem = answer_in(response, self.tag)
        if answer is None:
            return Score(0.0, info={"problem": problem})
        return Score(self.worth(answer, said), info={"answer": normalise_answer(answer[:1000])})
