"""Importance correction: the weight of a token whose sampler was not quite the policy.

Notation: w = pi_old/mu, where mu is the sampler.  Pure functions of one signature,
``(log w, mask, bounds) -> weight of each token``; ``mask`` is True on sampled tokens, elsewhere log w is 0 and the
weight counts nothing.  No gradient goes through them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Tokens = Float[Tensor, "rows seq"]
Mask = Bool[Tensor, "rows seq"]


@dataclass(frozen=True)
class Bounds:
    """Where a weight is cut.

    Attributes:
        cap: highest weight of a token.
        low: lowest w, of a token or a row, that is kept.
        high: highest.
    """

    cap: float
    low: float
    high: float


Correction = Callable[[Tokens, Mask, Bounds], Tokens]


def token(log_w: Tokens, mask: Mask, bounds: Bounds) -> Tokens:
    """``min(w, cap)``: truncated importance sampling, token by token (Ionides, 2008)."""
    return torch.exp(log_w).clamp(max=bounds.cap)


def icepop(log_w: Tokens, mask: Mask, bounds: Bounds) -> Tokens:
    """``w`` inside [low, high], 0 outside: a token on which sampler and learner disagree teaches nothing.

    IcePop (2510.18855, range [0.5, 5]).
    """
    w = torch.exp(log_w)
    return torch.where((w >= bounds.low) & (w <= bounds.high), w, 0.0)


def geometric(log_w: Tokens, mask: Mask, bounds: Bounds) -> Tokens:
    """``min(w, cap)`` in rows whose geometric mean of w lies inside [low, high], 0 in the others.

    The mean is ``exp(mean of log w over the row's sampled tokens)``: unlike the product of a row's weights it does not
    degenerate on long rows.  A row is a segment; a trajectory cut into several may keep some and lose others.
    """
    total = torch.where(mask, log_w, 0.0).sum(1, keepdim=True)
    mean = torch.exp(total / mask.sum(1, keepdim=True).clamp(min=1))
    return torch.where((mean >= bounds.low) & (mean <= bounds.high), token(log_w, mask, bounds), 0.0)


def none(log_w: Tokens, mask: Mask, bounds: Bounds) -> Tokens:
    """1: no correction."""
    return torch.ones_like(log_w)


CORRECTIONS: dict[str, Correction] = {"token": token, "icepop": icepop, "geometric": geometric, "none": none}
"""By ``training_args.importance_correction``."""
KEYS: dict[str, tuple[str, ...]] = {
    "token": ("importance_cap",), "icepop": ("importance_range",), "geometric": ("importance_cap", "importance_range"),
    "none": (),
}  # fmt: skip
"""The ``training_args`` that each reads."""
