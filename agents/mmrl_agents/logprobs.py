"""Log-probabilities of given tokens under a causal language model.

Only masked positions go through the language-model head.  Rows are right-padded and attention is causal, so
padding needs no attention mask: no real token ever looks at it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmrl.image import Image
from mmrl_agents.critic import Critic
from mmrl_agents.decoder import base_of, head_reads_decoder
from mmrl_agents.feed import Feed
from mmrl_agents.vision import Vision


class Scorer:
    """Scores tokens with ``model`` at a sampling temperature.

    Args:
        model: a causal language model, with or without a PEFT adapter.
        temperature: the sampler's; log-probabilities are those of ``softmax(logits / temperature)``.
        vision: how the model sees, if it does; ids that it bans have no probability.
    """

    def __init__(self, model: Any, temperature: float, vision: Vision | None = None) -> None:
        self.model = model
        self.temperature = temperature
        self.feed = Feed(vision)
        self._split: bool | None = None

    def __call__(self, ids: Int[Tensor, "rows length"], mask: Bool[Tensor, "rows length-1"],
                 images: Sequence[Sequence[Image]] = ()) -> tuple[Float[Tensor, "rows length-1"], Float[Tensor, ""]]:
        """Log-probabilities of ``ids[:, 1:]`` where ``mask``, 0 elsewhere; and the mean entropy there.

        Args:
            ids: rows, padded on the right.
            mask: which of ``ids[:, 1:]`` to score.
            images: of each row; empty if no row has any.
        """
        logp, spread = self.tokens(ids, mask, images)
        spread = spread[mask]
        return logp, spread.mean() if len(spread) else spread.new_zeros(())

    def tokens(self, ids: Int[Tensor, "rows length"], mask: Bool[Tensor, "rows length-1"],
               images: Sequence[Sequence[Image]] = (),
               learn_entropy: bool = False) -> tuple[Float[Tensor, "rows length-1"], Float[Tensor, "rows length-1"]]:
        """Log-probabilities of ``ids[:, 1:]`` where ``mask``, and the entropies there; 0 elsewhere.

        Args:
            ids: rows, padded on the right.
            mask: which of ``ids[:, 1:]`` to score.
            images: of each row; empty if no row has any.
            learn_entropy: give the entropies a gradient; it takes memory of the vocabulary's size a token.
        """
        first, place = distinct(ids, mask, images)
        shown = [images[i] for i in first] if images else ()
        logp, spread = self._of_logits(self._logits(ids[first], mask[first], shown), ids[first], mask[first],
                                       learn_entropy)  # fmt: skip
        # Rows that are the same (a group's equal answers) are computed once; each has its own part in the gradient.
        return logp[place], spread[place]

    def with_values(self, ids: Int[Tensor, "rows length"], mask: Bool[Tensor, "rows length-1"],
                    images: Sequence[Sequence[Image]], critic: Critic, learn_entropy: bool = False) -> tuple[
                        Float[Tensor, "rows length-1"], Float[Tensor, "rows length-1"], Float[Tensor, "rows length-1"]]:
        """Log-probabilities and entropies as :meth:`tokens`, and the critic's values before these ids, in one pass."""
        first, place = distinct(ids, mask, images)
        hidden = self.hidden(ids[first], mask[first], [images[i] for i in first] if images else ())
        logits = base_of(self.model).get_output_embeddings()(hidden)
        logp, spread = self._of_logits(logits, ids[first], mask[first], learn_entropy)
        values = critic(hidden)
        nothing = torch.zeros(logp.shape, dtype=values.dtype, device=values.device)
        return logp[place], spread[place], nothing.masked_scatter(mask[first], values)[place]

    def _of_logits(self, logits: Float[Tensor, "tokens vocab"], ids: Int[Tensor, "rows length"],
                   mask: Bool[Tensor, "rows length-1"],
                   learn_entropy: bool) -> tuple[Float[Tensor, "rows length-1"], Float[Tensor, "rows length-1"]]:
        """Log-probabilities and entropies where ``mask``, 0 elsewhere; at least float32."""
        logits = self.feed.allowed(logits if logits.dtype == torch.float64 else logits.float()) / self.temperature
        logprobs = torch.log_softmax(logits, dim=-1)
        chosen = logprobs.gather(1, ids[:, 1:][mask][:, None])[:, 0]
        with torch.set_grad_enabled(learn_entropy and torch.is_grad_enabled()):
            entropy = -(logprobs.exp() * logprobs).sum(-1)
        nothing = torch.zeros(mask.shape, dtype=chosen.dtype, device=chosen.device)
        return nothing.masked_scatter(mask, chosen), nothing.masked_scatter(mask, entropy)

    def _logits(self, ids: Int[Tensor, "rows length"], mask: Bool[Tensor, "rows length-1"],
                images: Sequence[Sequence[Image]]) -> Float[Tensor, "tokens vocab"]:
        """Logits at the masked positions."""
        if self._split is None:  # Vision's own check includes this one
            probe = ids[:1, : min(8, ids.shape[1] - 1)]
            self._split = self.feed.vision is not None or head_reads_decoder(self.model, probe)
        if self._split:
            return base_of(self.model).get_output_embeddings()(self.hidden(ids, mask, images))
        return self.model(input_ids=ids[:, :-1], use_cache=False).logits[mask]

    def hidden(self, ids: Int[Tensor, "rows length"], mask: Bool[Tensor, "rows length-1"],
               images: Sequence[Sequence[Image]]) -> Float[Tensor, "tokens width"]:
        """The decoder's last hidden state in the places that predict the masked ids, row after row."""
        decoder = base_of(self.model).get_decoder()
        return decoder(**self.feed.whole(ids[:, :-1], images), use_cache=False).last_hidden_state[mask]


def distinct(ids: Int[Tensor, "rows length"], mask: Bool[Tensor, "rows length-1"],
             images: Sequence[Sequence[Image]]) -> tuple[list[int], list[int]]:
    """Which rows are the first of their kind, and for each row the place of its kind among them."""
    shown = [tuple(i.sha256 for i in row) for row in images] or [()] * len(ids)
    keys = list(zip(map(tuple, ids.tolist()), map(tuple, mask.tolist()), shown, strict=True))
    kinds = {key: n for n, key in enumerate(dict.fromkeys(keys))}
    first: dict[int, int] = {}
    for row, key in enumerate(keys):
        first.setdefault(kinds[key], row)
    return list(first.values()), [kinds[key] for key in keys]
