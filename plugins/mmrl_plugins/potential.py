"""Help on the way that cannot change what is best: potential-based shaping.

Comes in: ``info["potential"]`` of the state in which each turn spoke.  Goes out: the potentials, by turn; the
suite makes shaping rewards of them.
"""

from __future__ import annotations

from typing import ClassVar

from mmrl.reward import RewardPlugin
from mmrl.score import Score
from mmrl.trajectory import Trajectory


class Potential(RewardPlugin):
    """``discount * Phi(s') - Phi(s)`` for every turn, with Phi from the environment (Ng, Harada and Russell, 1999).

    Over an episode the rewards add up to minus the potential of its first state, whatever the policy does, so that the
    order of policies stays as it was; each turn is told whether it led to a more promising state.  It is of use with
    turn-level credit (``training_args.turn_discount`` below 1, which is also the discount here); with trajectory-level
    credit all episodes of a group get the same.

    Range: any, it is the environment's.  Not applicable if a state comes without a potential.  Fails if a potential is
    no number.

    Args:
        scale: what the environment's potential is multiplied with.
    """

    potential: ClassVar[bool] = True

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = float(scale)

    def compute(self, trajectory: Trajectory) -> Score:
        """Read the potentials of ``trajectory``."""
        if not trajectory.turns:
            return Score.not_applicable(reason="the episode has no turns")
        if any("potential" not in turn.info for turn in trajectory.turns):
            return Score.not_applicable(reason="the environment reports no potential")
        potentials = tuple(self.scale * float(turn.info["potential"]) for turn in trajectory.turns)
        return Score(0.0, turns=potentials)
