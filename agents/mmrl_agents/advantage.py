"""Advantages: how much better a trajectory was than its group.  Pure functions, one formula each.

Statistics are per trajectory.  Invalid trajectories are left out of them and get 0; a group with a single
valid trajectory gets 0 everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Estimator = Callable[[Float[Tensor, " group"], Bool[Tensor, " group"]], Float[Tensor, " group"]]
EPS = 1e-4


def dr_grpo(rewards: Float[Tensor, " group"], valid: Bool[Tensor, " group"]) -> Float[Tensor, " group"]:
    """``R - mean``: centred, not scaled, so that easy and hard tasks weigh as they are (2503.20783)."""
    if valid.sum() < 2 or rewards[valid].max() == rewards[valid].min():
        return torch.zeros_like(rewards)  # exactly: the mean of equal rewards may differ from them by a rounding error
    return torch.where(valid, rewards - rewards[valid].mean(), 0.0)


def grpo(rewards: Float[Tensor, " group"], valid: Bool[Tensor, " group"]) -> Float[Tensor, " group"]:
    """``(R - mean) / (std + 1e-4)`` with Bessel's correction (DeepSeekMath, 2402.03300)."""
    if valid.sum() < 2:
        return torch.zeros_like(rewards)
    return dr_grpo(rewards, valid) / (rewards[valid].std(correction=1) + EPS)


def by_turn(rewards: Sequence[Sequence[float]], valid: Sequence[bool], discount: float,
            estimator: Estimator = grpo) -> list[list[float]]:
    """Turn-level credit: discounted return-to-go, compared over all turns of the group.

    ``G_t = sum_{k >= t} discount^(k - t) r_k``, and ``A_t`` is ``estimator`` over the turns of all valid trajectories,
    so that the turns just before a success get the credit for it and a long failure has no more of it than its
    turns.  An invalid trajectory, and a group with a single valid one, gets 0.

    Args:
        rewards: the reward of each turn of each trajectory.
        valid: whether a trajectory counts.
        discount: in (0, 1].
        estimator: compares the turns: ``grpo`` centres and scales, ``dr_grpo`` centres.
    """
    if sum(valid) < 2:
        return [[0.0] * len(row) for row in rewards]
    flat = torch.tensor([g for row in rewards for g in returns_to_go(row, discount)], dtype=torch.float64)
    counts = torch.tensor([ok for row, ok in zip(rewards, valid, strict=True) for _ in row], dtype=torch.bool)
    advantages = iter(estimator(flat, counts).tolist())
    return [[next(advantages) for _ in row] for row in rewards]


def by_state(rewards: Sequence[Sequence[float]], states: Sequence[Sequence[str]], valid: Sequence[bool],
             discount: float) -> list[list[float]]:
    """Step-level credit: discounted return-to-go against its mean over all visits of the same state in the group.

    ``A_t = G_t - mean(G over turns in state s_t)``, the step advantage of GiGPO (2505.10978) without the episode's:
    what a state is worth is no credit of the action, and turns in a state that was visited once get 0.  An invalid
    trajectory gets 0.

    Args:
        rewards: the reward of each turn of each trajectory.
        states: the key of the state in which each turn spoke.
        valid: whether a trajectory counts.
        discount: in (0, 1].
    """
    returns = [returns_to_go(row, discount) for row in rewards]
    visits: dict[str, list[float]] = {}
    for keys, row, ok in zip(states, returns, valid, strict=True):
        for key, g in zip(keys, row, strict=True):
            if ok:
                visits.setdefault(key, []).append(g)
    means = {key: math.fsum(gs) / len(gs) for key, gs in visits.items()}
    return [
        [g - means[key] if ok else 0.0 for key, g in zip(keys, row, strict=True)]
        for keys, row, ok in zip(states, returns, valid, strict=True)
    ]


def returns_to_go(rewards: Sequence[float], discount: float) -> list[float]:
    """``G_t = r_t + discount * G_{t+1}``."""
    out: list[float] = []
    ahead = 0.0
    for reward in reversed(rewards):
        ahead = reward + discount * ahead
        out.append(ahead)
    return out[::-1]


def gdpo(scores: Float[Tensor, "batch plugins"], applies: Bool[Tensor, "batch plugins"],
         weights: Float[Tensor, "batch plugins"], valid: Bool[Tensor, " batch"], size: int) -> Float[Tensor, " batch"]:
    """GDPO: each plugin compared in its group by itself, weighted sum, then scaled over the batch (2601.05242).

    ``A_ij = (s_ij - mean_j) / (std_j + 1e-4)`` for plugin j in trajectory i's group, over those to which it applies;
    ``A_i = sum_j w_ij A_ij``, then centred and scaled over the valid trajectories of the batch.

    Args:
        scores: of every plugin.
        applies: where the plugin has a score.
        weights: of every score in its trajectory's reward.
        valid: trajectories that count.
        size: trajectories of a group; groups follow each other.
    """
    total = torch.zeros(len(scores), dtype=scores.dtype)
    learns = torch.zeros_like(valid)
    for start in range(0, len(scores), size):
        rows = slice(start, start + size)
        learns[rows] = valid[rows] & (valid[rows].sum() > 1)
        for j in range(scores.shape[1]):
            total[rows] += weights[rows, j] * grpo(scores[rows, j], applies[rows, j] & valid[rows])
    return grpo(total, learns)


ESTIMATORS: dict[str, Estimator] = {"grpo": grpo, "dr_grpo": dr_grpo}
