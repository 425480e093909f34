"""Whether the right letter of a multiple-choice question was chosen.

Comes in: the last answer, the reference (a letter, an index or the text of a choice) and the choices where they are
known.  Goes out: 1 or 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

from mmrl.errors import BadInput
from mmrl.reward import RewardPlugin
from mmrl.score import Score
from mmrl.trajectory import Trajectory
from mmrl_plugins._answers import answer_in, tag_name
from mmrl_plugins._choice import LETTERS, chosen, letter_of, same
from mmrl_plugins._text import references

UNLISTED = 5
"""Letters that count where nobody lists the choices: A to E, and up to the reference."""


class MultipleChoice(RewardPlugin):
    r"""Was the right choice named, and no other?  1 or 0; microseconds.

    The letter is read from ``B``, ``(b)``, ``**B**``, ``B. Paris``, ``The answer is B.``, ``\boxed{B}``, a last line
    that is a letter, or else the only capital letter that stands alone and is not denied ("not A").  Where the choices
    are known, the text of one will do as well.  An answer that names several choices, or a letter with another
    choice's text, scores 0.  One that takes a letter back ("A... no, wait: B"), or ends in a "final answer", counts as
    what it says last; "The answer is A. The answer is B." takes nothing back and names two.

    The choices are ``sample.meta["choices"]``, or ``{"answer": ..., "choices": [...]}`` as the reference, or the
    argument.  The reference is a letter, an index from 0 (of known choices), the text of a choice, or a list of
    acceptable ones; not applicable if it is none of these.

    Failure modes: reasoning that weighs several letters and states none counts as naming several; have the answer put
    into a tag.

    Args:
        choices: the texts of the choices, where every sample has the same and does not list them.
        tag: read only what stands in ``<tag>...</tag>``; an answer in which that pair does not occur exactly once
            scores 0.

    Raises:
        BadInput: for choices that are no list of 2 to 26 different texts, or a tag that is no name.
    """

    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __init__(self, choices: Sequence[str] | None = None, tag: str | None = None) -> None:
        try:
            self.choices = None if choices is None else _texts(choices)
        except ValueError as error:
            raise BadInput(str(error)) from error
        self.tag = tag_name(tag)

    def compute(self, response: str, reference: Any, trajectory: Trajectory) -> Score:
        """Compare the choice in ``response`` with ``reference``.

        Raises:
            ValueError: if the sample's choices are no list of 2 to 26 different texts.
        """
        listed: Any = trajectory.sample.meta.get("choices")
        if isinstance(reference, Mapping):
            inner = cast("Mapping[str, Any]", reference)
            listed, reference = inner.get("choices", listed), inner.get("answer")
        choices = self.choices if listed is None else _texts(listed)
        right = {letter for r in references(reference) if (letter := reference_letter(r, choices))}
        if not right:
            return Score.not_applicable(reason="the reference names no choice")
        answer, problem = answer_in(response, self.tag)
        if answer is None:
            return Score(0.0, info={"problem": problem})
        known = len(choices) if choices else max(UNLISTED, *(LETTERS.index(r) + 1 for r in right))
        named = chosen(answer, LETTERS[:known], choices or ())
        if len(named) != 1:
            return Score(0.0, info={"problem": f"names {', '.join(sorted(named)) or 'no choice'}"})
        return Score(float(named <= right), info={"choice": next(iter(named))})


def reference_letter(reference: Any, choices: Sequence[str] | None) -> str | None:
    """The letter of the choice that ``reference`` names, or None."""
    if isinstance(reference, bool) or not isinstance(reference, int | str):
        return None
    if isinstance(reference, int):
        return LETTERS[reference] if choices and 0 <= reference < len(choices) else None
    letter = letter_of(reference)
    if letter and (choices is None or LETTERS.index(letter) < len(choices)):
        return letter
    return next((LETTERS[i] for i, text in enumerate(choices or ()) if same(text, reference)), None)


def _texts(choices: Any) -> tuple[str, ...]:
    texts: list[Any] = list(choices) if isinstance(choices, list | tuple) else []
    if not 2 <= len(texts) <= len(LETTERS) or len(set(map(str, texts))) < len(texts):
        raise ValueError(f"choices is a list of 2 to {len(LETTERS)} different texts, not {choices!r:.200}")
    return tuple(map(str, texts))
