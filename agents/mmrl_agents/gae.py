"""Generalised advantage estimation: what each step of a trajectory added to what a critic expected.

Comes in: the rewards and the critic's values of the steps of one trajectory.  Goes out: an advantage and a return for
each of them.  A step is a turn or a sampled token.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch

from mmrl_agents.advantage import grpo, rows_like
from mmrl_agents.foresight import Foresight
from mmrl_agents.token_reward import by_turn, on_tokens


def gae(rewards: Sequence[float], values: Sequence[float], discount: float, decay: float) -> list[float]:
    """``A_t = sum_k (discount * decay)^k delta_{t+k}``, ``delta_t = r_t + discount V_{t+1} - V_t`` (1506.02438).

    V after the last step is 0, where the environment ended the episode and where a limit cut it short: plugins score a
    rollout as it ended, and evaluations are cut in the same place, so that the limit is part of the task (1712.00378).

    Args:
        rewards: of each step.
        values: the critic's before each step.
        discount: from one step to the next, gamma in (0, 1].
        decay: of the later deltas, lambda in [0, 1]: 0 trusts the critic after one step, 1 does not ask it again.
    """
    out: list[float] = []
    ahead = after = 0.0
    for reward, value in zip(reversed(rewards), reversed(values), strict=True):
        ahead = reward + discount * after - value + discount * decay * ahead
        after = value
        out.append(ahead)
    return out[::-1]


def returns(advantages: Sequence[float], values: Sequence[float]) -> list[float]:
    """What the critic should have said: ``A + V`` (with lambda 1 the discounted return-to-go)."""
    return [a + v for a, v in zip(advantages, values, strict=True)]


def whitened(rows: Sequence[Sequence[float]]) -> list[list[float]]:
    """``(A - mean) / (std + 1e-4)`` over all steps of a batch, with Bessel's correction; 0 if there is a single one.

    Args:
        rows: advantages of the steps of each trajectory.
    """
    flat = torch.tensor([a for row in rows for a in row], dtype=torch.float64)
    return rows_like(grpo(flat, torch.ones(len(flat), dtype=torch.bool)), rows)


@dataclass(frozen=True)
class Steps:
    """The steps of one trajectory.

    Attributes:
        rewards: of each.
        values: the critic's before each.
        first: the index of each one's first sampled token.
        tokens: sampled tokens of the trajectory.
    """

    rewards: list[float]
    values: list[float]
    first: list[int]
    tokens: int

    def on_tokens(self, of_steps: Sequence[float]) -> list[float]:
        """A number for each step, on each of its tokens."""
        ends = [*self.first[1:], self.tokens]
        return [x for x, begin, end in zip(of_steps, self.first, ends, strict=True) for _ in range(begin, end)]

    def on_first(self, of_steps: Sequence[float]) -> list[float | None]:
        """A number for each step, on its first token; None on its other tokens."""
        at = dict(zip(self.first, of_steps, strict=True))
        return [at.get(i) for i in range(self.tokens)]


ToSteps = Callable[[Sequence[float], Sequence[int], Foresight], Steps]
"""``(reward of each turn, how many tokens were sampled in each, what the model says of them) -> steps``."""


def turn_steps(rewards: Sequence[float], tokens: Sequence[int], seen: Foresight) -> Steps:
    """A step a turn: the critic is asked at the end of each prompt."""
    first = [0, *accumulate(tokens)][:-1]
    charges = by_turn(seen.charges, tokens) if seen.charges else [[]] * len(tokens)
    less = [r - math.fsum(row) for r, row in zip(rewards, charges, strict=True)]
    return Steps(less, [seen.values[i] for i in first], first, sum(tokens))


def token_steps(rewards: Sequence[float], tokens: Sequence[int], seen: Foresight) -> Steps:
    """A step a sampled token: the critic is asked before each; a turn's reward falls on its last one."""
    count = sum(tokens)
    return Steps(on_tokens(rewards, tokens, seen.charges), list(seen.values), list(range(count)), count)
