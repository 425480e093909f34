"""Packed rows on the way into a model.

Comes in: padded ids, what is asked of them, the images of each row.  Goes out: rows to pack, and the decoder's
arguments for packed ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from jaxtyping import Int
from torch import Tensor

from mmrl.image import Image
from mmrl_agents.decoder import added
from mmrl_agents.feed import Feed
from mmrl_agents.image_tokens import ImageTokens
from mmrl_agents.layout import Layout
from mmrl_agents.packs import Row


def rows_to_read(ids: Sequence[Sequence[int]], masks: Sequence[Sequence[bool]], images: Sequence[Sequence[Image]],
                 feed: Feed) -> list[Row]:
    """What of each row the model must read.

    Args:
        ids: of each row.
        masks: which of ``ids[1:]`` are asked for.
        images: of each row; empty if no row has any.
        feed: how the ids become the model's input.

    Raises:
        ValueError: if a row has another number of placeholders than its images have features.
    """
    out: list[Row] = []
    for n, (row, mask, shown) in enumerate(zip(ids, masks, images or [()] * len(ids), strict=True)):
        length = max((i for i, asked in enumerate(mask, 1) if asked), default=1)
        symbols, starts = (tuple(row), ()) if feed.vision is None else _named(row, shown, feed.vision.tokens, n)
        inside = sum(start < length for start in starts)
        out.append(Row(tuple(row[:length]), tuple(shown[:inside]), symbols[:length], starts[:inside]))
    return out


def _named(ids: Sequence[int], images: Sequence[Image], tokens: ImageTokens, row: int) -> tuple[
        tuple[int, ...], tuple[int, ...]]:
    """The ids with a negative number of its own for every image's tokens; and where each image begins."""
    places = [place for place, i in enumerate(ids) if i == tokens.id]
    sizes = [tokens.of(image).features for image in images]
    if len(places) != sum(sizes):
        raise ValueError(
            f"row {row} has {len(places)} image tokens, but its {len(images)} images have {sum(sizes)} features"
        )
    names = [-1 - int(image.sha256, 16) for image, size in zip(images, sizes, strict=True) for _ in range(size)]
    symbols = list(ids)
    for place, name in zip(places, names, strict=True):
        symbols[place] = name
    return tuple(symbols), tuple(places[before] for before in accumulate(sizes[:-1], initial=0)) if sizes else ()


def decoder_inputs(layout: Layout, feed: Feed, dtype: torch.dtype) -> dict[str, Tensor]:
    """The decoder's arguments for packed rows.

    Args:
        layout: the packed rows.
        feed: how ids become the model's input.
        dtype: the model's, in which what a slot must not see has the lowest number.
    """
    if layout.sees is None:
        return feed.whole(layout.ids, layout.images)
    return {**feed.tokens(layout.ids, layout.images), "position_ids": _positions(layout, feed),
            "attention_mask": added(layout.sees, dtype)[:, None]}  # fmt: skip


def _positions(layout: Layout, feed: Feed) -> Int[Tensor, "... packs slots"]:
    """Each slot's position in its own row; three of them where images stand on a grid."""
    if feed.vision is None or not feed.vision.grid:
        return layout.depth
    places = layout.depth.expand(3, -1, -1).clone()
    for n, row in enumerate(layout.rows):
        own = feed.vision.positions(row.ids, row.images).to(places.device)
        places[:, layout.pack[n], layout.slot[n, : len(row.ids)]] = own
    return places
