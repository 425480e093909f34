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
        """Log-probabilities of ``ids[:, 1:]`` where ``mask``, 0 elsewhere; and the mean entropy there."""
        logits = self._logits(ids, mask) / self.temperature
        logprobs = torch.log_softmax(logits, dim=-1)
        chosen = logprobs.gather(1, ids[:, 1:][mask][:, None])[:, 0]
        with torch.no_grad():
            entropy = -(logprobs.exp() * logprobs).sum(-1).mean() if len(chosen) else logprobs.new_zeros(())
        out = torch.zeros(mask.shape, dtype=chosen.dtype, device=chosen.device)
        return out.masked_scatter(mask, chosen), entropy

    def _logits(self, ids: Int[Tensor, "rows length"],
                mask: Bool[Tensor, "rows length-1"]) -> Float[Tensor, "tokens vocab"]:
        """Logits at the masked positions, at least float32."""
        if self._split is None:
            self._split = self._check_split(ids)
        if self._split:
            logits = self._head_only(ids, mask)
        else:
            logits = self.model(input_ids=ids[:, :-1], use_cache=False).logits[mask]
        return logits if logits.dtype == torch.float64 else logits.float()

    def _head_only(self, ids: Int[Tensor, "rows length"], mask: Bool[Tensor, "rows length-1"]) -> Tensor:
        base = _base(self.model)
        hidden = base.get_decoder()(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
        return base.get_output_embeddings()(hidden[mask])

    @torch.no_grad()
    def _check_split(self, ids: Int[Tensor, "rows length"]) -> bool:
        """Whether the head reads the decoder's last hidden state, and nothing scales or caps what it gives.

        For the second the head's output is replaced once by large numbers: the logits of a young model can be so
        small that a cap would not show in them.
        """
        base, probe, seen = _base(self.model), ids[:1, : min(8, ids.shape[1] - 1)], list[Tensor]()
        decoder, head = base.get_decoder(), base.get_output_embeddings()
        if decoder is base or head is None:
            return False

        def replace(_: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            seen.extend([inputs[0], torch.linspace(-100, 100, output.numel()).view_as(output).to(output)])
            return seen[1]

        training, hook = self.model.training, head.register_forward_hook(replace)
        if training:
            self.model.eval()
        try:
            logits = self.model(input_ids=probe, use_cache=False).logits
            hidden = decoder(input_ids=probe, use_cache=False).last_hidden_state
        finally:
            hook.remove()
            if training:
                self.model.train()
        if len(seen) != 2 or not torch.equal(logits.to(seen[1]), seen[1]):
            return False
        return torch.allclose(hidden, seen[0], rtol=1e-3, atol=1e-5)


def _base(model: Any) -> Any:
    """The model inside a PEFT wrapper (its adapter layers are part of it), or the model itself."""
    from peft import PeftModel

    return model.get_base_model() if isinstance(model, PeftModel) else model
