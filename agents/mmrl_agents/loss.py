"""Policy losses: pure functions of log-probabilities, advantages and weights.

Notation: rho = pi/pi_old, w = pi_old/mu with mu the sampler, d = log pi - log ref, H = entropy.  A loss is
``sum over tokens of weight * (c(w) * surrogate + kl_coef * kl - entropy_coef * H)``, with c the importance correction.
The weights carry the normaliser and are computed over the whole optimiser step, so that cutting the step into
micro-batches changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmrl_agents.correction import Bounds, Correction
from mmrl_agents.loss_type import Loss
from mmrl_agents.mismatch import Gaps, figures, gaps_of
from mmrl_agents.surrogate import Clip

Tokens = Float[Tensor, "rows seq"]
Kl = Callable[[Tokens, Tokens], Tokens]
"""``(d, rho) -> estimate``, both with gradient."""


def k1(d: Tokens, rho: Tokens) -> Tokens:
    """``d``: unbiased for KL(pi||ref), but as a loss its gradient is 0 in expectation."""
    return d


def k2(d: Tokens, rho: Tokens) -> Tokens:
    """``d^2 / 2``: as a loss its gradient is that of KL(pi||ref)."""
    return d.square() / 2


def k3(d: Tokens, rho: Tokens) -> Tokens:
    """``exp(-d) + d - 1``: never negative; as a loss its gradient is that of KL(ref||pi)."""
    return torch.exp(-d) + d - 1


def rho_k3(d: Tokens, rho: Tokens) -> Tokens:
    """``rho k3``, the gradient through rho too: value and gradient are those of KL(pi||ref) on tokens of pi_old.

    ``grad = rho (k3 + 1 - exp(-d)) grad log pi = rho d grad log pi``, whose expectation under pi_old is the gradient of
    KL(pi||ref), however far pi has moved; k2's is it only while pi = pi_old (DeepSeek-V3.2, 2512.02556).
    """
    return rho * k3(d, rho)


KL: dict[str, Kl] = {"k1": k1, "k2": k2, "k3": k3, "rho_k3": rho_k3}


@dataclass(frozen=True)
class LossTerms:
    """What shapes the policy loss.

    Attributes:
        loss: the surrogate, and the ratio that it clips.
        clip: how far that ratio may go.
        correction: from w to the weight of a token.
        bounds: where it cuts.
        kl_coef: weight of the KL term; 0 (so too where KL is taken off the reward) needs no reference.
        kl: its estimator, from :data:`KL`.
        entropy_coef: weight of the entropy bonus; 0 needs no entropy.
    """

    loss: Loss
    clip: Clip
    correction: Correction
    bounds: Bounds
    kl_coef: float
    kl: Kl
    entropy_coef: float = 0.0


@dataclass(frozen=True)
class LossStats:
    """Sums over the sampled tokens of one call, for metrics.

    Attributes:
        tokens: how many.
        clipped: how many had a ratio outside the clip.
        clipped_low: those below it that its bound stops, since they should become rarer still (A < 0).
        clipped_high: those above it that should become likelier still (A > 0).
        kl: sum of the KL estimate (0 without a reference).
        gaps: how far the sampler is from the learner.
        weight: sum of the corrected w; ``weight_sq``: of its square (effective sample size).
        dropped: how many the correction gave weight 0.
        ratio: largest distance of the loss's ratio from 1.
    """

    tokens: int
    clipped: float
    clipped_low: float
    clipped_high: float
    kl: float
    gaps: Gaps
    weight: float
    weight_sq: float
    dropped: float
    ratio: float


def summary(stats: Sequence[LossStats]) -> dict[str, float]:
    """The metrics of an optimiser step, from what each of its calls says of its tokens; at least one."""
    sums = {f.name: sum(getattr(s, f.name) for s in stats) for f in fields(LossStats) if f.name != "gaps"}
    tokens, gaps = max(sums["tokens"], 1), sum((s.gaps for s in stats), Gaps())
    return {
        "tokens": float(sums["tokens"]),
        "clip_share": sums["clipped"] / tokens,
        "clip_share/low": sums["clipped_low"] / tokens,
        "clip_share/high": sums["clipped_high"] / tokens,
        "kl": sums["kl"] / tokens,
        "mismatch_kl": gaps.kl / tokens,
        "effective_sample": sums["weight"] ** 2 / (tokens * sums["weight_sq"]) if sums["weight_sq"] > 0 else 0.0,
        "dropped_share": sums["dropped"] / tokens,
        "ratio_deviation": max(s.ratio for s in stats),
        **figures(gaps),
    }


def policy_loss(logp: Tokens, old: Tokens, mu: Tokens, ref: Tokens | None, advantage: Tokens, weight: Tokens,
                mask: Bool[Tensor, "rows seq"], terms: LossTerms,
                entropy: Tokens | None = None) -> tuple[Float[Tensor, ""], LossStats]:
    """The policy loss with importance correction, KL and entropy bonus.

    Args:
        logp: log-probabilities under the policy, with gradient; one a predicted token.
        old: the same under the policy before this batch's first update.
        mu: the same under the sampler.
        ref: the same under the reference, or None if ``kl_coef`` is 0.
        advantage: of each token.
        weight: of each token (see the module's text).
        mask: True on sampled tokens; whatever stands elsewhere changes nothing.
        terms: surrogate, correction, KL and bonus.
        entropy: of the policy at each token, with gradient; unused if ``entropy_coef`` is 0.

    Returns:
        The loss (a scalar with gradient) and sums for metrics.
    """
    logp, old, mu = (torch.where(mask, t, 0.0) for t in (logp, old, mu))
    weight, advantage = torch.where(mask, weight, 0.0), torch.where(mask, advantage, 0.0)
    log_w = (old - mu).detach()
    corrected = terms.correction(log_w, mask, terms.bounds)
    token = corrected * terms.loss.surrogate(logp, old, advantage, mask, terms.clip)
    divergence = torch.zeros_like(token)
    if ref is not None:
        d = logp - torch.where(mask, ref, 0.0).detach()
        divergence = terms.kl(d, torch.exp(logp - old.detach()))
        token = token + terms.kl_coef * divergence
    if terms.entropy_coef > 0 and entropy is not None:
        token = token - terms.entropy_coef * torch.where(mask, entropy, 0.0)
    ratio = terms.loss.ratio(logp.detach(), old, mask)
    stats = _stats(ratio, advantage, gaps_of(log_w, mu, mask), corrected, divergence.detach(), mask, terms.clip)
    return (weight * token).sum(), stats


def _stats(ratio: Tokens, advantage: Tokens, gaps: Gaps, corrected: Tokens, divergence: Tokens,
           mask: Bool[Tensor, "rows seq"], clip: Clip) -> LossStats:
    below, above = mask & (ratio < 1 - clip.low), mask & (ratio > 1 + clip.high)
    kept = torch.where(mask, corrected, 0.0)
    return LossStats(
        tokens=int(mask.sum()),
        clipped=float((below | above).sum()),
        clipped_low=float((below & (advantage < 0)).sum()),
        clipped_high=float((above & (advantage > 0)).sum()),
        kl=float(torch.where(mask, divergence, 0.0).sum()),
        gaps=gaps,
        weight=float(kept.sum()),
        weight_sq=float(kept.square().sum()),
        dropped=float((mask & (corrected == 0)).sum()),
        ratio=float(torch.where(mask, (ratio - 1).abs(), 0.0).max()) if mask.numel() else 0.0,
    )


def weighted_log_ratio(logp: Tokens, ref: Tokens, worth: Tokens, weight: Tokens, mask: Bool[Tensor, "rows seq"],
                       terms: LossTerms) -> Float[Tensor, ""]:
    """``sum over tokens of weight * (-w(x, y) d + kl_coef * kl(d))``, ``d = log pi - log ref``.

    With weights that are a mean over answers, ``-E[w(x, y) log(pi(y|x) / pi_ref(y|x))]`` over logged answers.  pi_ref
    shifts its value and not its gradient, so that what holds the policy near pi_ref is the KL term.

    Args:
        logp: log-probabilities of the logged tokens under the policy, with gradient.
        ref: the same under the reference.
        worth: w of each token's answer, above 0 or below.
        weight: of each token.
        mask: True on the answers' tokens; whatever stands elsewhere changes nothing.
        terms: the KL term; an estimator that reads rho has no meaning here.
    """
    d = torch.where(mask, logp, 0.0) - torch.where(mask, ref, 0.0).detach()
    token = terms.kl_coef * terms.kl(d, torch.ones_like(d)) - torch.where(mask, worth, 0.0) * d
    return (torch.where(mask, weight, 0.0) * token).sum()


def sft_loss(logp: Tokens, weight: Tokens, mask: Bool[Tensor, "rows seq"]) -> Float[Tensor, ""]:
    """``-sum of weight * log pi`` over the imitated tokens."""
    return -(torch.where(mask, weight, 0.0) * torch.where(mask, logp, 0.0)).sum()
