"""A question about images, its right answers, and what an answer is worth.

Comes in: a question as a row has it, and what the policy said.  Goes out: a score in [0, 1], whether that is right, and
what is wrong with an answer that is none.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mmrl.vqa_answer import normalise_answer, vqa_score

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

Lists = Literal["annotators", "alternatives"]
LISTS: Mapping[str, Callable[[str, Sequence[str]], float]] = {
    "annotators": vqa_score,
    "alternatives": lambda answer, texts: max(vqa_score(answer, [text]) for text in texts),
}
"""What a list of answers means, as a function of the given answer and the list."""
ENOUGH = 0.5
"""A score among several annotators from which an answer counts as right: two of ten said the same."""

_LETTER = re.compile(r"[\s(\[*\"'`]*([A-Za-z])[)\]*\"'`.:\s]*")
_LABELLED = re.compile(r"[\s(\[*\"'`]*([A-Za-z])[*\"'`]*[.:)\]][.:)\]*\"'`\s]*(.+)", re.DOTALL)


@dataclass(frozen=True)
class Question:
    """A question and what is right.

    Attributes:
        text: what is asked, the choices included.
        answers: the right answer, or several (annotators or alternatives); of choices the letter.
        choices: the texts of the choices, if it has any.
        structure: a right answer that is no text, such as a box; ``answers`` then holds its JSON.
    """

    text: str
    answers: tuple[str, ...]
    choices: tuple[str, ...] = ()
    structure: Any = None

    @property
    def reference(self) -> Any:
        """The right answer for plugins: a text, a list of them, or what the row held."""
        if self.structure is not None:
            return self.structure
        return self.answers[0] if len(self.answers) == 1 else list(self.answers)

    @property
    def best(self) -> str:
        """What an expert answers: the answer of most annotators, the first of several."""
        usual = Counter(map(normalise_answer, self.answers)).most_common(1)[0][0]
        return next(answer for answer in self.answers if normalise_answer(answer) == usual)


def grade(question: Question, answer: str, lists: Lists = "annotators") -> float:
    """What ``answer`` is worth, in [0, 1].

    Of choices, naming the right one, and it alone, by letter or text is 1, else 0.  A structure is compared as JSON.
    Texts are compared as the official VQA evaluation does (:mod:`mmrl.vqa_answer`): with one right answer 1 or 0, with
    several as ``lists`` says.
    """
    if question.choices:
        return float(named(answer, question.choices) == question.answers[0])
    if question.structure is not None:
        try:
            return float(json.loads(answer) == question.structure)
        except (ValueError, RecursionError):
            return 0.0
    return LISTS[lists](answer, question.answers)


def is_right(question: Question, score: float, lists: Lists = "annotators") -> bool:
    """Whether a score counts as success: at least 0.5 where several annotators answered, else 1."""
    return score >= (ENOUGH if lists == "annotators" and len(question.answers) > 1 else 1.0)


def named(answer: str, choices: Sequence[str]) -> str | None:
    """The letter of the choice that ``answer`` names, or None.

    A name is the letter (``B``, ``(b)``, ``B.``), the text of the choice, or both (``B. Paris``), and nothing else: for
    answers in whole sentences there is the plugin ``multiple_choice``.
    """
    letters = LETTERS[: len(choices)]
    alone = _LETTER.fullmatch(answer)
    if alone and alone[1].upper() in letters:
        return alone[1].upper()
    if (exact := answer.strip()) in (texts := [text.strip() for text in choices]):
        return letters[texts.index(exact)]
    both = _LABELLED.fullmatch(answer)
    if both and both[1].upper() in letters:
        # Before texts are compared without articles: "A. red" names two choices where A is another one.
        letter = both[1].upper()
        return letter if _same(choices[letters.index(letter)], both[2]) else None
    meant = [letter for letter, text in zip(letters, choices, strict=True) if _same(text, answer)]
    return meant[0] if len(meant) == 1 else None


def right_letter(answer: str | int, choices: Sequence[str]) -> str | None:
    """The letter that a row's answer means: a letter, the text of a choice, or an index from 0; None if it is none."""
    if isinstance(answer, int):
        return LETTERS[answer] if 0 <= answer < len(choices) else None
    letter = named(answer, choices)
    if letter is None and answer.strip().isdecimal() and int(answer) < len(choices):
        return LETTERS[int(answer)]
    return letter


def listing(choices: Sequence[str]) -> str:
    """The choices, a line each: ``A. red``."""
    return "\n".join(f"{letter}. {text}" for letter, text in zip(LETTERS, choices, strict=False))


def complaint(question: Question, answer: str) -> str:
    """What is wrong with an answer that is none; empty for one that can be graded."""
    if question.choices and named(answer, question.choices) is None:
        last = LETTERS[len(question.choices) - 1]
        return f"Invalid answer: {answer[:80]!r}. Answer with a letter from A to {last}, or with the text of a choice."
    return "" if answer.strip() else "Invalid answer: nothing was said."


def _same(one: str, other: str) -> bool:
    return vqa_score(one, [other]) == 1.0
