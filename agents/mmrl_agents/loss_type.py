"""Losses by name: a surrogate, its normaliser, and the ratio that it clips.

Comes in: ``training_args.loss_type`` as written in the YAML.  Goes out: a :class:`Loss`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch

from mmrl.registry import Registry
from mmrl_agents.normaliser import NORMALISERS, Normaliser, constant, per_token, per_trajectory
from mmrl_agents.own_function import own_function
from mmrl_agents.surrogate import SURROGATES, Clip, Ratio, Surrogate, row_ratio, token_ratio

CLIP = ("epsilon", "epsilon_high", "dual_clip")
"""What becomes a surrogate's :class:`Clip`."""


@dataclass(frozen=True)
class Loss:
    """How advantages become a loss.

    Attributes:
        surrogate: what each token adds.
        normaliser: what a token weighs.
        ratio: what is kept near 1: of tokens, or of rows.
        keys: the ``training_args`` that it reads, of those that only some losses read.
    """

    surrogate: Surrogate
    normaliser: Normaliser = per_trajectory
    ratio: Ratio = token_ratio
    keys: tuple[str, ...] = CLIP


LOSSES: dict[str, Loss] = {
    "grpo": Loss(SURROGATES["clip"], per_trajectory),
    "dapo": Loss(SURROGATES["clip"], per_token),
    "dr_grpo": Loss(SURROGATES["clip"], constant),
    "gspo": Loss(SURROGATES["gspo"], per_trajectory, row_ratio),
    "cispo": Loss(SURROGATES["cispo"], per_token, keys=("epsilon_high",)),
    "sapo": Loss(SURROGATES["sapo"], per_trajectory, keys=()),
    "reinforce": Loss(SURROGATES["reinforce"], constant, keys=()),
}
"""By ``training_args.loss_type``.  REINFORCE's constant is the one normaliser that leaves the gradient that of the mean
reward, up to a factor: any other weighs a trajectory by its length."""

REGISTRY = Registry("loss_type", "mmrl.losses", dict(LOSSES))
PARAMETERS = ("logp", "old", "advantage", "mask", "terms")


def find_loss(ref: str, normaliser: str | None = None, where: str = "") -> Loss:
    """The loss that ``ref`` names.

    Args:
        ref: one of :data:`LOSSES`, an entry point of group ``mmrl.losses``, ``module:function`` or
            ``path/file.py:function``; a function is a surrogate of the user's own (see :mod:`mmrl_agents.surrogate`),
            with the normaliser ``grpo`` unless told otherwise.
        normaliser: one of :data:`NORMALISERS`; None: the loss's own.
        where: the place of the reference, for errors.

    Raises:
        BadInput: if there is no such loss, or the function is no surrogate.
    """
    found = REGISTRY.get(ref, where)
    loss = found if isinstance(found, Loss) else Loss(_surrogate(found, ref, where))
    return loss if normaliser is None else dataclasses.replace(loss, normaliser=NORMALISERS[normaliser])


def _surrogate(found: object, ref: str, where: str) -> Surrogate:
    logp = torch.full((2, 3), -1.0, requires_grad=True)
    advantage = torch.tensor([[1.0], [-1.0]]).expand(2, 3)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    probe = (logp, torch.full((2, 3), -1.1), advantage, mask, Clip(0.2, 0.28))
    what = f"{where}: " * bool(where) + f"loss_type '{ref}'"
    return own_function(found, what, PARAMETERS, probe, "the loss of each token")
