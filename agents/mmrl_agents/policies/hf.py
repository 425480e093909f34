"""A policy from any Hugging Face causal language model or vision-language model."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from mmrl.errors import BadInput
from mmrl.policy import Completion, Request
from mmrl_agents.generate import Generator, Row, Sampled
from mmrl_agents.image_tokens import tokenizer_of
from mmrl_agents.models import context_of, find_model, load_model, load_processing
from mmrl_agents.transcript import Transcript
from mmrl_agents.vision import Vision


def end_ids(generation: Any | None, processing: Any) -> tuple[int, ...]:
    """Ids that end a turn: the generation config's (where there is one) and the tokenizer's end-of-sequence ids."""
    tokenizer = tokenizer_of(processing)
    listed = generation.eos_token_id if generation is not None else None
    ids: list[int] = [listed] if isinstance(listed, int) else list(listed or [])
    return tuple(dict.fromkeys([*ids, *([tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else [])]))


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
    """

    def __init__(self, model: Any, processing: Any, temperature: float = 1.0, max_new_tokens: int = 64,
                 max_context: int | None = None, vision: Vision | None = None, bfloat16: bool = False) -> None:
        ids = end_ids(model.generation_config, processing)
        self.transcript = Transcript(processing, ids, vision.tokens if vision is not None else None)
        if vision is None and self.transcript.image_tokens is not None:
            vision = Vision(model, self.transcript.image_tokens)
        self.vision = vision
        self.generator = Generator(model, ids, temperature, vision, bfloat16)
        self.max_new_tokens = max_new_tokens
        own = context_of(model.config)
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

    def rest(self) -> None:
        """Drop what is kept of the episodes that went on; the learner may need the memory."""
        self.generator.rest()

    def close(self) -> None:
        """Drop all that is kept; the model is the caller's."""
        self.generator.forget()

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer a batch of requests, on a thread of its own."""
        return await asyncio.to_thread(self._generate, requests)

    def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        rows = [self._row(r) for r in requests]
        fit = [row for row in rows if len(row.prompt) + row.limit <= self.max_context]
        sampled = dict(zip((row.episode for row in fit), self.generator.sample(fit) if fit else [], strict=True))
        return [self._completion(row, sampled.get(row.episode)) for row in rows]

    def _row(self, request: Request) -> Row:
        prompt, images = self.transcript.prompt_of(request), self.transcript.images_of(request)
        return Row(request.episode, prompt, request.seed, self.max_new_tokens, images)

    def _completion(self, row: Row, sampled: Sampled | None) -> Completion:
        if sampled is None:
            return Completion("", row.prompt, finish_reason="context", version=self.version, images=row.images)
        text = self.transcript.tokenizer.decode(sampled.ids, skip_special_tokens=True)
        reason = "stop" if sampled.ended else "length"
        return Completion(text, row.prompt, sampled.ids, sampled.logprobs, reason, self.version, row.images)


def load(model_id: str, temperature: float = 1.0, max_new_tokens: int = 64, max_context: int | None = None,
         dtype: str = "float32", device: str | None = None) -> HFPolicy:
    """Load a policy from a model id or folder (see :func:`mmrl.load_policy`)."""
    files = find_model(model_id)
    model = load_model(files, dtype, device)
    return HFPolicy(model, load_processing(files), temperature, max_new_tokens, max_context)
