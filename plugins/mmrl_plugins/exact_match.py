"""Whether the last answer equals the reference, after harmless differences are removed.

Comes in: the last answer and the reference (one, or a list of acceptable ones).  Goes out: 1 or 0.
"""

from __future__ import annotations

from typing import Any, ClassVar

from mmrl.errors import BadInput
from mmrl.reward import RewardPlugin
from mmrl.score import Score
from mmrl_plugins._text import is_tag, references, tagged

SHOWN = 1000
"""Characters of the answer that are kept for people."""


class ExactMatch(RewardPlugin):
    """1 if the answer equals an acceptable reference, else 0.  Not applicable without a reference.

    Args:
        tag: compare only what stands in ``<tag>...</tag>``; an answer in which that pair does not occur
            exactly once scores 0, so that listing several answers gains nothing.
        strip: ignore white space around the answer.
        casefold: ignore upper and lower case.
        collapse: count any run of white space as one space.

    Raises:
        BadInput: if ``tag`` is no name.
    """

    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __init__(self, tag: str | None = None, strip: bool = True, casefold: bool = True,
                 collapse: bool = True) -> None:
        if tag is not None and not is_tag(tag):
            raise BadInput(f"tag is a name such as 'answer' (without brackets), not {tag!r}")
        self.tag, self.strip, self.casefold, self.collapse = tag, strip, casefold, collapse

    def compute(self, response: str, reference: Any) -> Score:
        """Compare ``response`` with ``reference``.

        Raises:
            TypeError: if a reference is neither text nor a number.
        """
        accepted = [r for r in references(reference) if r is not None]
        if not accepted:
            return Score.not_applicable(reason="the sample has no reference")
        for item in accepted:
            if not isinstance(item, str | int | float):
                raise TypeError(f"a reference is text or a number, or a list of them, not {type(item).__name__}")
        answer: str | None = response
        if self.tag is not None:
            answer, problem = tagged(response, self.tag)
            if answer is None:
                return Score(0.0, info={"problem": problem})
        answer = self.normalise(answer)
        return Score(float(answer in [self.normalise(str(r)) for r in accepted]), info={"answer": answer[:SHOWN]})

    def normalise(self, text: str) -> str:
        """Remove the differences that do not count."""
        if self.collapse:
            # str.split() would strip as well; the two switches stay apart.
            lead = " " if text[:1].isspace() else ""
            tail = " " if text[-1:].isspace() else ""
            text = f"{lead}{' '.join(text.split())}{tail}"
        text = text.strip() if self.strip else text
        return text.casefold() if self.casefold else text
