"""How far a sampler is from the learner whose weights it should have, and what that looks like.

Comes in: log-probabilities of the same tokens under both.  Goes out: sums that add up over calls, figures of them, and
the likeliest cause in words.

Notation: log w = log pi_old - log mu, the learner's log-probability less the sampler's mu.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Tokens = Float[Tensor, "rows seq"]


@dataclass(frozen=True)
class Gaps:
    """Sums over sampled tokens.

    Attributes:
        tokens: how many.
        kl: of ``w - log w - 1``, the sampler's divergence from the learner.
        gap: of log w; ``gap_sq``: of its square.
        mu: of log mu; ``mu_sq``: of its square; ``both``: of log w * log mu.
        largest: the largest |log w|, which is no sum.
    """

    tokens: int = 0
    kl: float = 0.0
    gap: float = 0.0
    gap_sq: float = 0.0
    mu: float = 0.0
    mu_sq: float = 0.0
    both: float = 0.0
    largest: float = 0.0

    def __add__(self, other: Gaps) -> Gaps:
        return Gaps(self.tokens + other.tokens, self.kl + other.kl, self.gap + other.gap, self.gap_sq + other.gap_sq,
                    self.mu + other.mu, self.mu_sq + other.mu_sq, self.both + other.both,
                    max(self.largest, other.largest))  # fmt: skip


def gaps_of(log_w: Tokens, mu: Tokens, mask: Bool[Tensor, "rows seq"]) -> Gaps:
    """The sums of one call.

    Args:
        log_w: the learner's log-probability less the sampler's.
        mu: the sampler's.
        mask: True on sampled tokens; whatever stands elsewhere counts nothing.
    """
    g, m = (torch.where(mask, t, 0.0).to(torch.float64) for t in (log_w, mu))
    parts = (torch.exp(g) - g - 1, g, g.square(), m, m.square(), g * m)
    kl, gap, gap_sq, at, at_sq, both = torch.stack([part.sum() for part in parts]).tolist()
    largest = float(g.abs().max()) if g.numel() else 0.0
    return Gaps(int(mask.sum()), kl, gap, gap_sq, at, at_sq, both, largest)


def figures(gaps: Gaps) -> dict[str, float]:
    """What the sums say.

    Returns:
        ``mismatch/kl`` (nats a token), ``mismatch/mean`` and ``mismatch/spread`` (mean and standard deviation of log
        w), ``mismatch/largest`` (|log w|), ``mismatch/slope`` (of log w over log mu, by least squares) and
        ``mismatch/fit`` (the share of log w's variance that this line explains; both 0 where log w varies by rounding
        alone); nothing without a token.
    """
    n = gaps.tokens
    if n == 0:
        return {}
    mean, at = gaps.gap / n, gaps.mu / n
    spread_sq, width_sq = max(0.0, gaps.gap_sq / n - mean**2), max(0.0, gaps.mu_sq / n - at**2)
    together = gaps.both / n - mean * at
    line = width_sq > 0 and spread_sq > ROUNDING**2
    slope, fit = (together / width_sq, together**2 / (spread_sq * width_sq)) if line else (0.0, 0.0)
    return {"mismatch/kl": gaps.kl / n, "mismatch/mean": mean, "mismatch/spread": math.sqrt(spread_sq),
            "mismatch/largest": gaps.largest, "mismatch/slope": slope, "mismatch/fit": min(fit, 1.0)}  # fmt: skip


ROUNDING = 1e-5
"""Spread of log w that float32 alone makes."""
LIMIT = 0.01
"""Divergence of a sampler from its learner, in nats a token, above which a run is warned."""
UNTOUCHED = 0.1
"""Below this share of the limit the first steps were well, so that what has come since came with the updates."""
STRAIGHT, STEEP = 0.5, 0.02
"""A line explains log w, as another temperature does, if it fits so well and is so steep."""
APART = 0.25
"""Spread of log w above which the two do not compute the same thing with other rounding."""


@dataclass(frozen=True)
class Cause:
    """Why a sampler may be unlike its learner.

    Attributes:
        fits: whether figures look like it: ``(figures of a step, mismatch/kl of the first steps)``.
        words: what it is, and what to look at.
    """

    fits: Callable[[Mapping[str, float], float], bool]
    words: Callable[[Mapping[str, float], float], str]


CAUSES: tuple[Cause, ...] = (
    Cause(
        lambda now, first: first <= UNTOUCHED * LIMIT,
        lambda now, first: f"it was {first:.1g} in the first steps and has come with the updates: the sampler does not "
        "follow the learner's weights (a stale adapter, a server that misses updates)",
    ),
    Cause(
        lambda now, first: now["mismatch/fit"] >= STRAIGHT and abs(now["mismatch/slope"]) >= STEEP,
        lambda now, first: f"log w follows the tokens' log-probability (slope {now['mismatch/slope']:.2g}, fit "
        f"{now['mismatch/fit']:.0%}): the sampler's temperature is about {1 + now['mismatch/slope']:.2g} times "
        "rollout.temperature, or its log-probabilities are those before temperature, top-p or top-k",
    ),
    Cause(
        lambda now, first: now["mismatch/spread"] >= APART,
        lambda now, first: f"far more than rounding (log w varies by {now['mismatch/spread']:.2g}): the two read "
        "different prompts (chat template, tokenisation, a first token more or less, images), or are different models",
    ),
    Cause(
        lambda now, first: True,
        lambda now, first: f"small and in no direction (log w varies by {now['mismatch/spread']:.2g}): the two compute "
        "in different precision (the sampler's dtype, training_args.bf16 and mixed_precision, a quantised sampler)",
    ),
)
"""The first that fits is the likeliest."""


def likeliest(now: Mapping[str, float], first: float) -> str:
    """The likeliest cause of a mismatch, in words.

    Args:
        now: figures of the newest step, from :func:`figures`.
        first: ``mismatch/kl`` in the first steps of the run.
    """
    return next(cause.words(now, first) for cause in CAUSES if cause.fits(now, first))
