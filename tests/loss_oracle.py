"""The losses of LEARNING.md once more, token by token, in Python's floats; and a batch to try them on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mmrl_agents.correction import CORRECTIONS, Bounds
from mmrl_agents.loss import KL, LossTerms
from mmrl_agents.loss_type import LOSSES
from mmrl_agents.normaliser import NORMALISERS
from mmrl_agents.surrogate import Clip

ROWS, SEQ = 3, 5
LENGTHS = (5, 2, 3)
BUDGET = 7
OWN = {"grpo": "grpo", "dapo": "dapo", "dr_grpo": "dr_grpo", "gspo": "grpo", "cispo": "dapo", "sapo": "grpo",
       "reinforce": "dr_grpo"}  # fmt: skip
"""The normaliser that each loss has of its own."""


@dataclass(frozen=True)
class Case:
    """One loss and everything around it."""

    loss: str
    normaliser: str | None = None
    kl_coef: float = 0.0
    kl: str = "k3"
    correction: str = "token"
    cap: float = 2.0
    dual: float | None = None

    def __str__(self) -> str:
        return f"{self.loss}-{self.normaliser}-{self.correction}-{self.kl}*{self.kl_coef:g}-dual{self.dual}"


def terms(case: Case) -> LossTerms:
    """The same for the functions under test."""
    return LossTerms(LOSSES[case.loss], Clip(0.2, 0.28, case.dual), CORRECTIONS[case.correction],
                     Bounds(case.cap, 0.5, 1.6), case.kl_coef, KL[case.kl])  # fmt: skip


def weights(case: Case) -> Tensor:
    """The weight of each token of :func:`draw`."""
    normaliser = NORMALISERS[case.normaliser] if case.normaliser else LOSSES[case.loss].normaliser
    return normaliser(torch.tensor(LENGTHS), BUDGET)[:, None].expand(ROWS, SEQ)


def draw(seed: int = 0) -> dict[str, Tensor]:
    """A batch with ratios on both sides of the clip and weights on both sides of the cap."""
    g = torch.Generator().manual_seed(seed)
    logp = -torch.rand((ROWS, SEQ), generator=g, dtype=torch.float64) * 3
    noise = lambda: 0.6 * torch.randn((ROWS, SEQ), generator=g, dtype=torch.float64)  # noqa: E731
    mask = torch.tensor([[t < n for t in range(SEQ)] for n in LENGTHS])
    advantage = torch.tensor([1.5, -0.7, -0.8], dtype=torch.float64)[:, None].expand(ROWS, SEQ)
    return {"logp": logp, "old": logp + noise(), "mu": logp + noise(), "ref": logp + noise(), "advantage": advantage,
            "mask": mask}  # fmt: skip


def bounded(ratio: float, a: float, dual: float | None) -> float:
    """The clipped loss of one token."""
    loss = -min(ratio * a, min(max(ratio, 0.8), 1.28) * a)
    return min(loss, -dual * a) if dual is not None and a < 0 else loss


def surrogate(case: Case, logp: float, rho: float, s: float, held: float, a: float) -> float:
    """The loss of one token: ``s`` is its row's ratio, ``held`` its own where no gradient goes through it."""
    tau = 1.0 if a > 0 else 1.05
    return {
        "gspo": bounded(s, a, case.dual),
        "cispo": -min(held, 1.28) * a * logp,
        "sapo": -4 / tau / (1 + math.exp(-tau * (rho - 1))) * a,
        "reinforce": -a * logp,
    }.get(case.loss, bounded(rho, a, case.dual))


def corrected(case: Case, log_w: float, row: list[float]) -> float:
    """The weight of one token; ``row`` is the log w of all of its row's."""
    w, mean = math.exp(log_w), math.exp(sum(row) / len(row))
    return {"token": min(w, case.cap), "icepop": w if 0.5 <= w <= 1.6 else 0.0,
            "geometric": min(w, case.cap) if 0.5 <= mean <= 1.6 else 0.0, "none": 1.0}[case.correction]  # fmt: skip


def oracle(b: dict[str, Tensor], case: Case, at: Tensor) -> float:
    """The loss of a batch; ``at`` are the log-probabilities in those places through which no gradient goes."""
    total, name = 0.0, case.normaliser or OWN[case.loss]
    for i, n in enumerate(LENGTHS):
        row = {k: b[k][i, :n].tolist() for k in ("logp", "old", "mu", "ref", "advantage")}
        s = math.exp(sum(x - y for x, y in zip(row["logp"], row["old"], strict=True)) / n)
        log_w = [x - y for x, y in zip(row["old"], row["mu"], strict=True)]
        for t in range(n):
            logp, old, ref, a = (row[k][t] for k in ("logp", "old", "ref", "advantage"))
            d = logp - ref
            token = surrogate(case, logp, math.exp(logp - old), s, math.exp(float(at[i, t]) - old), a)
            k3 = math.exp(-d) + d - 1
            divergence = {"k1": d, "k2": d * d / 2, "k3": k3, "rho_k3": math.exp(logp - old) * k3}[case.kl]
            norm = {"grpo": ROWS * n, "dapo": sum(LENGTHS), "dr_grpo": ROWS * BUDGET}[name]
            total += (corrected(case, log_w[t], log_w) * token + case.kl_coef * divergence) / norm
    return total
