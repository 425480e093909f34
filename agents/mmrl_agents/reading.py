"""How rows of a cache read new tokens: padded beside each other, or packed into one line.

Comes in: a cache, and the new ids of every row.  Goes out: logits after the last token of every row that read some; the
cache holds the tokens then.  Packed, nothing is computed for padding; not every model can be fed that way, or with a
mask of its own for every token, so that a way is compared with rows read alone before its first use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers.cache_utils import Cache

from mmrl.errors import one_line
from mmrl.image import Image
from mmrl_agents.decoder import added, base_of, with_cache
from mmrl_agents.feed import Feed
from mmrl_agents.image_tokens import PROBE
from mmrl_agents.kv_cache import RaggedCache, Target
from mmrl_agents.rows_attention import LOCK, NAME, Places, attending, shared_spans, spans

Read = Callable[[RaggedCache, Any, Sequence[Sequence[int]], Feed, Sequence[Sequence[Image]]], Tensor]
"""``(cache, model, new ids of each row, feed, images among each row's)`` to logits, shape (rows, vocab); those of a row
that reads nothing mean nothing.  No images at all may be an empty sequence."""
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 0.1}
"""How far apart two ways to the same number may lie, for numbers about 1."""


def padded(cache: RaggedCache, model: Any, new: Sequence[Sequence[int]], feed: Feed,
           images: Sequence[Sequence[Image]]) -> Float[Tensor, "rows vocab"]:  # fmt: skip
    """Every row beside the others, the shorter ones padded on the left; a mask shows each its own tokens."""
    base, shown, device = base_of(model), images or [()] * len(new), model.device
    cache.gather(last=True)
    width = max(len(n) for n in new)
    ids = torch.tensor([[0] * (width - len(n)) + list(n) for n in new], device=device)
    positions, places = feed.positions(new, shown, cache.places, width)
    before = [len(held) for held in cache.ids]
    slots = torch.tensor([[at + len(n) - width + i for i in range(width)] for at, n in zip(before, new, strict=True)])
    real = slots >= torch.tensor(before)[:, None]
    end = max(at + len(n) for at, n in zip(before, new, strict=True))
    rows = torch.arange(len(new))[:, None].expand_as(slots)
    _aim(cache, Target(real.flatten().nonzero()[:, 0].to(device), rows[real].to(device), slots[real].to(device),
                       len(new), end))  # fmt: skip
    # What pads sees the first slot, so that none sees nothing.
    sees = torch.arange(end) <= torch.where(real, slots, 0)[..., None]
    decoder = base.get_decoder()
    eager = decoder.config._attn_implementation == "eager"
    mask = added(sees.to(device), base.dtype) if eager else sees.to(device)
    with attending(decoder, "eager" if eager else "sdpa"):  # others know no mask of their own for every token
        logits = last_logits(model, feed.tokens(ids, images), Cache(layers=[*cache.layers]), use_cache=True,
                             position_ids=positions.to(device), attention_mask=mask[:, None])  # fmt: skip
    cache.append(new, shown, places)
    return logits


def packed(cache: RaggedCache, model: Any, new: Sequence[Sequence[int]], feed: Feed,
           images: Sequence[Sequence[Image]]) -> Float[Tensor, "rows vocab"]:  # fmt: skip
    """The new tokens of all rows in one line, each attending to its own row."""
    shown, device = images or [()] * len(new), model.device
    ids = torch.tensor([[i for n in new for i in n]], device=device)
    found = {row: feed.positions([n], [shown[row]], [cache.places[row]], len(n)) for row, n in enumerate(new) if n}
    sizes = [len(n) for n in new]
    before = [len(held) - shared for held, shared in zip(cache.ids, cache.begins, strict=True)]
    held = [at + n for at, n in zip(before, sizes, strict=True)]
    slots = torch.tensor([at + i for at, n in zip(before, sizes, strict=True) for i in range(n)], device=device)
    rows = torch.arange(len(new)).repeat_interleave(torch.tensor(sizes)).to(device)
    _aim(cache, Target(None, rows, slots, len(new), max(held)))
    reading = torch.tensor(list(found), device=device)
    last = (torch.tensor(sizes).cumsum(0) - 1).to(device)[reading]
    line = [[i for row in shown for i in row]] if images else []
    with attending(base_of(model).get_decoder(), NAME):
        logits = last_logits(model, feed.tokens(ids, line), Cache(layers=[*cache.layers]), last, use_cache=True,
                             position_ids=torch.cat([p for p, _ in found.values()], dim=-1).to(device),
                             mmrl_places=_places(cache, sizes, held))  # fmt: skip
    cache.append(new, shown, [found[row][1][0] if row in found else at for row, at in enumerate(cache.places)])
    return logits.new_zeros((len(new), logits.shape[1])).index_copy_(0, reading, logits)


def _places(cache: RaggedCache, sizes: Sequence[int], held: Sequence[int]) -> Places:
    own = spans(sizes, held)
    if cache.prompts is None:
        return Places(own)
    known = [len(ids) for ids in cache.prompts.ids]
    layers = [(layer.keys, layer.values) for layer in cache.prompts.layers]
    return Places(own, shared_spans(sizes, cache.roots, known),
                  [(k, v) for k, v in layers if k is not None and v is not None])  # fmt: skip


def last_logits(model: Any, tokens: dict[str, Tensor], cache: Any, at: Tensor | None = None,
                **kwargs: Any) -> Float[Tensor, "rows vocab"]:  # fmt: skip
    """Logits after the last token of each row, or after those ``at`` these places of the only row.

    Args:
        model: the model.
        tokens: its input.
        cache: holds the tokens before and takes in the new ones.
        at: places in a line.
        kwargs: more of the model's arguments.
    """
    base = base_of(model)
    if "input_ids" in tokens:
        keep = 1 if at is None else at
        logits = model(**tokens, **kwargs, **with_cache(base, cache), logits_to_keep=keep).logits
        return logits[:, -1] if at is None else logits[0]
    # Embeddings go to the decoder itself: around it, models look for images of their own.
    decoder = base.get_decoder()
    hidden = decoder(**tokens, **kwargs, **with_cache(decoder, cache)).last_hidden_state
    return base.get_output_embeddings()(hidden[:, -1] if at is None else hidden[0, at])


def _aim(cache: RaggedCache, target: Target) -> None:
    for layer in cache.layers:
        layer.target = target


WAYS: dict[str, Read] = {"packed": packed, "padded": padded}


@torch.no_grad()
def way_to_read(model: Any, feed: Feed, dtype: torch.dtype) -> tuple[str | None, str]:
    """The first of :data:`WAYS` that gives the logits of rows read alone, and why those before it do not.

    Args:
        model: in evaluation mode.
        feed: how ids become its input.
        dtype: of its products.
    """
    text = base_of(model).config.get_text_config()
    some = [i for i in range(text.vocab_size) if i not in feed.banned][:16]
    if len(some) < 16:
        return "padded", "its vocabulary is too small to try"
    reasons: list[str] = []
    for name, way in WAYS.items():
        if name == "packed" and model.device.type != "cpu":
            reasons.append("packed suits a CPU alone")
            continue
        try:
            with LOCK:  # rows alone are read in the model's own way, which no other thread may change meanwhile
                why = _differs(way, model, feed, dtype, some)
        except Exception as error:  # whatever a model's own code raises on being fed in this way
            why = one_line(error)
        if not why:
            return name, "; ".join(reasons)
        reasons.append(f"{name}: {why}")
    return None, "; ".join(reasons)


def _differs(way: Read, model: Any, feed: Feed, dtype: torch.dtype, some: Sequence[int]) -> str:
    """How the logits of rows that grow differ from those of each row alone; empty if they do not.

    They may differ by a part of the largest of them: those of a young model are small.
    """
    cache = RaggedCache.empty([None] * 3, base_of(model).config.get_text_config().num_hidden_layers)
    # A model that sees is shown a picture: between words, or it would not be told from one that stands first.
    picture = () if feed.vision is None else feed.vision.tokens.of(PROBE).ids
    begun = [*some[:3], *picture, *some[3:7]]
    for turn, new in enumerate(([begun, some[7:9], some[8:12]], [some[12:13], [], some[13:16]], [[some[3]]] * 3)):
        if turn == 1:  # as the rows of a group read one prompt
            cache = cache.fan_out([0, 0, 2], [None] * 3)
        found = way(cache, model, new, feed, [(PROBE,), (), ()] if picture and turn == 0 else ())
        for row in (i for i, n in enumerate(new) if n):
            alone = _alone(model, feed, cache, row)
            apart, size = float((found[row] - alone).abs().max()), float(alone.abs().max())
            if not apart <= TOLERANCE.get(dtype, 0.1) * size:
                return f"a logit differs by {apart:.0e}"
    return ""


def _alone(model: Any, feed: Feed, cache: RaggedCache, row: int) -> Float[Tensor, " vocab"]:
    """The logits after all that a row of a cache has read, computed anew."""
    ids, images = torch.tensor([cache.ids[row]], device=model.device), cache.images[row]
    inputs = feed.whole(ids, [images] if images else ())
    tokens = {name: inputs.pop(name) for name in ("input_ids", "inputs_embeds") if name in inputs}
    return last_logits(model, tokens, None, use_cache=False, **inputs)[0]
