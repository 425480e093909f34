"""A key-value cache for ragged rows that outlives a turn.

Episodes of different lengths share one batch: every forward appends a chunk to all rows, left-padded to the
longest; padding stays in the cache as holes that the attention mask hides.  Rows can be selected, repeated
(one prompt, many answers) and merged with the rows of another cache.  Keys carry their rotary position, so
a row's place in the slab does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from mmrl.image import Image
from mmrl_agents.decoder import base_of, with_cache
from mmrl_agents.feed import Feed

TEXT = Feed()
"""The input of a model of text alone."""


class SlabLayer(DynamicLayer):
    """A dynamic layer that appends in place into spare room instead of copying the whole cache each time."""

    def __init__(self) -> None:
        super().__init__()
        self.room_k: Tensor | None = None
        self.room_v: Tensor | None = None
        self.used = 0

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append keys and values, shape (rows, heads, new, dim); returns all of them."""
        end = self.used + key_states.shape[2]
        self.reserve(key_states, end)
        assert self.room_k is not None
        assert self.room_v is not None
        self.room_k[:, :, self.used : end] = key_states
        self.room_v[:, :, self.used : end] = value_states
        self.used = end
        self._publish()
        return self.room_k[:, :, :end], self.room_v[:, :, :end]

    def reserve(self, like: Tensor, length: int) -> None:
        """Make room for ``length`` tokens; what lies beyond ``used`` is never read."""
        if self.room_k is not None and self.room_k.shape[2] >= length:
            return
        rows, heads, _, dim = like.shape
        grown = like.new_empty((2, rows, heads, max(64, length + length // 4), dim))
        if self.room_k is not None and self.room_v is not None:
            grown[0, :, :, : self.used] = self.room_k[:, :, : self.used]
            grown[1, :, :, : self.used] = self.room_v[:, :, : self.used]
        self.room_k, self.room_v = grown[0], grown[1]

    def load(self, keys: Tensor, values: Tensor) -> None:
        """Hold exactly these keys and values."""
        self.room_k, self.room_v, self.used = keys, values, keys.shape[2]
        self._publish()

    def _publish(self) -> None:
        assert self.room_k is not None
        assert self.room_v is not None
        self.keys, self.values = self.room_k[:, :, : self.used], self.room_v[:, :, : self.used]
        self.is_initialized = True


def can_keep(model: Any) -> bool:
    """Whether every layer of the model attends to all earlier tokens, so that holes can be masked away."""
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)


class RaggedCache:
    """The keys and values of several episodes.

    Attributes:
        names: an episode a row; None for a row that nobody needs any more.
        ids: the token ids that each row holds.
        images: the images that stand among them.
        places: the position of each row's next token.
        mask: which slots of a row are real tokens, shape (rows, slots).
    """

    def __init__(self, names: Sequence[str | None], layers: Sequence[SlabLayer], ids: list[list[int]],
                 images: list[tuple[Image, ...]], places: list[int], mask: Bool[Tensor, "rows slots"]) -> None:
        self.names = list(names)
        self.layers = list(layers)
        self.ids = ids
        self.images = images
        self.places = places
        self.mask = mask

    @classmethod
    def empty(cls, names: Sequence[str | None], n_layers: int, device: torch.device) -> RaggedCache:
        """A cache without tokens."""
        return cls(names, [SlabLayer() for _ in range(n_layers)], [[] for _ in names], [() for _ in names],
                   [0] * len(names), torch.zeros((len(names), 0), dtype=torch.bool, device=device))  # fmt: skip

    @property
    def nbytes(self) -> int:
        """Memory held by keys and values, in bytes."""
        return sum(2 * layer.room_k.nbytes for layer in self.layers if layer.room_k is not None)

    def forward(self, model: Any, new: Sequence[Sequence[int]], feed: Feed = TEXT,
                images: Sequence[Sequence[Image]] = ()) -> Float[Tensor, "rows vocab"]:
        """Append ``new`` ids to each row (an empty list appends nothing); returns the logits after the last slot.

        Args:
            model: the model.
            new: ids of each row.
            feed: how they become its input.
            images: those among each row's new ids; empty if there are none at all.
        """
        shown = images or [()] * len(new)
        width, device = max(len(n) for n in new), self.mask.device
        ids = torch.tensor([[0] * (width - len(n)) + list(n) for n in new], device=device)
        real = torch.tensor([[False] * (width - len(n)) + [True] * len(n) for n in new], device=device)
        positions, self.places = feed.positions(new, shown, self.places, width)
        self.mask = torch.cat([self.mask, real], dim=1)
        logits = last_logits(
            model, feed.tokens(ids, images), attention_mask=self.mask.long(), position_ids=positions.to(device),
            cache=Cache(layers=[*self.layers]), use_cache=True,
        )  # fmt: skip
        for held, more in zip(self.ids, new, strict=True):
            held.extend(more)
        self.images = [(*held, *more) for held, more in zip(self.images, shown, strict=True)]
        return logits

    @property
    def loose(self) -> bool:
        """Whether so many slots are holes that packing pays."""
        return self.mask.shape[1] > 64 + max((len(i) for i in self.ids), default=0) * 5 // 4

    def select(self, rows: Sequence[int], names: Sequence[str | None] | None = None) -> RaggedCache:
        """A new cache of the given rows, in that order, packed to the right; a row may be taken several times."""
        index = torch.tensor(list(rows), device=self.mask.device)
        mask = self.mask[index]
        # A stable sort puts a row's holes first and leaves its tokens in their order.
        slots = mask.int().argsort(dim=1, stable=True)[:, mask.shape[1] - int(mask.sum(1).max()) :]
        layers: list[SlabLayer] = []
        for layer in self.layers:
            assert layer.keys is not None
            assert layer.values is not None
            made = SlabLayer()
            made.load(_pick(layer.keys, index, slots), _pick(layer.values, index, slots))
            layers.append(made)
        chosen = names if names is not None else [self.names[r] for r in rows]
        return RaggedCache(chosen, layers, [list(self.ids[r]) for r in rows], [self.images[r] for r in rows],
                           [self.places[r] for r in rows], mask.gather(1, slots))  # fmt: skip


def last_logits(model: Any, tokens: dict[str, Tensor], cache: Any, **kwargs: Any) -> Float[Tensor, "rows vocab"]:
    """Logits after the last slot; ``cache`` holds the slots before and takes in the new ones."""
    base = base_of(model)
    if "input_ids" in tokens:
        return model(**tokens, **kwargs, **with_cache(base, cache), logits_to_keep=1).logits[:, -1]
    # Embeddings go to the decoder itself: around it, models look for images of their own.
    decoder = base.get_decoder()
    hidden = decoder(**tokens, **kwargs, **with_cache(decoder, cache)).last_hidden_state
    return base.get_output_embeddings()(hidden[:, -1])


def _pick(states: Tensor, rows: Int[Tensor, " chosen"], slots: Int[Tensor, "chosen slots"]) -> Tensor:
    """``states[rows]``, shape (rows, heads, slots, dim), with each row's own choice of slots."""
    heads, dim = states.shape[1], states.shape[3]
    return states[rows].gather(2, slots[:, None, :, None].expand(-1, heads, -1, dim))


def merge(caches: Sequence[RaggedCache]) -> RaggedCache:
    """One cache of all rows, in order; shorter ones are padded with holes on the left."""
    if len(caches) == 1:
        return caches[0]
    slots = max(c.mask.shape[1] for c in caches)
    mask = torch.cat([torch.nn.functional.pad(c.mask, (slots - c.mask.shape[1], 0)) for c in caches])
    layers: list[SlabLayer] = []
    for depth in range(len(caches[0].layers)):
        made = SlabLayer()
        held = [c.layers[depth] for c in caches]
        made.load(_stack([h.keys for h in held], slots), _stack([h.values for h in held], slots))
        layers.append(made)
    return RaggedCache([n for c in caches for n in c.names], layers, [i for c in caches for i in c.ids],
                       [i for c in caches for i in c.images], [p for c in caches for p in c.places], mask)


def _stack(tensors: Sequence[Tensor | None], slots: int) -> Tensor:
    return torch.cat([torch.nn.functional.pad(t, (0, 0, slots - t.shape[2], 0)) for t in tensors if t is not None])
