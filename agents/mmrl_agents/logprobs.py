"""Log-probabilities of given tokens under a causal language model.

Only masked positions go through the language-model head.  Rows are right-padded and attention is causal, so
padding needs no attention mask: no real token ever looks at it.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Scorer:
    """Scores tokens with ``model`` at a sampling temperature.

    Args:
        model: a causal language model, with or without a PEFT adapter.
        temperature: the sampler's; log-probabilities are those of ``softmax(logits / temperature)``.
    """

    def __init__(self, model: Any, temperature: float) -> None:
        self.model = model
        self.temperature = temperature
        self._split: bool | None = None

    def __call__(self, ids: Int[Tensor, "rows length"], mask: Bool[Tensor, "rows length-1"]) -> tuple[
            Float[Tensor, "rows length-1"], Float[Tensor, ""]]:
        """Log-probabilities of ``ids[:, 1:]`` where ``mask``, 0 elsewhere; and the mean entropy there (no gradient)."""
        logits = self._logits(ids, mask) / self.temperature
        logprobs = torch.log_softmax(logits, dim=-1)
        chosen = logprobs.gather(1, ids[:, 1:][mask][:, None])[:, 0]
        with torch.no_grad():
            entropy = -(logprobs.exp() * logprobs).sum(-1).mean() if len(chosen) else logprobs.new_zeros(())
        out = torch.zeros(mask.shape, dtype=chosen.dtype, device=chosen.device)
        return out.masked_scatter(mask, chosen), entropy

    def _logits(self, ids: Int[Tensor, "rows length"], mask: Bool[Tensor, "rows length-1"]) -> Float[Tensor, "tokens vocab"]:
        """Logits at the masked positions, at least float32."""
        if self._split is None:
            self._split = self._check_split(ids)
        logits = self._head_only(ids, mask) if self._split else self.model(input_ids=ids[:, :-1], use_cache=False).logits[mask]
        return logits if logits.dtype == torch.float64 else logits.float()

    def _head_only(self, ids: Int[Tensor, "rows length"], mask: Bool[Tensor, "rows length-1"]) -> Tensor:
        base = _base(self.model)
        hidden = base.get_decoder()(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
        return base.get_output_embeddings()(hidden[mask])

    @torch.no_grad()
    def _check_split(self, ids: Int[Tensor, "rows length"]) -> bool:
        """Whether decoder and head apart give the model's own logits (some models scale or cap them after the head)."""
        base, probe = _base(self.model), ids[:1, : min(9, ids.shape[1])]
        if base.get_decoder() is base or base.get_output_embeddings() is None:
            return False
        training = self.model.training
        self.model.eval()
        whole = self.model(input_ids=probe[:, :-1], use_cache=False).logits[0]
        apart = self._head_only(probe, torch.ones_like(probe[:, 1:], dtype=torch.bool))
        self.model.train(training)
        return whole.shape == apart.shape and bool(torch.allclose(whole, apart, rtol=1e-3, atol=1e-3))


def _base(model: Any) -> Any:
    """The model inside a PEFT wrapper (its adapter layers are part of it), or the model itself."""
    from peft import PeftModel

    return model.get_base_model() if isinstance(model, PeftModel) else model
