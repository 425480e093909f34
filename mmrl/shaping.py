"""Potential-based shaping: help on the way that cannot change what is best.

Comes in: the potential of every state in which the policy spoke.  Goes out: a reward for every turn whose discounted
sum from any turn on is minus that turn's own potential, whatever the policy does after it (Ng, Harada and Russell,
1999): the order of policies stays as it was.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from mmrl.score import Score


def shaping_rewards(potentials: Sequence[float], discount: float) -> tuple[float, ...]:
    """``F_t = discount * Phi(s_{t+1}) - Phi(s_t)``, with ``Phi = 0`` where the episode is over.

    Args:
        potentials: ``Phi(s_t)`` of the state in which turn t spoke.
        discount: the learner's own: ``turn_discount`` for turn-level credit, 1 for trajectory-level.
    """
    after = [*potentials[1:], 0.0] if potentials else []
    return tuple(discount * b - a for a, b in zip(potentials, after, strict=True))


def shaped(score: Score, discount: float) -> Score:
    """The shaping score of a score whose ``turns`` are potentials; others pass as they are."""
    if not score.valid or score.turns is None:
        return score
    rewards = shaping_rewards(score.turns, discount)
    info = {**score.info, "potentials": list(score.turns)}
    return dataclasses.replace(score, value=math.fsum(rewards), turns=rewards, info=info)
