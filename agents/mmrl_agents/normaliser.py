"""Normalisers: what one sampled token of each trajectory weighs in the loss.

Pure functions of the numbers of sampled tokens of all trajectories of an optimiser step, so that cutting the step into
micro-batches changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

Normaliser = Callable[[Int[Tensor, " trajectories"], int], Float[Tensor, " trajectories"]]


def per_trajectory(tokens: Int[Tensor, " trajectories"], budget: int) -> Float[Tensor, " trajectories"]:
    """Every trajectory weighs the same: ``1 / (N * its tokens)`` (DeepSeekMath)."""
    return 1.0 / (len(tokens) * tokens.clamp(min=1).double())


def per_token(tokens: Int[Tensor, " trajectories"], budget: int) -> Float[Tensor, " trajectories"]:
    """Every token of the step weighs the same: ``1 / all tokens`` (DAPO)."""
    return torch.full(tokens.shape, 1.0 / max(int(tokens.sum()), 1), dtype=torch.float64)


def constant(tokens: Int[Tensor, " trajectories"], budget: int) -> Float[Tensor, " trajectories"]:
    """``1 / (N * budget)`` with a fixed token budget a trajectory, whatever its length (Dr. GRPO, 2503.20783)."""
    return torch.full(tokens.shape, 1.0 / (len(tokens) * budget), dtype=torch.float64)


NORMALISERS: dict[str, Normaliser] = {"grpo": per_trajectory, "dapo": per_token, "dr_grpo": constant}
"""By ``training_args.normaliser``."""
