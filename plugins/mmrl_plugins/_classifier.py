"""A sequence classifier of transformers, shared by the plugins that need one.

Comes in: a model's name or folder, texts or pairs of texts.  Goes out: the probability of every label.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmrl.errors import BadInput
from mmrl_plugins._arguments import imported
from mmrl_plugins._lazy import Once, first_line, torch_device, utf8
from mmrl_plugins._windows import by_offsets

BATCH = 32
"""Texts in one pass through the model."""
MAX_TOKENS = 512
_SPARE = 8  # tokens: special ones, and those that a cut in the middle of a word may add


class Classifier:
    """A transformers text-classification pipeline.

    Args:
        model: a hub name or a folder.
        device: a device's name, or ``auto``.

    Attributes:
        labels: the names of the labels, in the model's order.
        multi_label: whether the labels are judged independently and their probabilities do not add up to 1.

    Raises:
        BadInput: if the model cannot be loaded, is no sequence classifier, or has no fast tokenizer.
    """

    def __init__(self, model: str, device: str) -> None:
        transformers = imported("transformers")
        try:
            config = transformers.AutoConfig.from_pretrained(model)
            _check_architecture(model, config.architectures or ())
            self._pipeline: Any = transformers.pipeline(
                "text-classification", model=model, tokenizer=model, device=torch_device(device), top_k=None)
        except (OSError, ImportError, KeyError) as error:
            raise BadInput(f"the model {model!r} cannot be loaded: {first_line(error)}") from error
        self._tokenizer = self._pipeline.tokenizer
        if not self._tokenizer.is_fast:
            raise BadInput(f"the model {model!r} has no fast tokenizer, which long texts need")
        self.labels = tuple(str(config.id2label[i]) for i in sorted(config.id2label))
        self.multi_label = config.problem_type == "multi_label_classification" or len(self.labels) == 1
        # Models of RoBERTa's family count positions from 2; the tokenizer's limit may be a placeholder like 1e30.
        positions = getattr(config, "max_position_embeddings", MAX_TOKENS + 2) - 2
        self.max_tokens = int(min(self._tokenizer.model_max_length, positions, MAX_TOKENS))
        self._lock = threading.Lock()  # fast tokenizers are not thread-safe

    def windows(self, text: str) -> list[str]:
        """Cut ``text`` into pieces that the model takes whole; neighbours share a quarter."""
        size = max(1, self.max_tokens - _SPARE)
        with self._lock:
            encoded = self._tokenizer(utf8(text), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return by_offsets(utf8(text), encoded["offset_mapping"], size, size // 4)

    def probabilities(self, inputs: Sequence[str | tuple[str, str]]) -> list[dict[str, float]]:
        """Classify texts, or pairs of texts; what exceeds the model's length is cut off.

        Returns:
            For each input, label -> probability, to four decimals (further ones change with the batch).
        """
        if not inputs:
            return []
        given = [utf8(i) if isinstance(i, str) else {"text": utf8(i[0]), "text_pair": utf8(i[1])} for i in inputs]
        with self._lock:
            found = self._pipeline(given, batch_size=BATCH, truncation=True, max_length=self.max_tokens)
        return [{str(row["label"]): round(float(row["score"]), 4) for row in rows} for rows in found]


_LOADED: Once[Classifier] = Once()


def classifier(model: str, device: str) -> Classifier:
    """The classifier of that name on that device; loaded at the first call, then shared by the process."""
    return _LOADED.get((model, device), lambda: Classifier(model, device))


def local_labels(model: str) -> tuple[str, ...] | None:
    """The labels of a model in a folder, read without loading anything; None if ``model`` is no folder.

    Raises:
        BadInput: if the folder holds no sequence classifier.
    """
    if not Path(model).is_dir():
        return None
    path = Path(model, "config.json")
    try:
        config: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: no model's configuration: {first_line(error)}") from error
    _check_architecture(model, config.get("architectures") or ())
    labels: Mapping[str, str] = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
    return tuple(labels[key] for key in sorted(labels, key=int))


def _check_architecture(model: str, architectures: Sequence[str]) -> None:
    # transformers would give any other model a fresh head with random weights, and only warn.
    if not any(name.endswith("ForSequenceClassification") for name in architectures):
        raise BadInput(f"the model {model!r} is no text classifier: its architecture is "
                       f"{', '.join(architectures) or 'not given'}, not ...ForSequenceClassification")
