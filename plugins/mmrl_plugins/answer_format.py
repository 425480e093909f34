"""Whether the answers have the asked-for form: tags in order, or a regular expression.

Comes in: the text of every answer.  Goes out: the share of answers in form, each answer's mark, and what was wrong.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from mmrl.errors import BadInput
from mmrl.reward import RewardPlugin
from mmrl.score import Score
from mmrl.trajectory import Trajectory
from mmrl_plugins._text import is_tag, tagged


class AnswerFormat(RewardPlugin):
    """The share of answers in form, in [0, 1]; every turn counts alike.

    Not applicable to an episode without turns.  Exactly one of the two arguments is given.

    Args:
        tags: names of tags; each is opened once and closed once, and they follow each other in this order
            without overlap.  Text may stand around and between them.
        pattern: a regular expression that the whole answer matches; ``.`` matches newlines too.

    Raises:
        BadInput: for both or neither argument, a tag that is no name or comes twice, or a bad expression.
    """

    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __init__(self, tags: Sequence[str] | None = None, pattern: str | None = None) -> None:
        if (tags is None) == (pattern is None):
            raise BadInput("give either tags (['think', 'answer']) or pattern (a regular expression), not both")
        self.tags = () if tags is None else _checked_tags(tags)
        self.pattern: re.Pattern[str] | None = None
        if pattern is not None:
            try:
                self.pattern = re.compile(pattern, re.DOTALL)
            except (re.error, TypeError) as error:
                raise BadInput(f"pattern {pattern!r} is no regular expression: {error}") from error

    def compute(self, trajectory: Trajectory) -> Score:
        """Mark every answer of ``trajectory``."""
        problems = [self.problem(turn.response) for turn in trajectory.turns]
        if not problems:
            return Score.not_applicable(reason="the episode has no turns")
        shares = tuple(float(not problem) / len(problems) for problem in problems)
        found = {f"turn {i}": problem for i, problem in enumerate(problems) if problem}
        return Score(problems.count("") / len(problems), info={"problems": found} if found else {}, turns=shares)

    def problem(self, response: str) -> str:
        """What keeps ``response`` from being in form; empty if nothing does."""
        if self.pattern is not None:
            return "" if self.pattern.fullmatch(response) else "does not match the pattern"
        wrong = [problem for tag in self.tags if (problem := tagged(response, tag)[1])]
        if wrong:
            return "; ".join(wrong)
        marks = [mark for tag in self.tags for mark in (f"<{tag}>", f"</{tag}>")]
        places = [response.index(mark) for mark in marks]
        return "" if places == sorted(places) else f"the tags are not in the order {' '.join(marks)}"


def _checked_tags(tags: Sequence[str]) -> tuple[str, ...]:
    names: list[str] = [] if isinstance(tags, str) else list(tags)
    if not names or not all(is_tag(n) for n in names) or len(set(names)) < len(names):
        raise BadInput(f"tags is a list of different names such as ['think', 'answer'], not {tags!r}")
    return tuple(names)
