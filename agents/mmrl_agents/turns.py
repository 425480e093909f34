"""What every policy with tokens does, whoever samples: requests become prompts, sampled ids become completions.

Comes in: requests, and what answers rows of ids.  Goes out: completions in the requests' order.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from mmrl.errors import BadInput
from mmrl.policy import Completion, Request
from mmrl_agents.generate import Row, Sampled
from mmrl_agents.image_tokens import ImageTokens, tokenizer_of
from mmrl_agents.transcript import Transcript

Sample = Callable[[Sequence[Row]], Sequence[Sampled]]
"""Answers rows, in their order."""
SampleAsync = Callable[[Sequence[Row]], Awaitable[Sequence[Sampled]]]
"""The same, for who waits in an event loop."""


class Turns:
    """Prompts and answers as token ids, within a context.

    Args:
        processing: the tokenizer, or the processor if the model sees, with a chat template.
        ends: ids that end an answer (:func:`end_ids`).
        max_new_tokens: token limit of an answer.
        max_context: token limit of prompt and answer; None takes ``own``.
        own: how many tokens the model holds.
        tokens: how images become ids, to share what was processed; None makes it of a processor.

    Attributes:
        transcript: how messages become ids.
        max_context: token limit of prompt and answer.

    Raises:
        BadInput: if the limits do not fit the model or each other.
    """

    def __init__(self, processing: Any, ends: Sequence[int], max_new_tokens: int, max_context: int | None, own: int,
                 tokens: ImageTokens | None = None) -> None:
        if max_context is not None and max_context > own:
            raise BadInput(f"max_context is {max_context}, but the model holds at most {own} tokens")
        self.max_context = max_context or own
        if max_new_tokens >= self.max_context:
            raise BadInput(f"max_new_tokens is {max_new_tokens}, which leaves no room for a prompt in a context of "
                           f"{self.max_context} tokens")  # fmt: skip
        self.transcript = Transcript(processing, ends, tokens)
        self._reading = threading.Lock()  # a tokenizer is no two threads' at once
        self.max_new_tokens = max_new_tokens

    def answer(self, requests: Sequence[Request], version: int, sample: Sample) -> list[Completion]:
        """Answer requests; one whose prompt leaves no room for an answer is not sampled (``"context"``)."""
        rows, fit = self.rows(requests)
        return self.completions(rows, fit, sample(fit) if fit else (), version)

    async def speak(self, requests: Sequence[Request], version: int, sample: SampleAsync) -> list[Completion]:
        """:meth:`answer`, of what samples without holding up a thread; it may be called again meanwhile."""
        rows, fit = await asyncio.to_thread(self.rows, requests)
        sampled = await sample(fit) if fit else ()
        return await asyncio.to_thread(self.completions, rows, fit, sampled, version)

    def rows(self, requests: Sequence[Request]) -> tuple[list[Row], list[Row]]:
        """The prompts of requests, and those of them that leave room for an answer."""
        with self._reading:
            rows = [self.row(r) for r in requests]
        return rows, [row for row in rows if len(row.prompt) + row.limit <= self.max_context]

    def completions(self, rows: Sequence[Row], fit: Sequence[Row], sampled: Sequence[Sampled],
                    version: int) -> list[Completion]:  # fmt: skip
        """What was said to rows, of which ``fit`` were sampled."""
        said = dict(zip((row.episode for row in fit), sampled, strict=True))
        with self._reading:
            return [self.completion(row, said.get(row.episode), version) for row in rows]

    def row(self, request: Request) -> Row:
        """A request's prompt: the ids of the turn before and what came after, or a fresh one."""
        prompt, images = self.transcript.prompt_of(request), self.transcript.images_of(request)
        return Row(request.episode, prompt, request.seed, self.max_new_tokens, images)

    def completion(self, row: Row, sampled: Sampled | None, version: int) -> Completion:
        """What was said to a row; None: there was no room."""
        if sampled is None:
            return Completion("", row.prompt, finish_reason="context", version=version, images=row.images)
        text = self.transcript.tokenizer.decode(sampled.ids, skip_special_tokens=True)
        reason = "stop" if sampled.ended else "length"
        return Completion(text, row.prompt, sampled.ids, sampled.logprobs, reason, version, row.images)


def end_ids(generation: Any | None, processing: Any) -> tuple[int, ...]:
    """Ids that end a turn: the generation config's (where there is one) and the tokenizer's end-of-sequence ids."""
    tokenizer = tokenizer_of(processing)
    listed = generation.eos_token_id if generation is not None else None
    ids: list[int] = [listed] if isinstance(listed, int) else list(listed or [])
    return tuple(dict.fromkeys([*ids, *([tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else [])]))
