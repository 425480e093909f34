"""The one sample interface: messages made of text, image and video parts.

Comes in: anything a task shows (a question, a scene, frames).  Goes out: frozen parts, messages and
samples that environments, policies and reward plugins all speak, and the chat format that Hugging Face,
vLLM and OpenAI share.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from mmrl.errors import BadInput
from mmrl.image import Image
from mmrl.video import Video

__all__ = ["Content", "Image", "Message", "Part", "Sample", "Text", "Video", "as_content", "from_openai",
           "images_of", "text_of", "to_openai"]

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of text."""

    text: str


Part = Text | Image | Video
Content = tuple[Part, ...]


def as_content(value: str | Part | Iterable[Part]) -> Content:
    """Make content of a string, a part, or several parts.

    Raises:
        TypeError: if something in ``value`` is not a part.
    """
    if isinstance(value, str):
        return (Text(value),)
    parts = (value,) if isinstance(value, Text | Image | Video) else tuple(value)
    for part in parts:
        if not isinstance(part, Text | Image | Video):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"a content part is Text, Image or Video, not {type(part).__name__}: {part!r:.80}")
    return parts


def images_of(content: Content) -> tuple[Image, ...]:
    """The images of ``content``, in order; a video counts as its frames."""
    return tuple(i for p in content if not isinstance(p, Text) for i in (p.frames if isinstance(p, Video) else (p,)))


def text_of(content: Content) -> str:
    """Join the text parts of ``content`` with newlines; images and videos are left out."""
    return "\n".join(p.text for p in content if isinstance(p, Text))


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation: who speaks, and the parts that are said."""

    role: Role
    content: Content

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise BadInput(f"a message's role is one of {', '.join(ROLES)}, not {self.role!r}")
        object.__setattr__(self, "content", as_content(self.content))

    @property
    def text(self) -> str:
        """The text parts, joined by newlines."""
        return text_of(self.content)

    @property
    def images(self) -> tuple[Image, ...]:
        """The image parts, in order."""
        return tuple(p for p in self.content if isinstance(p, Image))

    @property
    def videos(self) -> tuple[Video, ...]:
        """The video parts, in order."""
        return tuple(p for p in self.content if isinstance(p, Video))


@dataclass(frozen=True, slots=True)
class Sample:
    """What an episode starts from.

    Attributes:
        id: stable name of the sample, unique within its environment.
        messages: the conversation so far; the last message is what the policy answers first.
        reference: the ground truth; plugins see it, the policy never does.
        meta: anything else that is worth storing (JSON-able values).
    """

    id: str
    messages: tuple[Message, ...]
    reference: Any = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def ask(cls, question: str | Part | Iterable[Part], reference: Any = None, *, system: str | None = None,
            id: str = "", **meta: Any) -> Sample:
        """Make a one-question sample.

        Args:
            question: the user message's content.
            reference: the right answer, for plugins and ``grade``.
            system: an optional system message.
            id: the sample's name; empty takes the question's text.
            **meta: stored in ``meta``.
        """
        content = as_content(question)
        head = (Message("system", as_content(system)),) if system else ()
        return cls(id or text_of(content), (*head, Message("user", content)), reference, meta)

    @property
    def query(self) -> str:
        """The text of the last user message."""
        return next((m.text for m in reversed(self.messages) if m.role == "user"), "")

    def __getstate__(self) -> tuple[Any, ...]:
        return (self.id, self.messages, self.reference, dict(self.meta))

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        for name, value in zip(("id", "messages", "reference", "meta"), state, strict=True):
            object.__setattr__(self, name, value)
        self.__post_init__()

    def __post_init__(self) -> None:
        object.__setattr__(self, "meta", MappingProxyType(dict(self.meta)))


def _part_to_openai(part: Part) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if isinstance(part, Image):
        return {"type": "image_url", "image_url": {"url": part.data_url()}}
    return {"type": "video_url", "video_url": {"url": part.data_url()}}


def to_openai(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Convert messages to OpenAI's chat format.

    A message of a single text part becomes a plain string; anything else a list of typed parts, images
    and videos as data URLs (``image_url``, ``video_url``).
    """
    out: list[dict[str, Any]] = []
    for m in messages:
        only_text = len(m.content) == 1 and isinstance(m.content[0], Text)
        out.append({"role": m.role, "content": m.text if only_text else [_part_to_openai(p) for p in m.content]})
    return out


def _part_from_openai(part: Mapping[str, Any], where: str) -> Part:
    try:
        match part.get("type"):
            case "text":
                return Text(part["text"])
            case "image_url":
                return Image(part["image_url"]["url"])
            case "image":
                return Image(part["image"])
            case "video_url":
                return Video.from_data_url(part["video_url"]["url"])
            case other:
                raise BadInput(f"a part's type is text, image_url, image or video_url, not {other!r}")
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{where}: not a part as OpenAI's chat format has it: {part!r:.80}") from error


def from_openai(messages: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """Convert OpenAI's chat format to messages; the inverse of :func:`to_openai`.

    Raises:
        BadInput: naming the message's index and what would be right.
    """
    out: list[Message] = []
    for i, m in enumerate(messages):
        where = f"message {i}"
        if "role" not in m or "content" not in m:
            raise BadInput(f"{where}: needs 'role' and 'content', has {', '.join(sorted(m)) or 'nothing'}")
        content = m["content"]
        if not isinstance(content, str | Sequence):
            raise BadInput(f"{where}: the content is a string or a list of parts, not {content!r:.80}")
        parts = (Text(content),) if isinstance(content, str) else tuple(
            _part_from_openai(p, f"{where}, part {j}") for j, p in enumerate(content)
        )
        out.append(Message(m["role"], parts))
    return tuple(out)
