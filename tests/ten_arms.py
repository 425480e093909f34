"""A bandit of ten arms in words, for tests of learning: ``path/to/ten_arms.py:TenArms`` in a config."""

from __future__ import annotations

from typing import Any

from mmrl.env import SingleTurnEnv
from mmrl.sample import Content, Sample

PAYS = (0.1, 0.4, 0.2, 0.5, 0.0, 0.3, 0.6, 1.0, 0.2, 0.4)
"""What each arm pays; the best one alone counts as success."""
BEST = PAYS.index(max(PAYS))


def arm_of(answer: str) -> int | None:
    """The arm that an answer pulls: its first character's code modulo ten, so that any text is an arm; None: empty."""
    return ord(answer[0]) % len(PAYS) if answer else None


class TenArms(SingleTurnEnv):
    """One question, ten answers that pay; nothing is random but the policy, and the number of the pull."""

    def draw(self) -> Sample:
        """The one question; its reference is a character that pulls the best arm."""
        number = int(self.np_random.integers(2**31))
        return Sample.ask("Which arm?", next(c for c in "ABCDEFGHIJ" if arm_of(c) == BEST), id=f"pull {number}")

    def grade(self, sample: Sample, response: str) -> float:
        """What the arm pays; no answer pays nothing."""
        arm = arm_of(response)
        return 0.0 if arm is None else PAYS[arm]

    def reset(self, *, seed: int | None = None,
              options: dict[str, Any] | None = None) -> tuple[Content, dict[str, Any]]:  # fmt: skip
        """The question, and the name of the one state that a bandit has."""
        observation, info = super().reset(seed=seed, options=options)
        return observation, {**info, "state_key": "bandit"}
