"""Images on the side of the tokens: what a vision-language model's processor makes of one.

Comes in: ids with one placeholder an image, and the images.  Goes out: ids in which each placeholder has become as many
as the image has features, and the tensors that the model's vision tower takes.  An image is processed by itself, so
that it is the same tokens and the same tensors in every prompt and in every batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from mmrl.errors import BadInput
from mmrl.image import Image
from mmrl_agents.kept import Kept

KEPT_BYTES = 2**30
"""Processed images that are kept."""
OF_TOKENS = frozenset({"input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids", "labels"})
"""What a processor makes of the text; the rest is of the images."""
PROBE = Image(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
"""A picture to try things out with."""


@dataclass(frozen=True)
class Processed:
    """One image as its model takes it.

    Attributes:
        ids: what its placeholder becomes.
        features: how many of them are placeholders of features.
        tensors: what the processor made of its pixels, by name.
    """

    ids: tuple[int, ...]
    features: int
    tensors: dict[str, Tensor]

    @property
    def nbytes(self) -> int:
        """Memory of the tensors, in bytes."""
        return sum(t.nbytes for t in self.tensors.values())


class ImageTokens:
    """The image side of a Hugging Face processor.

    Args:
        processor: of an image-text-to-text model.

    Attributes:
        token: the placeholder, as text.
        id: the id that stands for a feature of an image.

    Raises:
        BadInput: if the processor has no placeholder for images.
    """

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self.tokenizer: Any = processor.tokenizer
        try:
            self.token: str = processor.image_token
        except AttributeError:
            raise BadInput(f"{type(processor).__name__} writes no placeholder for an image into its text; mmrl needs a "
                           "model of the kind of LLaVA, Qwen2.5-VL or Idefics3") from None  # fmt: skip
        self.id: int = self.tokenizer.convert_tokens_to_ids(self.token)
        self._known = Kept[Processed](lambda p: p.nbytes, KEPT_BYTES)

    def of(self, image: Image) -> Processed:
        """Process an image, or remember what became of it."""
        return self._known.get(image.sha256) or self._known.put(image.sha256, self._process(image))

    def _process(self, image: Image) -> Processed:
        made = self.encoded(self.token, image)
        ids = tuple(made["input_ids"][0].tolist())
        return Processed(ids, ids.count(self.id), {n: t for n, t in made.items() if n not in OF_TOKENS})

    def encoded(self, text: str, image: Image) -> Any:
        """What the processor itself makes of a text with one image, as tensors."""
        return self.processor(text=[text], images=[[image.to_pil()]], add_special_tokens=False, return_tensors="pt")

    def expand(self, ids: Sequence[int], images: Sequence[Image]) -> tuple[int, ...]:
        """Put what each image becomes in the place of its placeholder.

        Args:
            ids: of a rendered text, with one placeholder an image.
            images: in the order of their placeholders.

        Raises:
            BadInput: if the chat template wrote another number of placeholders.
        """
        held = list(ids).count(self.id)
        if held != len(images):
            raise BadInput(f"the model's chat template wrote {held} placeholders {self.token} for {len(images)} "
                           "images; use a template that writes one an image")  # fmt: skip
        left = iter(images)
        out: list[int] = []
        for i in ids:
            out.extend(self.of(next(left)).ids if i == self.id else (i,))
        return tuple(out)

    def collapse(self, ids: Sequence[int], images: Sequence[Image]) -> tuple[int, ...]:
        """Undo :meth:`expand`: one placeholder an image.

        Raises:
            ValueError: if what the images become does not stand among the ids in their order.
        """
        out, at, left = list[int](), 0, list(images)
        while at < len(ids):
            whole = self.of(left[0]).ids if left else ()
            if whole and tuple(ids[at : at + len(whole)]) == whole:
                out.append(self.id)
                at += len(whole)
                left.pop(0)
            else:
                out.append(ids[at])
                at += 1
        if left:
            raise ValueError(f"{len(left)} of {len(images)} images do not stand among the ids")
        return tuple(out)

    def plain(self, text: str) -> str:
        """``text`` with a blank in everything that the tokenizer would take for a part of an image."""
        for token in self._reserved:
            text = text.replace(token, f"{token[:1]} {token[1:]}")
        return text

    @cached_property
    def _reserved(self) -> tuple[str, ...]:
        return tuple(self.tokenizer.convert_ids_to_tokens(list(self.banned)))

    @cached_property
    def banned(self) -> tuple[int, ...]:
        """Ids that must never be sampled: placeholders, and the special ids that frame an image."""
        vocabulary: dict[str, int] = self.tokenizer.get_vocab()
        # Processors of models without videos have no such token, and some name one that the tokenizer lacks.
        names = (self.token, getattr(self.processor, "video_token", None))
        special = {i for i, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        framed, bare = (set(self._ids(self.rendered(parts))) for parts in ([{"type": "image"}], []))
        found = (framed | set(self.of(PROBE).ids)) - bare
        return tuple(sorted((found & special) | {vocabulary[n] for n in names if n in vocabulary}))

    def probe(self) -> tuple[int, ...]:
        """The ids of a message that shows :data:`PROBE`."""
        return self.expand(self._ids(self.rendered([{"type": "image"}])), [PROBE])

    def rendered(self, parts: Sequence[dict[str, str]]) -> str:
        """A user's message of these parts and a word, as the chat template writes it."""
        chat = [{"role": "user", "content": [*parts, {"type": "text", "text": "x"}]}]
        return self.processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]


def image_tokens(processing: Any) -> ImageTokens | None:
    """The image side of a processor, or None if ``processing`` is a tokenizer alone.

    Raises:
        BadInput: if it is a processor without a placeholder for images.
    """
    from transformers import ProcessorMixin

    return ImageTokens(processing) if isinstance(processing, ProcessorMixin) else None


def tokenizer_of(processing: Any) -> Any:
    """The tokenizer inside a processor, or ``processing`` itself if it is one."""
    from transformers import ProcessorMixin

    return processing.tokenizer if isinstance(processing, ProcessorMixin) else processing
