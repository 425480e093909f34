"""Whether the task was solved, in the environment's own words.

Comes in: ``info["success"]`` of the turns.  Goes out: 1 or 0.
"""

from __future__ import annotations

from typing import ClassVar

from mmrl.reward import RewardPlugin
from mmrl.score import Score
from mmrl.trajectory import Trajectory


class TaskCompletion(RewardPlugin):
    """1 if the episode ended in success, else 0; the same judgement as ``Trajectory.success``.

    An episode that was cut short before the environment spoke of success is a 0, lest a policy gain by
    stalling.  An episode that ended by itself without a word on success is not applicable: that
    environment reports none.
    """

    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def compute(self, trajectory: Trajectory) -> Score:
        """Read the success of ``trajectory``."""
        if any("success" in turn.info for turn in trajectory.turns):
            return Score(float(trajectory.success))
        if trajectory.turns and trajectory.truncated and trajectory.error is None:
            return Score(0.0, info={"reason": "cut short before the environment called it a success"})
        return Score.not_applicable(reason="the environment reports no success")
