"""Policy surrogates: what each sampled token adds to the loss, before importance correction, KL and normaliser.

Pure functions of one signature, ``(logp, old, advantage, mask, terms) -> loss of each token``:

- ``logp``: log-probabilities under the policy, with gradient; ``old``: the same before the batch's first update;
- ``advantage``: of each token;
- ``mask``: True on sampled tokens; elsewhere the three above are 0, and what the function returns there counts nothing;
- ``terms``: the clip range.

Notation: rho = exp(logp - old), A = advantage, sg = stop gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Tokens = Float[Tensor, "rows seq"]
Mask = Bool[Tensor, "rows seq"]

TAU_GOOD, TAU_BAD = 1.0, 1.05
"""Temperatures of SAPO's gate for A > 0 and for the rest: the paper's."""


@dataclass(frozen=True)
class Clip:
    """How far the policy may go from the one that was sampled from.

    Attributes:
        low: the ratio's lower clip is 1 - low.
        high: its upper clip is 1 + high.
        dual: where A < 0 the loss is at most ``-dual * A``; above 1; None: no such bound.
    """

    low: float
    high: float
    dual: float | None = None


Surrogate = Callable[[Tokens, Tokens, Tokens, Mask, Clip], Tokens]
Ratio = Callable[[Tokens, Tokens, Mask], Tokens]


def token_ratio(logp: Tokens, old: Tokens, mask: Mask) -> Tokens:
    """``rho = exp(logp - old)``, token by token."""
    return torch.exp(logp - old.detach())


def row_ratio(logp: Tokens, old: Tokens, mask: Mask) -> Tokens:
    """``s = exp(mean of log rho over the row's sampled tokens)``, the same on every token of the row.

    A row is a segment.  A trajectory that was cut into several (``rollout.window``, or a template that does not
    preserve prefixes) has a ratio for each of them.
    """
    total = torch.where(mask, logp - old.detach(), 0.0).sum(1, keepdim=True)
    return torch.exp(total / mask.sum(1, keepdim=True).clamp(min=1)).expand(mask.shape)


def clip(logp: Tokens, old: Tokens, advantage: Tokens, mask: Mask, terms: Clip) -> Tokens:
    """``-min(rho A, rho clipped to [1 - low, 1 + high] * A)``, and at most ``-dual A`` where A < 0 (PPO, 1707.06347).

    The higher upper clip is DAPO's (2503.14476), the dual clip is from 1912.09729.
    """
    return clipped(token_ratio(logp, old, mask), advantage, terms)


def gspo(logp: Tokens, old: Tokens, advantage: Tokens, mask: Mask, terms: Clip) -> Tokens:
    """``-min(s A, s clipped to [1 - low, 1 + high] * A)`` with the row's ratio s (GSPO, 2507.18071).

    s moves far less than rho: the paper clips at low = 3e-4, high = 4e-4.  All tokens of a row share s and so its
    gradient: advantages that differ by turn are averaged over the row.
    """
    return clipped(row_ratio(logp, old, mask), advantage, terms)


def cispo(logp: Tokens, old: Tokens, advantage: Tokens, mask: Mask, terms: Clip) -> Tokens:
    """``-sg(min(rho, 1 + high)) A logp``: the weight is clipped, no token's gradient is lost (CISPO, 2506.13585)."""
    return -token_ratio(logp, old, mask).clamp(max=1 + terms.high).detach() * advantage * logp


def sapo(logp: Tokens, old: Tokens, advantage: Tokens, mask: Mask, terms: Clip) -> Tokens:
    """``-(4 / tau) sigmoid(tau (rho - 1)) A``, a soft gate in place of the clip (SAPO, 2511.20347).

    tau is 1 where A > 0 and 1.05 elsewhere.  The gradient is ``rho A`` times a factor that is 1 at rho = 1 and falls on
    both sides.
    """
    tau = torch.full_like(advantage, TAU_BAD).masked_fill(advantage > 0, TAU_GOOD)
    return -4 / tau * torch.sigmoid(tau * (token_ratio(logp, old, mask) - 1)) * advantage


def reinforce(logp: Tokens, old: Tokens, advantage: Tokens, mask: Mask, terms: Clip) -> Tokens:
    """``-A logp``: the policy gradient itself, for one update on each batch (Williams, 1992)."""
    return -advantage * logp


SURROGATES: dict[str, Surrogate] = {"clip": clip, "gspo": gspo, "cispo": cispo, "sapo": sapo, "reinforce": reinforce}


def clipped(ratio: Tokens, advantage: Tokens, terms: Clip) -> Tokens:
    """The clipped surrogate of a given ratio."""
    loss = -torch.minimum(ratio * advantage, ratio.clamp(1 - terms.low, 1 + terms.high) * advantage)
    if terms.dual is None:
        return loss
    return torch.where(advantage < 0, torch.minimum(loss, -terms.dual * advantage), loss)
