"""A policy from any Hugging Face causal language model or vision-language model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from mmrl.policy import Completion, Request
from mmrl_agents.generate import LOG, Generator
from mmrl_agents.models import context_of, find_model, load_model, load_processing
from mmrl_agents.turns import Turns, end_ids
from mmrl_agents.vision import Vision


class HFPolicy:
    """Speaks with a causal language model or a vision-language model, token in, token out.

    Args:
        model: the model; a learner may update it in place and then call :meth:`updated`.
        processing: its tokenizer, or its processor if it sees, with a chat template.
        temperature: of the sampling distribution; 0 takes the likeliest token.
        max_new_tokens: token limit of an answer.
        max_context: token limit of prompt and answer; None takes the model's own.
        vision: how the model sees, if a learner shares it; None makes one of the processor.
        bfloat16: products in bfloat16, whatever the weights are (autocast).
        say: is told how the model is sampled (see :class:`mmrl_agents.generate.Generator`).
    """

    def __init__(self, model: Any, processing: Any, temperature: float = 1.0, max_new_tokens: int = 64,
                 max_context: int | None = None, vision: Vision | None = None, bfloat16: bool = False,
                 say: Callable[[str], None] = LOG.info) -> None:
        ids = end_ids(model.generation_config, processing)
        tokens = vision.tokens if vision is not None else None
        self.turns = Turns(processing, ids, max_new_tokens, max_context, context_of(model.config), tokens)
        self.transcript = self.turns.transcript
        if vision is None and self.transcript.image_tokens is not None:
            vision = Vision(model, self.transcript.image_tokens)
        self.vision = vision
        self.generator = Generator(model, ids, temperature, vision, bfloat16, say)
        self.version = 0

    def updated(self, version: int) -> None:
        """Say that the weights have changed; what was computed with the old ones is dropped."""
        self.version = version
        self.generator.forget()

    def rest(self) -> None:
        """Drop what is kept of the episodes that went on; the learner may need the memory."""
        self.generator.rest()

    def ended(self, episodes: Sequence[str]) -> None:
        """Drop what is kept of these episodes, before the next batch."""
        self.generator.over.extend(episodes)

    def stop(self) -> None:
        """A batch that has begun is sampled to its end."""

    def close(self) -> None:
        """Drop all that is kept; the model is the caller's."""
        self.generator.forget()

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer a batch of requests, on a thread of its own."""
        return await asyncio.to_thread(self.turns.answer, requests, self.version, self.generator.sample)


def load(model_id: str, temperature: float = 1.0, max_new_tokens: int = 64, max_context: int | None = None,
         dtype: str = "float32", device: str | None = None) -> HFPolicy:
    """Load a policy from a model id or folder (see :func:`mmrl.load_policy`)."""
    files = find_model(model_id)
    model = load_model(files, dtype, device)
    return HFPolicy(model, load_processing(files), temperature, max_new_tokens, max_context)
