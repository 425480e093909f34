"""Whether the episode went to new places.

Comes in: ``info["state_key"]`` of every turn, which names the state in which the policy spoke.  Goes out: the share of
turns that led to a state not seen before in this episode.
"""

from __future__ import annotations

import itertools
from typing import ClassVar

from mmrl.reward import RewardPlugin
from mmrl.score import Score
from mmrl.trajectory import Trajectory


class Exploration(RewardPlugin):
    """Did the turns lead to new states?  In [0, 1]: the share that did, and each turn's part in it; microseconds.

    A state is new if its key has not come up earlier in the episode; the first state counts as seen.  Where a turn
    led is known from the next turn's key, so that the last turn is left out, and so is any turn beside which a key
    is missing.  Not applicable where no turn is left.

    Failure modes: wandering about is all it asks for: it belongs beside a reward for the task, with a weight that
    fades.  A state whose key holds a clock or noise is new every time.
    """

    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def compute(self, trajectory: Trajectory) -> Score:
        """Count the new states of ``trajectory``."""
        keys = [turn.info.get("state_key") for turn in trajectory.turns]
        seen, found = {keys[0]} if keys else set(), dict[int, bool]()
        for i, (before, after) in enumerate(itertools.pairwise(keys)):
            if before is not None and after is not None:
                found[i] = after not in seen
            seen.add(after)
        if not found:
            return Score.not_applicable(reason="no two turns in a row report a state_key")
        turns = tuple(found.get(i, False) / len(found) for i in range(len(keys)))
        return Score(sum(found.values()) / len(found), info={"new_states": sum(found.values())}, turns=turns)
