"""The critic: what a policy may expect from where it stands, read off the decoder that it speaks with.

Comes in: hidden states that predict sampled tokens.  Goes out: a value for each, and the loss of these values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmrl.errors import BadInput
from mmrl_agents.batch import MicroBatch, Segment
from mmrl_agents.decoder import base_of, head_reads_decoder
from mmrl_agents.foresight import Foresight
from mmrl_agents.normaliser import Normaliser
from mmrl_agents.token_table import to_batch

Tokens = Float[Tensor, "rows seq"]
PROBE = [[2, 3, 4, 5]]
"""Ids of text, to see how a model's head reads its decoder."""


class Critic(torch.nn.Module):
    """A value head: one linear layer on the decoder's last hidden state, 0 at first.

    It shares the decoder with the policy, whose one pass gives log-probabilities and values.  Its weights are float32,
    whatever the model's are (float64 for a float64 model).

    Args:
        width: of the hidden state.
        dtype: of the model's weights.
        device: where they are.
    """

    def __init__(self, width: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> None:
        super().__init__()
        kind = torch.promote_types(dtype, torch.float32)
        self.weight = torch.nn.Parameter(torch.zeros(width, dtype=kind, device=device))
        self.bias = torch.nn.Parameter(torch.zeros((), dtype=kind, device=device))

    @classmethod
    def of(cls, model: Any, sees: bool = False, where: str = "") -> Critic:
        """A critic for ``model``.

        Args:
            model: a causal or vision-language model, with or without a PEFT adapter.
            sees: it reads images, and was found to be of the right kind when it was made ready for them.
            where: the place of the key that asks for a critic, for errors.

        Raises:
            BadInput: if the model's head does not read the decoder's last hidden state.
        """
        if not sees and not head_reads_decoder(model, torch.tensor(PROBE, device=model.device)):
            kind = base_of(model).config.model_type
            raise BadInput(f"{where}{': ' * bool(where)}a critic reads the decoder's last hidden state, and model type "
                           f"'{kind}' makes its logits of something else; take an advantage without a critic, such as "
                           "grpo")  # fmt: skip
        return cls(base_of(model).get_output_embeddings().weight.shape[1], model.dtype, model.device)

    def forward(self, hidden: Float[Tensor, "tokens width"]) -> Float[Tensor, " tokens"]:
        """``V = w h + b``."""
        return hidden.to(self.weight.dtype) @ self.weight + self.bias


@dataclass(frozen=True)
class ValueTargets:
    """What the critic learns from one micro-batch; 0 wherever it is not asked.

    Attributes:
        returns: what it should say.
        old: what it said before the batch's first update.
        weight: of each value in the loss.
        mask: where it is asked: before every sampled token, or before the first of every turn.
    """

    returns: Tokens
    old: Tokens
    weight: Tokens
    mask: Bool[Tensor, "rows seq"]

    def on_host(self) -> ValueTargets:
        """The same in the host's memory, where other processes can be told of it."""
        return ValueTargets(self.returns.cpu(), self.old.cpu(), self.weight.cpu(), self.mask.cpu())


@dataclass(frozen=True)
class ValueRows:
    """What the critic learns from a batch; a number for each sampled token of each trajectory.

    Attributes:
        returns: what it should say; None where it is not asked.
        old: what it said before the batch's first update.
        weight: of one value of each trajectory in the loss.
    """

    returns: Sequence[Sequence[float | None]]
    old: Sequence[Sequence[float]]
    weight: Float[Tensor, " trajectories"]

    @classmethod
    def of(cls, returns: Sequence[Sequence[float | None]], seen: Sequence[Foresight], normaliser: Normaliser,
           budget: int) -> ValueRows:
        """With the weights that the loss's normaliser gives where it counts values in the place of tokens."""
        counts = torch.tensor([sum(r is not None for r in row) for row in returns])
        return cls(returns, [f.values for f in seen], normaliser(counts, budget))

    def at(self, segments: Sequence[Segment], batch: MicroBatch, dtype: torch.dtype) -> ValueTargets:
        """In the places of a batch that was collated from ``segments``."""
        asked = [[float(r is not None) for r in row] for row in self.returns]
        known = [[0.0 if r is None else r for r in row] for row in self.returns]
        weights = [[w * a for a in row] for w, row in zip(self.weight.tolist(), asked, strict=True)]
        tables = [to_batch(t, segments, batch.ids.shape[1], dtype) for t in (known, self.old, weights, asked)]
        returns, old, weight, mask = (t.to(batch.ids.device) for t in tables)
        return ValueTargets(returns, old, weight, mask > 0)


def value_loss(values: Tokens, targets: ValueTargets, clip: float | None) -> Float[Tensor, ""]:
    """``sum of weight * max((V - R)^2, (V_clipped - R)^2) / 2``, ``V_clipped = clip(V, V_old - c, V_old + c)``.

    The clip is that of PPO's reference implementation: a value that has gone far from the old one on a batch learns no
    more from it.

    Args:
        values: V, with gradient; whatever stands outside the mask changes nothing.
        targets: R, V_old, weights and mask.
        clip: c, above 0; None: no clip.
    """
    asked = targets.mask
    v, r, old = (torch.where(asked, t, 0.0) for t in (values, targets.returns, targets.old))
    error = (v - r).square()
    if clip is not None:
        error = torch.maximum(error, (torch.clamp(v, old - clip, old + clip) - r).square())
    return (torch.where(asked, targets.weight, 0.0) * error).sum() / 2


def value_metrics(targets: Sequence[ValueTargets]) -> dict[str, float]:
    """How good the values were before the update.

    Returns:
        ``value``: their mean; ``explained_variance``: ``1 - Var(R - V) / Var(R)``, 1 for a perfect critic, 0 for one
        that says the same everywhere, below 0 for one that is worse; 0 too where all returns are equal.  Empty without
        a critic.
    """
    if not targets:
        return {}
    returns = torch.cat([t.returns[t.mask] for t in targets]).double()
    old = torch.cat([t.old[t.mask] for t in targets]).double()
    spread = float(returns.var(correction=0))
    explained = 1 - float((returns - old).var(correction=0)) / spread if spread > 0 else 0.0
    return {"value": float(old.mean()), "explained_variance": explained}
