"""The text encoder of a CLIP model, spared the padding.

open_clip pads every text to the whole context, mostly 77 tokens, while an answer has a few.  In CLIP's own architecture
attention looks backwards only, and a text's vector is that of its last token: what stands behind it changes nothing.

Comes in: a model and its tokenizer.  Goes out: a function from padded tokens to vectors.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from mmrl_plugins._arguments import imported

_PROBE = ("a photo", "a photo of a small red ball")
_SAME = {"float32": 1e-5, "bfloat16": 0.02, "float16": 0.02}
"""How far a unit vector's numbers may be from those with the padding, by the precision of the model."""


def text_encoder(model: Any, tokenize: Any, device: str, dtype: str) -> Callable[[Any], Any]:
    """The quickest way to embed texts that agrees with ``model.encode_text``.

    Args:
        model: open_clip's model.
        tokenize: its tokenizer.
        device: where the model is.
        dtype: a key of ``_SAME``.

    Returns:
        A function of tokens, shape (texts, context), that gives vectors, shape (texts, dimensions), of any length.
    """
    whole = functools.partial(model.encode_text, normalize=False)
    if type(model) is not imported("open_clip").CLIP or model.attn_mask is None:
        return whole
    padding = int(tokenize([""])[0, -1])
    short = functools.partial(_without_padding, model, padding)
    ids = tokenize(list(_PROBE)).to(device)
    with imported("torch").inference_mode():
        near = (_units(short(ids)) - _units(whole(ids))).abs().max()
    return short if float(near) <= _SAME[dtype] else whole


def _without_padding(model: Any, padding: int, ids: Any) -> Any:
    """The vectors of texts, computed on as many tokens as the longest has, and one more."""
    torch = imported("torch")
    used = (ids != padding).any(dim=0).nonzero()
    # One more than are used: some tokenizers pad with the token that ends a text.
    length = min(ids.shape[1], int(used[-1]) + 2 if len(used) else 1)
    cut = {"positional_embedding": model.positional_embedding[:length],
           "attn_mask": model.attn_mask[:length, :length]}  # fmt: skip
    found = torch.func.functional_call(model, cut, (None, ids[:, :length]))
    return found["text_features"] if isinstance(found, dict) else found[1]


def _units(vectors: Any) -> Any:
    return imported("torch").nn.functional.normalize(vectors.float(), dim=-1)
