"""A CLIP model of open_clip: images and texts as unit vectors whose inner product says how well they fit.

Comes in: where the model comes from, images, texts.  Goes out: one unit vector for each, and the model's scale.  The
vectors of images and texts seen lately are kept, images by the hash of their pixels.
"""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mmrl.errors import BadInput
from mmrl.sample import Image
from mmrl_plugins._arguments import imported
from mmrl_plugins._clip_padding import text_encoder
from mmrl_plugins._clip_source import LOCAL, PRECISIONS, ClipSource
from mmrl_plugins._lazy import Once, first_line, torch_device, utf8
from mmrl_plugins._remembered import Remembered, Vectors

KEPT = 20_000
"""Vectors kept in memory for images, and as many for texts; 40 MB each for a model of 512 dimensions."""
BATCH = 256
"""Images or texts in one pass through the model: what more there is waits, so that memory stays bounded."""
MAX_CHARACTERS = 20_000
"""Characters of a text that the tokenizer sees: far more than any context holds, and little enough to be quick."""


class ClipModel:
    """A CLIP model with its own transform and tokenizer, and a memory.

    Args:
        source: which model.
        kept: how many vectors of images, and of texts, are remembered.

    Attributes:
        model: open_clip's model, in evaluation mode.
        scale: what cosines are multiplied by before a softmax over texts: the exponential of the model's logit scale.

    Raises:
        BadInput: if the model cannot be loaded.
    """

    def __init__(self, source: ClipSource, kept: int = KEPT) -> None:
        self.device = torch_device(source.device)
        self.model, self._transform, self._tokenize = _load(source, self.device)
        precision = imported("open_clip").get_input_dtype(PRECISIONS[source.dtype])
        self._dtype = precision or imported("torch").float32
        self.scale = float(self.model.logit_scale.detach().exp())
        self.images, self.texts = Remembered(kept), Remembered(kept)
        self._encode_text = text_encoder(self.model, self._tokenize, self.device, source.dtype)
        self._encode_image = functools.partial(self.model.encode_image, normalize=False)
        self._lock = threading.Lock()  # tokenizers, and text_encoder's way, are not thread-safe

    def embed_images(self, images: Mapping[str, Image]) -> dict[str, Vectors]:
        """The unit vectors of ``images``, by their hash; those that are not remembered pass the model together."""
        return self.images.look_up(images, self._embed_images)

    def embed_texts(self, texts: Sequence[str]) -> dict[str, Vectors]:
        """The unit vectors of ``texts``; those that are not remembered pass the model together."""
        keys = {text: hashlib.sha256(utf8(text).encode()).hexdigest() for text in texts}
        found = self.texts.look_up({key: text for text, key in keys.items()}, self._embed_texts)
        return {text: found[key] for text, key in keys.items()}

    def forget(self) -> None:
        """Let go of all vectors."""
        self.images.forget()
        self.texts.forget()

    def _embed_images(self, images: Sequence[Image]) -> Vectors:
        torch = imported("torch")
        parts: list[Vectors] = []
        for i in range(0, len(images), BATCH):
            pixels = torch.stack([self._transform(image.to_pil()) for image in images[i : i + BATCH]])
            parts.append(_units(self._encode_image, pixels.to(self.device, self._dtype)))
        return np.concatenate(parts)

    def _embed_texts(self, texts: Sequence[str]) -> Vectors:
        parts: list[Vectors] = []
        for i in range(0, len(texts), BATCH):
            with self._lock:
                ids = self._tokenize([utf8(text.strip()[:MAX_CHARACTERS]) for text in texts[i : i + BATCH]])
                parts.append(_units(self._encode_text, ids.to(self.device)))
        return np.concatenate(parts)


def _units(encode: Callable[[Any], Any], inputs: Any) -> Vectors:
    """Unit vectors, normalised in full precision whatever the model's."""
    torch = imported("torch")
    with torch.inference_mode():
        found = torch.nn.functional.normalize(encode(inputs).float(), dim=-1)
        return np.asarray(found.cpu().numpy(), np.float32)


def _load(source: ClipSource, device: str) -> tuple[Any, Any, Any]:
    """The model, its transform for evaluation, and its tokenizer."""
    open_clip, torch = imported("open_clip"), imported("torch")
    try:
        with torch.random.fork_rng(devices=[]):  # weights are drawn before they are read
            model, transform = open_clip.create_model_from_pretrained(
                source.model, source.pretrained, precision=PRECISIONS[source.dtype], device=device)
        tokenizer = open_clip.get_tokenizer(source.model)
    except Exception as error:  # open_clip, torch, safetensors and the hub's client each raise kinds of their own
        raise BadInput(f"the CLIP model {source} cannot be loaded: {first_line(error)}{_advice(source)}") from error
    return model.eval(), transform, tokenizer


def _advice(source: ClipSource) -> str:
    if not source.remote:
        return ""
    return f"; without the hub, give a folder as model: {LOCAL}<folder>, or a checkpoint's path as pretrained"


_LOADED: Once[ClipModel] = Once()


def clip_model(source: ClipSource) -> ClipModel:
    """The model of ``source``; loaded at the first call, then shared by the process."""
    return _LOADED.get(source, lambda: ClipModel(source))
