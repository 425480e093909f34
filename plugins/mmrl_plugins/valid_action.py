"""Whether the actions were ones that the environment understands.

Comes in: ``info["valid_action"]`` of every turn.  Goes out: the share of turns with a valid action.
"""

from __future__ import annotations

from typing import ClassVar

from mmrl.reward import RewardPlugin
from mmrl.score import Score
from mmrl.trajectory import Turn


class ValidAction(RewardPlugin):
    """Was the action one that the environment understands?  1 or 0 a turn, the mean over turns; microseconds.

    The environment is the judge: ``info["valid_action"]``.  Turns without a word on it are left out; not applicable
    if there is none with.

    Failure modes: a valid action need not be a sensible one: a policy that repeats one word is at 1 at once.
    """

    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def compute(self, turn: Turn) -> Score:
        """Read what the environment said of ``turn``'s action."""
        valid = turn.info.get("valid_action")
        if valid is None:
            return Score.not_applicable(reason="the environment reports no valid_action")
        return Score(float(bool(valid)))
