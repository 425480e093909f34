"""Attention of new tokens, packed into one line, to the keys and values of their own rows.

Comes in: the queries of a line of tokens, the keys and values of every row of a cache, new ones included, and those of
prompts that several rows share.  Goes out: what each token attends to, in the line's order.  No token is padding, and
no row reads another's.

Linear layers then see each new token once, however ragged the rows are; attention runs row after row (rows alike in
size together), which suits a CPU.  A shared prompt is read once for all of its rows: attention over it and over what
is a row's own are joined by how much weight each has (the sums of their softmaxes).
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AttentionInterface

NAME = "mmrl_rows"
"""Of this attention among those of transformers, which builds no mask for it.  It must be given ``mmrl_places``."""
UNKNOWN = ("softcap", "s_aux", "sinks", "position_bias", "sliding_window")
"""What some models ask of their attention, and this one does not do."""
LOCK = threading.RLock()


@dataclass(frozen=True)
class Span:
    """Neighbours among the rows of keys that as many new tokens read, and what these see.

    Attributes:
        rows: which rows; ``tokens``: the places in the line of the tokens that read them, row after row.
        new: tokens that read each row; ``held``: the most that one holds then.
        unseen: 0 for each of the first ``held`` tokens of its row that a new token attends to, minus infinity for
            the others; None: it attends to all.  (A kernel would make as much of a mask of booleans, anew each time.)
    """

    rows: slice
    tokens: slice
    new: int
    held: int
    unseen: Float[Tensor, "rows 1 new held"] | Float[Tensor, "new held"] | None


@dataclass(frozen=True)
class Places:
    """Where the tokens of a line stand.

    Attributes:
        own: in the keys that attention is called with.
        shared: in those of shared prompts, of which every token sees all; empty if there are none, else every token
            reads one.
        prompts: keys and values of these, by layer.
    """

    own: Sequence[Span]
    shared: Sequence[Span] = ()
    prompts: Sequence[tuple[Tensor, Tensor]] = ()


def spans(new: Sequence[int], held: Sequence[int]) -> list[Span]:
    """Cut a cache's rows into spans.

    Args:
        new: tokens that each row reads; 0 for a row that reads nothing.
        held: tokens of each row once it has read them.
    """
    found: list[Span] = []
    row = token = 0
    for (many, _), group in groupby(zip(new, held, strict=True), lambda r: (r[0], r[1] if r[0] > 1 else 0)):
        sizes = [h for _, h in group]
        after = token + many * len(sizes)
        if many:
            rows, tokens = slice(row, row + len(sizes)), slice(token, after)
            found.append(Span(rows, tokens, many, max(sizes), _unseen(many, sizes)))
        row, token = row + len(sizes), after
    return found


def shared_spans(new: Sequence[int], roots: Sequence[int], held: Sequence[int]) -> list[Span]:
    """Where the rows' new tokens stand in the prompts that they share.

    Args:
        new: tokens that each row reads.
        roots: the prompt of each row.
        held: tokens of each prompt.
    """
    found: list[Span] = []
    token = 0
    for root, group in groupby(zip(roots, new, strict=True), lambda r: r[0]):
        many = sum(n for _, n in group)
        if many:
            found.append(Span(slice(root, root + 1), slice(token, token + many), many, held[root], None))
        token += many
    return found


def _unseen(new: int, sizes: Sequence[int]) -> Tensor | None:
    slots = torch.arange(max(sizes))
    if new > 1:
        hidden = slots > torch.arange(sizes[0] - new, sizes[0])[:, None]
    elif min(sizes) < max(sizes):
        hidden = (slots >= torch.tensor(list(sizes))[:, None])[:, None, None]
    else:
        return None
    return torch.zeros(hidden.shape).masked_fill_(hidden, -torch.inf)


@contextmanager
def attending(decoder: Any, implementation: str) -> Generator[None]:
    """The decoder attends in another way, one of transformers' names; afterwards as before.

    The model's config says which, so that threads which come here wait for each other; one that calls the model in
    its own way must not do so meanwhile.
    """
    config = decoder.config
    with LOCK:
        before = config._attn_implementation
        config._attn_implementation = implementation
        try:
            yield
        finally:
            config._attn_implementation = before


def attend(module: torch.nn.Module, query: Float[Tensor, "1 heads line dim"],
           key: Float[Tensor, "rows few slots dim"], value: Float[Tensor, "rows few slots dim"],
           attention_mask: Tensor | None, scaling: float | None = None, mmrl_places: Places | None = None,
           **kwargs: Any) -> tuple[Float[Tensor, "1 line heads dim"], None]:  # fmt: skip
    """Attention as a model of transformers calls it.

    Raises:
        ValueError: if the model asks for what this attention does not do, or did not hand on where its tokens stand.
    """
    asked = [name for name in UNKNOWN if kwargs.get(name) is not None]
    if asked or mmrl_places is None or attention_mask is not None:
        raise ValueError(f"attention by rows has no {', '.join(asked) or 'place for the tokens'}")
    query = query.to(key.dtype)  # autocast leaves what is turned by positions in float32, and the cache does not
    if not mmrl_places.shared:
        return _over(query, key, value, scaling, mmrl_places.own)[None], None
    layer: Any = module.layer_idx
    keys, values = mmrl_places.prompts[layer]
    kind = torch.promote_types(query.dtype, torch.float32)
    mine, ours = query.new_empty((2, query.shape[2], query.shape[1], 1), dtype=kind)
    own = _over(query, key, value, scaling, mmrl_places.own, mine)
    shared = _over(query, keys, values, scaling, mmrl_places.shared, ours)
    return torch.lerp(shared, own, torch.sigmoid(mine - ours).to(own.dtype))[None], None


def _over(query: Float[Tensor, "1 heads line dim"], key: Float[Tensor, "rows few slots dim"],
          value: Float[Tensor, "rows few slots dim"], scaling: float | None, spans: Sequence[Span],
          sums: Float[Tensor, "line heads 1"] | None = None) -> Float[Tensor, "line heads dim"]:  # fmt: skip
    """What the tokens of spans attend to; the logarithms of their softmaxes' sums go to ``sums``.

    The kernel is PyTorch's on a CPU; the function around it does not give the sums.
    """
    kernel: Any = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    heads, few = query.shape[1], key.shape[1]
    times = heads // few
    out = query.new_empty((query.shape[2], heads, value.shape[3]))
    for span in spans:
        rows = span.rows.stop - span.rows.start
        asking = query[0, :, span.tokens].unflatten(1, (rows, span.new)).unflatten(0, (few, times))
        unseen = None if span.unseen is None else span.unseen.to(query)
        if unseen is not None and span.new > 1 and times > 1:
            unseen = unseen.repeat(times, 1)
        found, log = kernel(asking.permute(2, 0, 1, 3, 4).flatten(2, 3), key[span.rows, :, : span.held],
                            value[span.rows, :, : span.held], 0.0, False, attn_mask=unseen, scale=scaling)  # fmt: skip
        out[span.tokens] = found.unflatten(2, (times, span.new)).permute(0, 3, 1, 2, 4).flatten(2, 3).flatten(0, 1)
        if sums is not None:
            sums[span.tokens, :, 0] = log.unflatten(2, (times, span.new)).permute(0, 3, 1, 2).flatten(2).flatten(0, 1)
    return out


AttentionInterface.register(NAME, attend)
