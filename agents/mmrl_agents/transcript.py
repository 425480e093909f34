"""Token-in, token-out conversations.

The next prompt is the previous prompt's ids + the sampled ids + the ids of what the environment added;
nothing is decoded and encoded again.  The added ids come from the difference of two renderings of a small
synthetic conversation, so that what a template puts after an end-of-turn token is never lost.  Images are parts of
messages like any other: each becomes its processor's ids, once, and goes beside the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import groupby
from typing import Any

from mmrl.errors import BadInput
from mmrl.image import Image
from mmrl.policy import Request
from mmrl.sample import Message, Part, Text, Video, images_of, text_of
from mmrl.trajectory import Turn
from mmrl_agents.image_tokens import ImageTokens, image_tokens, tokenizer_of

_MARK = "mmrl7"
_PROBE = "mmrl3"


class Transcript:
    """Renders messages with a chat template.

    Args:
        processing: a Hugging Face tokenizer, or the processor of a vision-language model, with a chat template.
        end_ids: token ids that end a turn (the model's end-of-sequence ids).
        tokens: how images become ids, to share what was processed; None makes it of a processor.

    Attributes:
        tokenizer: the tokenizer.
        image_tokens: how images become ids; None if the model reads text only.
    """

    def __init__(self, processing: Any, end_ids: Sequence[int], tokens: ImageTokens | None = None) -> None:
        self.processing = processing
        self.tokenizer = tokenizer_of(processing)
        self.image_tokens = tokens or image_tokens(processing)
        self.end_ids = frozenset(end_ids)

    def prompt(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Ids of a fresh prompt, the generation prompt included."""
        return self._encode(self._render(messages, True), shown(messages))

    def images_of(self, request: Request) -> tuple[Image, ...]:
        """The images that stand among the ids of :meth:`prompt_of`, in order."""
        if not self._goes_on(request):
            return shown(request.messages)
        assert request.previous is not None
        return request.previous.images + shown(request.messages[-request.added :])

    def _goes_on(self, request: Request) -> bool:
        return request.previous is not None and bool(request.previous.prompt_ids) and self.extends

    def prompt_of(self, request: Request) -> tuple[int, ...]:
        """Ids of a request's prompt: an extension of the previous turn's ids where there is one."""
        if request.previous is None or not self._goes_on(request):
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
        said = response if self.image_tokens is None else self.image_tokens.plain(response)
        return self.prompt(messages), (*self._encode(said), self._end)

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
        return self._encode(rendered.partition(_MARK)[2], shown(added))

    def _render(self, messages: Sequence[Message], generate: bool) -> str:
        if self.image_tokens is None and shown(messages):
            raise BadInput("this policy reads text only, and the conversation has an image or a video in it")
        chat = [{"role": m.role, "content": self._content(m)} for m in messages]
        try:
            return self.processing.apply_chat_template(chat, tokenize=False, add_generation_prompt=generate)
        except Exception as error:
            raise BadInput(f"the model's chat template cannot render this conversation: {error}") from error

    def _content(self, message: Message) -> str | list[dict[str, str]]:
        """A message's content as the template takes it: text, or a list of parts if the model sees."""
        if self.image_tokens is None:
            return message.text
        made: list[dict[str, str]] = []
        # Texts that stand together are one text, as for a model of text alone: no two of them make a placeholder.
        for is_text, run in groupby(message.content, lambda part: isinstance(part, Text)):
            parts = tuple(run)
            plain = self.image_tokens.plain(text_of(parts))
            made += [_text(plain)] if is_text else [c for p in parts for c in _seen(p)]
        only_text = len(made) == 1 and made[0]["type"] == "text"
        return made[0]["text"] if only_text and message.role in self._as_text else made

    @cached_property
    def _as_text(self) -> frozenset[str]:
        """The roles whose content the template wants as a text and not as a list of parts."""
        probes = {"system": ("system", "user"), "assistant": ("user", "assistant")}
        return frozenset(role for role, roles in probes.items() if not self._takes_parts(roles))

    def _takes_parts(self, roles: Sequence[str]) -> bool:
        chat = [{"role": role, "content": [_text(_MARK)]} for role in roles]
        try:
            rendered = self.processing.apply_chat_template(chat, tokenize=False)
        except Exception:  # templates raise whatever they like
            return False
        return rendered.count(_MARK) == len(roles) and "[{" not in rendered

    def _encode(self, text: str, images: Sequence[Image] = ()) -> tuple[int, ...]:
        ids = tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        return ids if self.image_tokens is None else self.image_tokens.expand(ids, images)


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _seen(part: Part) -> list[dict[str, str]]:
    """An image; a video as its frames with their times, which every model that sees can read."""
    if isinstance(part, Video):
        return [c for at in part.times for c in (_text(f"{at:.1f}s"), {"type": "image"})]
    return [{"type": "image"}]


def shown(messages: Sequence[Message]) -> tuple[Image, ...]:
    """The images of a conversation, in order; a video counts as its frames."""
    return tuple(image for m in messages for image in images_of(m.content))


def _user(text: str) -> Message:
    return Message("user", (Text(text),))
