"""Log-probabilities of given tokens under a causal language model.

What rows begin with in common is computed once where they are packed together, and only masked positions go through
the language-model head.  Packs are right-padded and attention is causal, so padding needs no attention mask: no real
token ever looks at it.
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
from mmrl_agents.forward import AS_WRITTEN, Forward
from mmrl_agents.head import log_probabilities
from mmrl_agents.layout import Layout, lay_out
from mmrl_agents.packing import decoder_inputs, rows_to_read
from mmrl_agents.packs import PLAIN, Limits, partition
from mmrl_agents.shards import WHOLE, Shards
from mmrl_agents.vision import Vision


class Scorer:
    """Scores tokens with ``model`` at a sampling temperature.

    Args:
        model: a causal language model, with or without a PEFT adapter.
        temperature: the sampler's; log-probabilities are those of ``softmax(logits / temperature)``.
        vision: how the model sees, if it does; ids that it bans have no probability.
        forward: how the model is run.
        shards: how the processes of a run share its weights.
    """

    def __init__(self, model: Any, temperature: float, vision: Vision | None = None, forward: Forward = AS_WRITTEN,
                 shards: Shards = WHOLE) -> None:
        self.model = model
        self.temperature = temperature
        self._shards = shards
        self.feed = Feed(vision)
        self.forward = forward
        self._split: bool | None = None

    def __call__(self, ids: Int[Tensor, "rows length"], mask: Bool[Tensor, "rows length-1"],
                 images: Sequence[Sequence[Image]] = (),
                 packs: Sequence[Sequence[int]] = ()) -> tuple[Float[Tensor, "rows length-1"], Float[Tensor, ""]]:
        """Log-probabilities of ``ids[:, 1:]`` where ``mask``, 0 elsewhere; and the mean entropy there.

        Args:
            ids: rows, padded on the right.
            mask: which of ``ids[:, 1:]`` to score.
            images: of each row; empty if no row has any.
            packs: as for :meth:`tokens`.
        """
        logp, spread = self.tokens(ids, mask, images, packs=packs)
        spread = spread[mask]
        return logp, spread.mean() if len(spread) else spread.new_zeros(())

    def tokens(self, ids: Int[Tensor, "rows length"], mask: Bool[Tensor, "rows length-1"],
               images: Sequence[Sequence[Image]] = (), learn_entropy: bool = False,
               packs: Sequence[Sequence[int]] = ()) -> tuple[
                   Float[Tensor, "rows length-1"], Float[Tensor, "rows length-1"]]:
        """Log-probabilities of ``ids[:, 1:]`` where ``mask``, and the entropies there; 0 elsewhere.

        Args:
            ids: rows, padded on the right.
            mask: which of ``ids[:, 1:]`` to score.
            images: of each row; empty if no row has any.
            learn_entropy: give the entropies a gradient; it takes memory of the vocabulary's size a token.
            packs: the rows that are computed together, each pack sorted by symbols (:class:`mmrl_agents.packs.Row`);
                empty: only rows of which one goes on from the other.
        """
        logp, spread, _ = self._shards.run(self.model, lambda: self._scored(ids, mask, images, learn_entropy, packs))
        return logp, spread

    def with_values(self, ids: Int[Tensor, "rows length"], mask: Bool[Tensor, "rows length-1"],
                    images: Sequence[Sequence[Image]], critic: Critic, learn_entropy: bool = False,
                    packs: Sequence[Sequence[int]] = ()) -> tuple[
                        Float[Tensor, "rows length-1"], Float[Tensor, "rows length-1"], Float[Tensor, "rows length-1"]]:
        """Log-probabilities and entropies as :meth:`tokens`, and the critic's values before these ids, in one pass."""
        logp, spread, values = self._shards.run(
            self.model, lambda: self._scored(ids, mask, images, learn_entropy, packs, critic)
        )
        assert values is not None
        return logp, spread, values

    @property
    def dtype(self) -> torch.dtype:
        """The type of the model's products."""
        return self.forward.dtype(base_of(self.model).dtype)

    def _scored(self, ids: Int[Tensor, "rows length"], mask: Bool[Tensor, "rows length-1"],
                images: Sequence[Sequence[Image]], learn_entropy: bool, packs: Sequence[Sequence[int]],
                critic: Critic | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Log-probabilities, entropies and values where ``mask``, 0 elsewhere."""
        rows = rows_to_read(ids.tolist(), mask.tolist(), images, self.feed)
        whole = Limits(len(rows), ids.numel())
        layout = lay_out(rows, packs or [p.rows for p in partition(rows, PLAIN, whole)], ids.device)
        row, column = mask.nonzero(as_tuple=True)
        slot = layout.pack[row] * layout.ids.shape[1] + layout.slot[row, column]
        # What several rows ask alike is answered once; each row has its own part in the gradient.
        pairs, owner = torch.unique(slot << 32 | ids[row, column + 1], return_inverse=True)
        slots, of = torch.unique_consecutive(pairs >> 32, return_inverse=True)
        states = self._states(layout).flatten(0, 1).index_select(0, slots)
        vocabulary = base_of(self.model).config.get_text_config().vocab_size
        logp, spread = log_probabilities(states, of, pairs & (2**32 - 1), self._head, vocabulary, learn_entropy)
        asked = of.index_select(0, owner)

        def spread_out(found: Tensor, of_asked: Tensor) -> Tensor:
            nothing = torch.zeros(mask.shape, dtype=found.dtype, device=found.device)
            return nothing.masked_scatter(mask, found.index_select(0, of_asked))

        values = None if critic is None else spread_out(critic(states), asked)
        return spread_out(logp, owner), spread_out(spread, asked), values

    def _states(self, layout: Layout) -> Float[Tensor, "packs slots width"]:
        """What the head reads in each slot; the logits themselves where it reads something else."""
        base = base_of(self.model)
        inputs = decoder_inputs(layout, self.feed, self.dtype)
        split = self._reads_decoder(layout.ids)
        with self.forward.autocast(layout.ids.device), self.forward.keeping(self.model):
            if split:
                return self.forward.of(base.get_decoder())(**inputs, use_cache=False).last_hidden_state
            return self.forward.of(self.model)(**inputs, use_cache=False).logits

    def _reads_decoder(self, ids: Int[Tensor, "packs slots"]) -> bool:
        if self._split is None:  # Vision's own check includes this one
            self._split = self.feed.vision is not None or head_reads_decoder(self.model, ids[:1, :8])
        return self._split

    def _head(self, states: Float[Tensor, "tokens hidden"]) -> Float[Tensor, "tokens vocab"]:
        """Logits over the temperature, at least float32."""
        with self.forward.autocast(states.device):
            logits = base_of(self.model).get_output_embeddings()(states) if self._split else states
        logits = logits if logits.dtype == torch.float64 else logits.float()
        allowed = self.feed.allowed(logits)
        return allowed if self.temperature == 1 else allowed / self.temperature  # logits are large; spare a copy
