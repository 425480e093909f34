"""Advantages: how much better a trajectory, a turn or a token was than others.  Pure functions, one formula each.

Statistics are per trajectory, unless a formula says otherwise.  Invalid trajectories are left out of them and get 0;
where a formula compares within groups, a group with a single valid trajectory gets 0 everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmrl_agents.token_reward import on_tokens

Estimator = Callable[[Float[Tensor, " group"], Bool[Tensor, " group"]], Float[Tensor, " group"]]
"""Compares the rewards of one group: ``(rewards, valid) -> advantages``."""
BatchEstimator = Callable[
    [Float[Tensor, " batch"], Bool[Tensor, " batch"], Int[Tensor, " batch"]], Float[Tensor, " batch"]
]
"""Compares the rewards of a batch: ``(rewards, valid, number of the group) -> advantages``."""
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


def rloo(rewards: Float[Tensor, " group"], valid: Bool[Tensor, " group"]) -> Float[Tensor, " group"]:
    """``G / (G - 1) * (R - mean)`` over G valid ones: the reward less the mean of the others' (RLOO, 2402.14740)."""
    size = int(valid.sum())
    return dr_grpo(rewards, valid) * (size / max(size - 1, 1))


def in_groups(estimator: Estimator) -> BatchEstimator:
    """The estimator of a batch that compares each group by itself."""

    def compare(rewards: Float[Tensor, " batch"], valid: Bool[Tensor, " batch"],
                group: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        out = torch.zeros_like(rewards)
        for g in group.unique():
            rows = group == g
            out[rows] = estimator(rewards[rows], valid[rows]).to(out.dtype)
        return out

    return compare


def batch_std(rewards: Float[Tensor, " batch"], valid: Bool[Tensor, " batch"],
              group: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """``(R - mean of the group) / (std of the batch + 1e-4)`` with Bessel's correction (Lite PPO, 2508.08221).

    All groups share one scale, so that a group of almost equal rewards is not blown up.
    """
    if valid.sum() < 2:
        return torch.zeros_like(rewards)
    return in_groups(dr_grpo)(rewards, valid, group) / (rewards[valid].std(correction=1) + EPS)


def by_turn(rewards: Sequence[Sequence[float]], valid: Sequence[bool], discount: float,
            estimator: BatchEstimator | None = None, group: Sequence[int] | None = None) -> list[list[float]]:
    """Turn-level credit: discounted return-to-go, compared over all turns of the group.

    ``G_t = sum_{k >= t} discount^(k - t) r_k``, and ``A_t`` is ``estimator`` over the turns of all valid trajectories,
    so that the turns just before a success get the credit for it and a long failure has no more of it than its
    turns.  An invalid trajectory, and a group with a single valid one, gets 0.

    Args:
        rewards: the reward of each turn of each trajectory.
        valid: whether a trajectory counts.
        discount: in (0, 1].
        estimator: compares the turns; None: ``grpo`` in each group.
        group: number of each trajectory's group; None: all are one.
    """
    groups = [0] * len(rewards) if group is None else list(group)
    learns = [ok and sum(v for v, h in zip(valid, groups, strict=True) if h == g) > 1
              for ok, g in zip(valid, groups, strict=True)]  # fmt: skip
    returns = [returns_to_go(row, discount) for row in rewards]
    flat = torch.tensor([g for row in returns for g in row], dtype=torch.float64)
    counts = torch.tensor([ok for row, ok in zip(rewards, learns, strict=True) for _ in row], dtype=torch.bool)
    numbers = torch.tensor([g for row, g in zip(rewards, groups, strict=True) for _ in row], dtype=torch.long)
    return rows_like((estimator or in_groups(grpo))(flat, counts, numbers), rewards)


def reinforce_pp(rewards: Sequence[Sequence[float]], tokens: Sequence[Sequence[int]], valid: Sequence[bool],
                 discount: float, charges: Sequence[Sequence[float]] | None = None) -> list[list[float]]:
    """Token-level credit without groups: discounted return, whitened over the batch (REINFORCE++, 2501.03262).

    A turn's reward falls on its last sampled token; ``G_t = r_t + discount * G_{t+1}`` over the sampled tokens of a
    trajectory, so that what the environment said in between neither discounts the return nor cuts it off.
    ``A_t = (G_t - mean) / (std + 1e-4)`` over the sampled tokens of all valid trajectories, with Bessel's correction.

    The paper takes a KL estimate (k1) off each token's reward: ``kl_in: reward``.  With ``kl_in: loss`` the reward is
    free of KL; ``kl_estimator: k2`` then has the gradient of each token's own KL(pi||ref), without that of later ones.

    Args:
        rewards: the reward of each turn of each trajectory.
        tokens: how many tokens were sampled in each of those turns.
        valid: whether a trajectory counts; the others get 0.
        discount: a token, in (0, 1].
        charges: what comes off the reward of each sampled token of each trajectory, empty rows for nothing; None: the
            same for all.
    """
    less = charges or [()] * len(rewards)
    spread = [on_tokens(row, counts, charge) for row, counts, charge in zip(rewards, tokens, less, strict=True)]
    returns = [returns_to_go(row, discount) for row in spread]
    flat = torch.tensor([g for row in returns for g in row], dtype=torch.float64)
    counts = torch.tensor([ok for row, ok in zip(returns, valid, strict=True) for _ in row], dtype=torch.bool)
    return rows_like(grpo(flat, counts), returns)


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


def gigpo(rewards: Sequence[float], turns: Sequence[Sequence[float]], states: Sequence[Sequence[str]],
          valid: Sequence[bool], discount: float, omega: float) -> list[list[float]]:
    """Episode and step credit of one group: ``A_t = A_episode + omega * A_step,t`` (GiGPO, 2505.10978).

    ``A_episode = R - mean`` and ``A_step`` is :func:`by_state`: both centred and not scaled, the paper's variant
    without the deviation.  An invalid trajectory gets 0.

    Args:
        rewards: of each trajectory.
        turns: the reward of each turn of each trajectory.
        states: the key of the state in which each turn spoke.
        valid: whether a trajectory counts.
        discount: a turn, in (0, 1]; the paper's is 0.95.
        omega: weight of the step's part; the paper's is 1.
    """
    episode = dr_grpo(torch.tensor(rewards, dtype=torch.float64), torch.tensor(valid)).tolist()
    steps = by_state(turns, states, valid, discount)
    return [[a + omega * step for step in row] for a, row in zip(episode, steps, strict=True)]


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


ESTIMATORS: dict[str, Estimator] = {"grpo": grpo, "dr_grpo": dr_grpo, "rloo": rloo}
"""Those that compare one group."""


def rows_like(flat: Float[Tensor, " values"], like: Sequence[Sequence[float]]) -> list[list[float]]:
    """``flat`` cut into rows as long as those of ``like``."""
    values = iter(flat.tolist())
    return [[next(values) for _ in row] for row in like]
