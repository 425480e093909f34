"""``mmrl/tiny-clip`` in training: its shape, its tokenizer and one step of learning.

Comes in: examples.  Goes out: the files that open_clip reads, and a model that has learned from the examples.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from clip_pairs import Example, matching_text, wrong_texts

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: waiting threads leave the cores to others

WARM_UP, LEARNING_RATE, WEIGHT_DECAY = 60, 2e-3, 0.02
SCALE = 30.0
"""The logit scale at first: cosines of one question's answers lie close together."""
ANSWERS_WEIGHT = 3.0
LENGTHS = (12, 14, 18, 28, 48)
"""Texts are embedded in groups of up to so many tokens; the last is the context."""
MODEL: dict[str, Any] = {
    "embed_dim": 256,
    "vision_cfg": {"image_size": 56, "patch_size": 8, "width": 128, "layers": 3, "head_width": 32},
    "text_cfg": {
        "context_length": LENGTHS[-1], "width": 96, "heads": 3, "layers": 2, "hf_tokenizer_name": "mmrl/tiny-clip",
        "pool_type": "eos",
    },
}  # fmt: skip
PREPROCESS = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "longest"}


def make_tokenizer(texts: Sequence[str]) -> Any:
    """A byte-level BPE of the texts' own words, in lower case; digits stand alone, and no text is refused."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=True)]
    )
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=1024, special_tokens=["<|pad|>", "<|end|>"], initial_alphabet=alphabet, show_progress=False))
    inner.post_processor = processors.TemplateProcessing(
        single="$A <|end|>", special_tokens=[("<|end|>", inner.token_to_id("<|end|>"))])  # fmt: skip
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<|pad|>", eos_token="<|end|>",
                                   model_max_length=LENGTHS[-1])  # fmt: skip


def write_config(folder: Path, tokenizer: Any) -> None:
    """Write the files that open_clip reads, but for the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    text = {**MODEL["text_cfg"], "vocab_size": len(tokenizer), "eos_id": tokenizer.eos_token_id,
            "pad_id": tokenizer.pad_token_id}  # fmt: skip
    config = {"model_cfg": {**MODEL, "text_cfg": text}, "preprocess_cfg": PREPROCESS}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def save(model: Any, folder: Path) -> None:
    """Write the weights."""
    from safetensors.torch import save

    weights = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    (folder / "open_clip_model.safetensors").write_bytes(save(weights, metadata={"format": "pt"}))


def embed_texts(model: Any, ids: Any, end: int) -> Any:
    """What ``encode_text`` gives, without computing what stands after a text's end: the attention is causal.

    Args:
        model: open_clip's model.
        ids: padded tokens, shape (texts, context).
        end: the token that ends a text.

    Returns:
        Unit vectors, shape (texts, dimensions).
    """
    import torch

    lengths = (ids == end).int().argmax(dim=-1) + 1
    parts: list[Any] = []
    order: list[Any] = []
    for shorter, length in zip((0, *LENGTHS), LENGTHS, strict=False):
        rows = ((lengths > shorter) & (lengths <= length)).nonzero()[:, 0]
        if not len(rows):
            continue
        x = model.token_embedding(ids[rows, :length]) + model.positional_embedding[:length]
        x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
        parts.append(x[torch.arange(len(rows)), lengths[rows] - 1] @ model.text_projection)
        order.append(rows)
    return torch.nn.functional.normalize(torch.cat(parts)[torch.cat(order).argsort()], dim=-1)


class Student:
    """A freshly drawn model, with its transform, tokenizer and optimiser.

    Args:
        folder: with the configuration and the tokenizer.
        steps: of the whole training.
        pool: answers to other questions.

    Attributes:
        model: open_clip's model.
    """

    def __init__(self, folder: Path, steps: int, pool: Sequence[str]) -> None:
        import open_clip
        import torch

        name = f"local-dir:{folder}"
        made: Any = open_clip.create_model_and_transforms(name, load_weights=False)
        self.model, _, self._transform = made
        self._tokenize: Any = open_clip.get_tokenizer(name)
        self.model.logit_scale.data.fill_(math.log(SCALE))
        self._optimiser = torch.optim.AdamW(self.model.parameters(), lr=0.0, betas=(0.9, 0.98),
                                            weight_decay=WEIGHT_DECAY)  # fmt: skip
        self._clip_loss = open_clip.ClipLoss(cache_labels=True)
        self._steps, self._pool = steps, pool

    def learn(self, step: int, batch: Sequence[Example], rng: np.random.Generator) -> tuple[float, float]:
        """One step, counted from 0; the losses of captions and of answers."""
        import torch

        matching = [matching_text(rng, e) for e in batch]
        choices = [[e.truth, *wrong_texts(rng, e, self._pool)] for e in batch]
        place = {text: i for i, text in enumerate(dict.fromkeys([*matching, *(c for cs in choices for c in cs)]))}
        images = torch.stack([self._transform(e.image.to_pil()) for e in batch])
        seen = self.model.encode_image(images, normalize=True)
        said = embed_texts(self.model, self._tokenize(list(place)), self._tokenize.tokenizer.eos_token_id)
        scale = self.model.logit_scale.exp()
        captions = self._clip_loss(seen, said[[place[text] for text in matching]], scale)
        answers = _answers_loss(scale * seen @ said.T, [[place[c] for c in cs] for cs in choices])
        self._update(captions + ANSWERS_WEIGHT * answers, step)
        return float(captions.detach()), float(answers.detach())

    def _update(self, loss: Any, step: int) -> None:
        import torch

        rate = LEARNING_RATE * min(1.0, (step + 1) / WARM_UP) * (1.0 + math.cos(math.pi * step / self._steps)) / 2.0
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimiser.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0.0, math.log(100.0))  # as in CLIP


def _answers_loss(logits: Any, choices: Sequence[Sequence[int]]) -> Any:
    """Minus the log-probability of each picture's first choice among its choices; logits of shape (pictures, texts)."""
    import torch

    rows = [logits[i, list(those)].log_softmax(dim=0)[0] for i, those in enumerate(choices)]
    return -torch.stack(rows).mean()
