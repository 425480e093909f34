"""The environment's own return: what the task itself paid.

Comes in: the reward of each turn.  Goes out: their (discounted) sum, and each turn's share of it.
"""

from __future__ import annotations

from mmrl.errors import BadInput
from mmrl.reward import RewardPlugin
from mmrl.score import Score
from mmrl.trajectory import Trajectory


class EnvReward(RewardPlugin):
    """``sum_t gamma^t r_t`` over the turns; the per-turn values are the terms, so they add up to it.

    Not applicable to an episode without turns.  The range is the environment's.

    Args:
        gamma: discount a turn, in [0, 1].

    Raises:
        BadInput: if ``gamma`` is outside [0, 1].
    """

    def __init__(self, gamma: float = 1.0) -> None:
        if not 0.0 <= gamma <= 1.0:
            raise BadInput(f"gamma is in [0, 1], not {gamma}")
        self.gamma = float(gamma)

    def compute(self, trajectory: Trajectory) -> Score:
        """Sum the rewards of ``trajectory``."""
        if not trajectory.turns:
            return Score.not_applicable(reason="the episode has no turns")
        terms = tuple(self.gamma**t * float(turn.reward) for t, turn in enumerate(trajectory.turns))
        return Score(float(sum(terms)), turns=terms)
