"""GaLore: AdamW whose moments live in a subspace of each weight's gradient (2403.03507, algorithm 2).

Comes in: gradients of weights of shape (m, n).  Goes out: updates of the same shape, from moments of shape (r, n) or
(m, r).  Our own, because the package galore-torch keeps Python objects in its state, which a checkpoint that is read
as data alone (``torch.load`` with ``weights_only``) refuses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, overload

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer


@dataclass(frozen=True)
class Projection:
    """How GaLore projects.

    Attributes:
        rank: of the subspace, r.
        refresh: optimiser steps between two subspaces, T.
        scale: of the update, alpha.
    """

    rank: int = 128
    refresh: int = 200
    scale: float = 0.25

    def holds(self, weight: Tensor) -> bool:
        """Whether a weight is larger than its projection would be: a matrix with both sides above the rank."""
        return weight.dim() == 2 and min(weight.shape) > self.rank


def subspace(gradient: Float[Tensor, "m n"], rank: int) -> Float[Tensor, "side r"]:
    """The gradient's first ``rank`` singular vectors on its shorter side: P = U[:, :r] if m <= n, else Q = V[:, :r].

    Args:
        gradient: of a weight.
        rank: r, at most min(m, n).

    Returns:
        Orthonormal columns, in the gradient's dtype; side is min(m, n).
    """
    # At least single precision: there is no decomposition in half precision.
    wide = gradient if gradient.dtype == torch.float64 else gradient.float()
    left, _, right = torch.linalg.svd(wide, full_matrices=False)
    columns = left[:, :rank] if gradient.shape[0] <= gradient.shape[1] else right[:rank].T
    return columns.to(gradient.dtype).contiguous()


def project(gradient: Float[Tensor, "m n"], basis: Float[Tensor, "side r"]) -> Tensor:
    """R = P^T G (shape (r, n)) if m <= n, else G Q (shape (m, r))."""
    return basis.T @ gradient if gradient.shape[0] <= gradient.shape[1] else gradient @ basis


def project_back(low: Tensor, basis: Float[Tensor, "side r"], shape: torch.Size) -> Float[Tensor, "m n"]:
    """P N if m <= n, else N Q^T: the update in the weight's ``shape``."""
    return basis @ low if shape[0] <= shape[1] else low @ basis.T


class GaloreAdamW(Optimizer):
    """AdamW with decoupled weight decay; weights of ``projected`` take their steps in a subspace.

    W <- W (1 - lr decay); every T steps P = subspace(G); R = P^T G;
    M <- b1 M + (1 - b1) R;  V <- b2 V + (1 - b2) R^2;  W <- W - lr alpha P (M^ / (sqrt(V^) + eps)).
    The moments stay when the subspace changes, as in the paper.  All other weights: ``torch.optim.AdamW``, bit for bit.

    Args:
        projected: matrices; those that ``projection`` would not make smaller are not projected.
        others: all else.
        projection: rank, refresh and scale.
        lr: learning rate.
        betas: of the moments.
        eps: of the denominator.
        weight_decay: decoupled.
    """

    def __init__(self, projected: Iterable[torch.nn.Parameter], others: Iterable[torch.nn.Parameter],
                 projection: Projection, lr: float, betas: tuple[float, float], eps: float,
                 weight_decay: float) -> None:  # fmt: skip
        matrices = list(projected)
        self.projection = projection
        held = [p for p in matrices if projection.holds(p)]
        rest = [*(p for p in matrices if not projection.holds(p)), *others]
        groups = [{"params": part, "projected": part is held} for part in (held, rest) if part]
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay,
                                  "projected": False})  # fmt: skip

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step for every weight that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    self._move(weight, group)
        return loss

    def _move(self, weight: torch.nn.Parameter, group: Mapping[str, Any]) -> None:
        state, gradient = self.state[weight], weight.grad
        assert gradient is not None
        if group["projected"]:
            if int(state.get("step", 0)) % self.projection.refresh == 0:
                state["basis"] = subspace(gradient, self.projection.rank)
            gradient = project(gradient, state["basis"])
        rate, denominator = _moments(state, gradient, group)
        if not group["projected"]:
            weight.addcdiv_(state["exp_avg"], denominator, value=-rate)
            return
        back = project_back(state["exp_avg"] / denominator, state["basis"], weight.shape)
        weight.add_(back, alpha=-rate * self.projection.scale)


def _moments(state: dict[str, Any], gradient: Tensor, group: Mapping[str, Any]) -> tuple[float, Tensor]:
    """Adam's moments after this gradient; returns lr / (1 - b1^t) and sqrt(V) / sqrt(1 - b2^t) + eps."""
    first, second = group["betas"]
    if "exp_avg" not in state:
        state.update(step=torch.zeros(()), exp_avg=torch.zeros_like(gradient), exp_avg_sq=torch.zeros_like(gradient))
    state["step"] += 1
    state["exp_avg"].lerp_(gradient, 1 - first)
    state["exp_avg_sq"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
    t = state["step"].item()
    denominator = (state["exp_avg_sq"].sqrt() / math.sqrt(1 - second**t)).add_(group["eps"])
    return group["lr"] / (1 - first**t), denominator
