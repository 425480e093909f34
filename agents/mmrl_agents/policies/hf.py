"""A policy from any Hugging Face causal language model."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from mmrl.errors import BadInput
from mmrl.policy import Completion, Request
from mmrl_agents.generate import Generator, Row, Sampled
from mmrl_agents.models import find_model, load_model, load_tokenizer
from mmrl_agents.transcript import Transcript

DEFAULT_CONTEXT = 4096


def end_ids(generation: Any | None, tokenizer: Any) -> tuple[int, ...]:
    """Ids that end a turn: the generation config's (where there is one) and the tokenizer's end-of-sequence ids."""
    listed = generation.eos_token_id if generation is not None else None
    ids: list[int] = [listed] if isinstance(listed, int) else list(listed or [])
    return tuple(dict.fromkeys([*ids, *([tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else [])]))


class HFPolicy:
    """Speaks with a causal language model, token in, token out.

    Args:
        model: the model; a learner may update it in place and then call :meth:`updated`.
        tokenizer: its tokenizer, with a chat template.
        temperature: of the sampling distribution; 0 takes the likeliest token.
        max_new_tokens: token limit of an answer.
        max_context: token limit of prompt and answer; None takes the model's own.
    """

    def __init__(self, model: Any, tokenizer: Any, temperature: float = 1.0, max_new_tokens: int = 64,
                 max_context: int | None = None) -> None:
        ids = end_ids(model.generation_config, tokenizer)
        self.tokenizer = tokenizer
        self.transcript = Transcript(tokenizer, ids)
        self.generator = Generator(model, ids, temperature)
        self.max_new_tokens = max_new_tokens
        own = getattr(model.config.get_text_config(), "max_position_embeddings", DEFAULT_CONTEXT)
        if max_context is not None and max_context > own:
            raise BadInput(f"max_context is {max_context}, but the model holds at most {own} tokens")
        self.max_context = max_context or own
        if max_new_tokens >= self.max_context:
            raise BadInput(f"max_new_tokens is {max_new_tokens}, which leaves no room for a prompt in a context of "
                           f"{self.max_context} tokens")  # fmt: skip
        self.version = 0

    def updated(self, version: int) -> None:
        """Say that the weights have changed; what was computed with the old ones is dropped."""
        self.version = version
        self.generator.forget()

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer a batch of requests, on a thread of its own."""
        return await asyncio.to_thread(self._generate, requests)

    def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        prompts = [self.transcript.prompt_of(r) for r in requests]
        rows = [
            Row(r.episode, p, r.seed, self.max_new_tokens)
            for r, p in zip(requests, prompts, strict=True)
            if len(p) + self.max_new_tokens <= self.max_context
        ]
        sampled = dict(zip((row.episode for row in rows), self.generator.sample(rows) if rows else [], strict=True))
        return [self._completion(p, sampled.get(r.episode)) for r, p in zip(requests, prompts, strict=True)]

    def _completion(self, prompt: tuple[int, ...], sampled: Sampled | None) -> Completion:
        if sampled is None:
            return Completion("", prompt, finish_reason="context", version=self.version)
        text = self.tokenizer.decode(sampled.ids, skip_special_tokens=True)
        reason = "stop" if sampled.ended else "length"
        return Completion(text, prompt, sampled.ids, sampled.logprobs, reason, self.version)


def load(model_id: str, temperature: float = 1.0, max_new_tokens: int = 64, max_context: int | None = None,
         dtype: str = "float32", device: str | None = None) -> HFPolicy:
    """Load a policy from a model id or folder (see :func:`mmrl.load_policy`)."""
    files = find_model(model_id)
    model = load_model(files, dtype, device)
    return HFPolicy(model, load_tokenizer(files), temperature, max_new_tokens, max_context)
