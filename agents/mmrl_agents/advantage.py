"""Advantages: how much better a trajectory was than its group.  Pure functions, one formula each.

Statistics are per trajectory.  Invalid trajectories are left out of them and get 0; a group with a single
valid trajectory gets 0 everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Estimator = Callable[[Float[Tensor, " group"], Bool[Tensor, " group"]], Float[Tensor, " group"]]
EPS = 1e-4


def dr_grpo(rewards: Float[Tensor, " group"], valid: Bool[Tensor, " group"]) -> Float[Tensor, " group"]:
    """``R - mean``: centred, not scaled, so that easy and hard tasks weigh as they are (2503.20783)."""
    if valid.sum() < 2:
        return torch.zeros_like(rewards)
    return torch.where(valid, rewards - rewards[valid].mean(), 0.0)


def grpo(rewards: Float[Tensor, " group"], valid: Bool[Tensor, " group"]) -> Float[Tensor, " group"]:
    """``(R - mean) / (std + 1e-4)`` with Bessel's correction (DeepSeekMath, 2402.03300)."""
    if valid.sum() < 2:
        return torch.zeros_like(rewards)
    return dr_grpo(rewards, valid) / (rewards[valid].std(correction=1) + EPS)


def by_turn(values: Sequence[float], turns: Sequence[int], valid: Sequence[bool], discount: float) -> list[list[float]]:
    """Turn-level credit: discounted return-to-go, centred and scaled over all turns of the group.

    ``G_t = discount^(T - 1 - t) R`` and ``A_t = (G_t - mean) / (std + 1e-4)`` over the turns of all valid trajectories,
    so that the turns just before a success get the credit for it and a long failure has no more of it than its
    turns.  An invalid trajectory, and a group with a single valid one, gets 0.

    Args:
        values: the reward R of each trajectory.
        turns: its number of turns T.
        valid: whether it counts.
        discount: in (0, 1].
    """
    returns = [[discount ** (n - 1 - t) * r for t in range(n)] for r, n in zip(values, turns, strict=True)]
    known = torch.tensor([g for row, ok in zip(returns, valid, strict=True) if ok for g in row], dtype=torch.float64)
    if sum(valid) < 2 or len(known) < 2:
        return [[0.0] * n for n in turns]
    mean, scale = float(known.mean()), float(known.std(correction=1)) + EPS
    return [[(g - mean) / scale if ok else 0.0 for g in row] for row, ok in zip(returns, valid, strict=True)]


ESTIMATORS: dict[str, Estimator] = {"grpo": grpo, "dr_grpo": dr_grpo}
