"""From another trainer's prompt and completion to a trajectory.

Comes in: chats as Hugging Face writes them, or plain text.  Goes out: a :class:`~mmrl.Trajectory` with one turn for
each of the policy's answers.  There is no environment: ``info`` says nothing of success or costs, and each turn's
reward is NaN, so that a plugin that reads them says "not applicable" or fails, and never sees a 0 that nobody gave.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from mmrl.errors import BadInput
from mmrl.image import Image
from mmrl.sample import Content, Message, Part, Role, Sample, Text, from_openai
from mmrl.trajectory import Trajectory, Turn

Chat = str | Sequence[Mapping[str, Any]]
"""Plain text, or messages with ``role`` and ``content``."""
IMAGE_TAG = "<image>"
"""Where an image stands in a text, as ms-swift's datasets write it."""


@dataclasses.dataclass(frozen=True)
class Exchange:
    """A prompt and what came of it.

    Attributes:
        id: unique in its batch.
        source: the trainer, which stands where an environment's id would.
        prompt: what the policy was shown first.
        completion: its answers, and between them what it was shown next.
        reference: the ground truth, or None.
        token_ids: the sampled ids of each answer; empty if they are not known.
        meta: what else is known of the sample.
    """

    id: str
    source: str
    prompt: tuple[Message, ...]
    completion: tuple[Message, ...]
    reference: Any = None
    token_ids: Sequence[Sequence[int]] = ()
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict[str, Any])

    def trajectory(self) -> Trajectory:
        """The trajectory: a turn for every answer of the completion."""
        first = next((i for i, m in enumerate(self.completion) if m.role == "assistant"), len(self.completion))
        start = (*self.prompt, *self.completion[:first])
        shown: Content = start[-1].content if start else ()
        turns: list[Turn] = []
        for message in self.completion[first:]:
            if message.role == "assistant":
                turns.append(Turn(shown, message.text, reward=math.nan))
                shown = ()
            else:
                shown = (*shown, *message.content)
        if len(self.token_ids) == len(turns):
            turns = [dataclasses.replace(t, token_ids=tuple(ids)) for t, ids in zip(turns, self.token_ids, strict=True)]
        sample = Sample(self.id, start, self.reference, self.meta)
        return Trajectory(self.id, self.source, 0, self.id, sample, tuple(turns), True, False, shown if turns else ())


def messages_of(chat: Chat, role: Role, where: str) -> tuple[Message, ...]:
    """Read a chat; plain text is one message of ``role``.

    An answer without content (it called tools) is an empty text.

    Raises:
        BadInput: if a message has another form; ``where`` names the chat.
    """
    if isinstance(chat, str):
        return (Message(role, (Text(chat),)),)
    try:
        return from_openai([{**m, "content": m.get("content") or ""} for m in chat])
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from error


def as_images(value: Any, where: str) -> list[Image]:
    """Read one row of an image column: nothing, one image or several.

    An image is a path, encoded bytes, a PIL image, an array, or a mapping with ``bytes`` or ``path``.

    Raises:
        BadInput: if one is of another form; ``where`` names the row.
    """
    row = cast("list[Any]", list(value) if isinstance(value, list | tuple) else [] if value is None else [value])
    images: list[Image] = []
    for item in row:
        found = (item.get("bytes") or item.get("path")) if isinstance(item, Mapping) else item
        if found is None:
            raise BadInput(f"{where}: an image has neither bytes nor a path")
        images.append(Image(found))
    return images


def place_images(messages: Sequence[Message], images: Sequence[Image], where: str) -> tuple[Message, ...]:
    """Put images where the texts say ``<image>``; those without a tag go before the first user message's text.

    A tag in an answer is the policy's own words and stays.

    Raises:
        BadInput: if there are more tags than images; ``where`` names the row.
    """
    tags = sum(m.text.count(IMAGE_TAG) for m in messages if m.role != "assistant")
    if tags > len(images):
        raise BadInput(f"{where}: {tags} times {IMAGE_TAG} and {len(images)} images; give each tag its image")
    spare, tagged = list(images[: len(images) - tags]), iter(images[len(images) - tags :])
    out: list[Message] = []
    for message in messages:
        parts = message.content
        if message.role != "assistant":
            parts = tuple(part for p in parts for part in _split(p, tagged))
        if spare and message.role == "user":
            parts, spare = (*spare, *parts), []
        out.append(Message(message.role, parts))
    return tuple(out)


def _split(part: Part, images: Iterator[Image]) -> Iterator[Part]:
    if not isinstance(part, Text) or IMAGE_TAG not in part.text:
        yield part
        return
    head, *tail = part.text.split(IMAGE_TAG)
    if head:
        yield Text(head)
    for text in tail:
        yield next(images)
        if text:
            yield Text(text)
