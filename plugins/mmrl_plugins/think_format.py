"""Whether every answer thinks first and then speaks.

Comes in: every answer's text.  Goes out: 1 for one thought in tags and a non-empty answer after it, else 0, and why.
"""

from __future__ import annotations

from typing import ClassVar

from mmrl.errors import BadInput
from mmrl.reward import RewardPlugin
from mmrl.score import Score
from mmrl.trajectory import Turn
from mmrl_plugins._checked import checked_flag
from mmrl_plugins._text import is_tag, tagged


class ThinkFormat(RewardPlugin):
    """Is it a thought and then an answer?  1 or 0 a turn, the mean over turns; microseconds.

    In form is ``<think>...</think>`` exactly once, nothing but white space before it, and an answer that is not
    empty after it, as in DeepSeek-R1 (arXiv 2501.12948).

    Failure modes: it does not look into the thought, which may be empty; weighed alone it is learnt in a few steps
    and then says nothing.

    Args:
        think: the name of the thought's tag.
        answer: the name of a tag that must hold all that follows the thought, exactly once in the whole text; by
            default the answer stands bare.
        opened: the chat template has written ``<think>`` already, so that the text begins inside the thought.

    Raises:
        BadInput: for a tag that is no name, or one name for both.
    """

    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __init__(self, think: str = "think", answer: str | None = None, opened: bool = False) -> None:
        for name, tag in (("think", think), ("answer", answer)):
            if not is_tag(tag) and not (name == "answer" and tag is None):
                raise BadInput(f"{name} is a tag's name such as '{name}' (without brackets), not {tag!r}")
        if think == answer:
            raise BadInput(f"think and answer are different tags, not both {think!r}")
        self.think, self.answer, self.opened = think, answer, checked_flag("opened", opened)

    def compute(self, turn: Turn) -> Score:
        """Judge the answer of ``turn``."""
        problem = self.problem(turn.response)
        return Score(float(not problem), info={"problem": problem} if problem else {})

    def problem(self, response: str) -> str:
        """What keeps ``response`` from being in form; empty if nothing does."""
        text = f"<{self.think}>{response}" if self.opened else response
        thought, problem = tagged(text, self.think)
        if thought is None:
            return problem
        before, _, rest = text.partition(f"<{self.think}>")
        if before.strip():
            return f"text before <{self.think}>"
        said = rest[len(thought) + len(f"</{self.think}>") :].strip()
        if self.answer is not None:
            inside, problem = tagged(text, self.answer)
            if inside is None:
                return problem
            if not (said.startswith(f"<{self.answer}>") and said.endswith(f"</{self.answer}>")):
                return f"<{self.answer}>...</{self.answer}> is not all that follows the thought"
            said = inside.strip()
        return "" if said else "the answer is empty"
