"""Advantages: how much better a trajectory was than its group.  Pure functions, one formula each.

Statistics are per trajectory.  Invalid trajectories are left out of them and get 0; a group with a single
valid trajectory gets 0 everywhere.
"""

from __future__ import annotations

from collections.abc import Callable

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


ESTIMATORS: dict[str, Estimator] = {"grpo": grpo, "dr_grpo": dr_grpo}
