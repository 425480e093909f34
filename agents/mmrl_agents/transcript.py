"""Token-in, token-out conversations.

The next prompt is the previous prompt's ids + the sampled ids + the ids of what the environment added;
nothing is decoded and encoded again.  The added ids come from the difference of two renderings of a small
synthetic conversation, so that what a template puts after an end-of-turn token is never lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from mmrl.errors import BadInput
from mmrl.policy import Request
from mmrl.sample import Message, Text
from mmrl.trajectory import Turn

_MARK = "mmrl7"
_PROBE = "mmrl3"


class Transcript:
    """Renders messages with a tokenizer's chat template.

    Args:
        tokenizer: a Hugging Face tokenizer with a chat template.
        end_ids: token ids that end a turn (the model's end-of-sequence ids).
    """

    def __init__(self, tokenizer: Any, end_ids: Sequence[int]) -> None:
        self.tokenizer = tokenizer
        self.end_ids = frozenset(end_ids)

    def prompt(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Ids of a fresh prompt, the generation prompt included."""
        return self._encode(self._render(messages, True))

    def prompt_of(self, request: Request) -> tuple[int, ...]:
        """Ids of a request's prompt: an extension of the previous turn's ids where there is one."""
        if request.previous is None or not request.previous.prompt_ids or not self.extends:
            return self.prompt(request.messages)
        return self.extend(request.previous, request.messages[-request.added :])

    def extend(self, previous: Turn, added: Sequence[Message]) -> tuple[int, ...]:
        """Ids after ``previous`` and the added messages.

        A turn that was cut by its token limit lacks its end-of-turn token; it is put in here, unsampled.
        """
        ids = previous.prompt_ids + previous.token_ids
        if not previous.token_ids or previous.token_ids[-1] not in self.end_ids:
            ids = (*ids, self._after_answer(tuple(added))[0])
        return self.extend_ended(ids, added)

    def extend_ended(self, ids: tuple[int, ...], added: Sequence[Message]) -> tuple[int, ...]:
        """Ids after ``ids``, which end with an end-of-turn token, and the added messages."""
        return (*ids, *self._after_answer(tuple(added))[1:])

    def answer(self, messages: Sequence[Message], response: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Ids of a prompt and of a given answer with its end-of-turn token (for supervised learning)."""
        return self.prompt(messages), (*self._encode(response), self._end)

    @cached_property
    def extends(self) -> bool:
        """Whether a longer conversation's rendering starts with the shorter one's.

        False for templates that drop earlier reasoning, or that do not end an answer with an end-of-turn
        token: each turn is then a fresh prompt and trains as a segment of its own.
        """
        thought = f"<think>\n{_PROBE}\n</think>\n\n{_MARK}"
        rendered = self._render([_user("a"), Message("assistant", (Text(thought),)), _user("b")], False)
        return _PROBE in rendered and self._after_answer((_user("b"),))[0] in self.end_ids

    @cached_property
    def _end(self) -> int:
        """The token that ends an answer: the one that the template writes, or the model's where it writes none."""
        written = self._after_answer((_user("a"),))[0]
        return written if written in self.end_ids else min(self.end_ids, default=written)

    def _after_answer(self, added: tuple[Message, ...]) -> tuple[int, ...]:
        """Ids that follow an answer's text: its end-of-turn token, then the added messages and the next prompt."""
        rendered = self._render([_user("a"), Message("assistant", (Text(_MARK),)), *added], True)
        return self._encode(rendered.partition(_MARK)[2])

    def _render(self, messages: Sequence[Message], generate: bool) -> str:
        for m in messages:
            if m.images or m.videos:
                raise BadInput("this policy reads text only, and the conversation has an image or a video in it")
        chat = [{"role": m.role, "content": m.text} for m in messages]
        try:
            return self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=generate)
        except Exception as error:
            raise BadInput(f"the model's chat template cannot render this conversation: {error}") from error

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def _user(text: str) -> Message:
    return Message("user", (Text(text),))
