"""Whether an answer keeps to its length: a soft penalty before the limit, a full one beyond.

Comes in: every answer's text or sampled tokens.  Goes out: 0 where the length is right, down to -1 where it is not.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from mmrl.errors import BadInput
from mmrl.reward import RewardPlugin
from mmrl.score import Score
from mmrl.trajectory import Turn
from mmrl_plugins._arguments import one_of, whole
from mmrl_plugins._words import runs

UNITS = ("tokens", "words", "characters")


class Length(RewardPlugin):
    """Is the answer of a fitting length?  In [-1, 0], the mean over turns; microseconds.

    The soft overlong punishment of DAPO (arXiv 2503.14476, equation 13): 0 up to ``max_length - buffer``, from
    there linearly down to -1 at ``max_length``, and -1 beyond.  An answer below ``min_length`` loses the share
    that it lacks: -1 if it is empty.  Not applicable to a turn whose policy reports no tokens, in that unit.

    Failure modes: it knows nothing of content, so that a large weight teaches short nonsense; and if the sampler
    stops at ``max_length`` tokens, -1 is as bad as it gets, however long the answer would have become.

    Args:
        max_length: the length that is punished in full, in ``unit``.
        buffer: over how much before ``max_length`` the punishment grows; by default a fifth of it, as in the
            paper (4,096 of 20,480), 0 punishes beyond ``max_length`` only.
        min_length: shorter answers are punished too; 0 allows any.
        unit: ``"tokens"`` (sampled ones), ``"words"`` (in scripts without spaces: characters) or ``"characters"``.

    Raises:
        BadInput: for a length that is no whole number, a buffer above ``max_length``, or a minimum that leaves no
            unpunished length.
    """

    range: ClassVar[tuple[float, float]] = (-1.0, 0.0)

    def __init__(self, max_length: int, buffer: int | None = None, min_length: int = 0,
                 unit: Literal["tokens", "words", "characters"] = "tokens") -> None:
        self.max_length = whole("max_length", max_length, 1)
        self.buffer = self.max_length // 5 if buffer is None else whole("buffer", buffer, 0)
        self.min_length = whole("min_length", min_length, 0)
        self.unit = one_of("unit", unit, UNITS)
        if self.buffer > self.max_length:
            raise BadInput(f"buffer is at most max_length ({self.max_length}), not {self.buffer}")
        if self.min_length > self.max_length - self.buffer:
            raise BadInput(f"min_length is at most max_length - buffer ({self.max_length - self.buffer}), "
                           f"not {self.min_length}")  # fmt: skip

    def compute(self, turn: Turn) -> Score:
        """Measure the answer of ``turn``."""
        if self.unit == "tokens" and not turn.token_ids:
            return Score.not_applicable(reason="the policy reports no tokens; unit 'words' or 'characters' needs none")
        length = self.measure(turn)
        return Score(self.penalty(length), info={"length": length, "unit": self.unit})

    def measure(self, turn: Turn) -> int:
        """The answer's length in ``unit``."""
        if self.unit == "tokens":
            return len(turn.token_ids)
        return len(runs(turn.response)) if self.unit == "words" else len(turn.response)

    def penalty(self, length: int) -> float:
        """The penalty for ``length``, in [-1, 0]."""
        if length > self.max_length:
            return -1.0
        if length > self.max_length - self.buffer:
            return (self.max_length - self.buffer - length) / self.buffer
        return length / self.min_length - 1.0 if length < self.min_length else 0.0
