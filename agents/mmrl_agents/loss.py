"""Policy losses: pure functions of log-probabilities, advantages and weights.

Notation: rho = pi/pi_old, w = pi_old/mu with mu the sampler, d = log pi - log ref.  A loss is
``sum over tokens of weight * (w * surrogate + kl_coef * kl)``.  The weights carry the normaliser and are
computed over the whole optimiser step, so that cutting the step into micro-batches changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Tokens = Float[Tensor, "rows seq"]
Kl = Callable[[Tokens], Tokens]
Normaliser = Callable[[Int[Tensor, " trajectories"], int], Float[Tensor, " trajectories"]]


def clipped(rho: Tokens, advantage: Tokens, low: float, high: float) -> Tokens:
    """``-min(rho A, clip(rho, 1 - low, 1 + high) A)`` (PPO 1707.06347; the higher upper clip is DAPO's, 2503.14476)."""
    return -torch.minimum(rho * advantage, rho.clamp(1 - low, 1 + high) * advantage)


def k1(d: Tokens) -> Tokens:
    """``d``: unbiased for KL(pi||ref), but as a loss its gradient is 0 in expectation."""
    return d


def k2(d: Tokens) -> Tokens:
    """``d^2 / 2``: as a loss its gradient is that of KL(pi||ref)."""
    return d.square() / 2


def k3(d: Tokens) -> Tokens:
    """``exp(-d) + d - 1``: never negative; as a loss its gradient is that of KL(ref||pi)."""
    return torch.exp(-d) + d - 1


KL: dict[str, Kl] = {"k1": k1, "k2": k2, "k3": k3}


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
"""By ``loss_type``."""


@dataclass(frozen=True)
class LossTerms:
    """What shapes the policy loss.

    Attributes:
        low: lower clip: rho is at least 1 - low.
        high: upper clip: rho is at most 1 + high.
        cap: cap of the importance weight w.
        kl_coef: weight of the KL term; 0 needs no reference.
        kl: its estimator, from :data:`KL`.
    """

    low: float
    high: float
    cap: float
    kl_coef: float
    kl: Kl


@dataclass(frozen=True)
class LossStats:
    """Sums over the sampled tokens of one call, for metrics.

    Attributes:
        tokens: how many.
        clipped: how many had a ratio outside the clip.
        kl: sum of the KL estimate (0 without a reference).
        mismatch: sum of ``w - log w - 1``, the sampler's divergence from the learner.
        weight: sum of the capped w; ``weight_sq``: of its square (effective sample size).
        ratio: largest distance of rho from 1.
    """

    tokens: int
    clipped: float
    kl: float
    mismatch: float
    weight: float
    weight_sq: float
    ratio: float


def policy_loss(logp: Tokens, old: Tokens, mu: Tokens, ref: Tokens | None, advantage: Tokens, weight: Tokens,
                mask: Bool[Tensor, "rows seq"], terms: LossTerms) -> tuple[Float[Tensor, ""], LossStats]:
    """The clipped policy loss with importance correction and KL.

    Args:
        logp: log-probabilities under the policy, with gradient; one a predicted token.
        old: the same under the policy before this batch's first update.
        mu: the same under the sampler.
        ref: the same under the reference, or None if ``kl_coef`` is 0.
        advantage: of each token's trajectory.
        weight: of each token (see the module's text).
        mask: True on sampled tokens; whatever stands elsewhere changes nothing.
        terms: clips, cap and KL.

    Returns:
        The loss (a scalar with gradient) and sums for metrics.
    """
    logp, old, mu = (torch.where(mask, t, 0.0) for t in (logp, old, mu))
    weight = torch.where(mask, weight, 0.0)
    rho = torch.exp(logp - old.detach())
    log_w = (old - mu).detach()
    w = torch.exp(log_w)
    token = w.clamp(max=terms.cap) * clipped(rho, torch.where(mask, advantage, 0.0), terms.low, terms.high)
    divergence = torch.zeros_like(token)
    if ref is not None:
        divergence = terms.kl(logp - torch.where(mask, ref, 0.0).detach())
        token = token + terms.kl_coef * divergence
    outside = mask & ((rho < 1 - terms.low) | (rho > 1 + terms.high))
    capped = torch.where(mask, w.clamp(max=terms.cap), 0.0)
    stats = LossStats(
        tokens=int(mask.sum()),
        clipped=float(outside.sum()),
        kl=float(torch.where(mask, divergence, 0.0).sum().detach()),
        mismatch=float(torch.where(mask, w - log_w - 1, 0.0).sum()),
        weight=float(capped.sum()),
        weight_sq=float(capped.square().sum()),
        ratio=float(torch.where(mask, (rho.detach() - 1).abs(), 0.0).max()) if mask.numel() else 0.0,
    )
    return (weight * token).sum(), stats


def sft_loss(logp: Tokens, weight: Tokens, mask: Bool[Tensor, "rows seq"]) -> Float[Tensor, ""]:
    """``-sum of weight * log pi`` over the imitated tokens."""
    return -(torch.where(mask, weight, 0.0) * torch.where(mask, logp, 0.0)).sum()
