"""A key-value cache for ragged rows that outlives a turn.

Episodes of different lengths share one slab: a row's tokens stand in its first slots, in their order, and new ones
follow.  Rows can be selected, repeated (one prompt, many answers) and merged with the rows of another cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

from mmrl.image import Image


@dataclass(frozen=True)
class Target:
    """Where new keys and values go.

    Attributes:
        tokens: which of them count, by their place in the input read row after row; None: all.
        rows: the row of each; ``slots``: its slot there.
        count: rows of the slab; ``end``: slots that are in use then.
    """

    tokens: Int[Tensor, " new"] | None
    rows: Int[Tensor, " new"]
    slots: Int[Tensor, " new"]
    count: int
    end: int


class SlabLayer(DynamicLayer):
    """A dynamic layer that writes each row's new keys and values behind those that it has.

    Attributes:
        target: where the next ones go; set it before every forward pass.
        room_k: all slots, shape (rows, heads, slots, dim); ``room_v``: of the values.
        used: how many of them some row uses; what lies beyond a row's own tokens is finite and of no meaning.
    """

    def __init__(self) -> None:
        super().__init__()
        self.target: Target | None = None
        self.room_k: Tensor | None = None
        self.room_v: Tensor | None = None
        self.used = 0

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write keys and values, shape (lines, heads, new, dim), to the target; returns those of all rows.

        Keys are kept in the values' type, in which autocast would compare them anyway.
        """
        to = self.target
        assert to is not None
        key_states = key_states.to(value_states.dtype)
        self.room_k = _written(self._grown(self.room_k, key_states, to), key_states, to)
        self.room_v = _written(self._grown(self.room_v, value_states, to), value_states, to)
        self.used = to.end
        self._publish()
        assert self.keys is not None
        assert self.values is not None
        return self.keys, self.values

    def _grown(self, room: Tensor | None, like: Tensor, to: Target) -> Tensor:
        if room is not None and room.shape[2] >= to.end:
            return room
        held = like[:, :, :0] if room is None else room[:, :, : self.used]
        grown = _room(held, to.count, to.end)
        grown[:, :, : held.shape[2]] = held
        return grown

    def load(self, keys: Tensor, values: Tensor, used: int) -> None:
        """Hold these keys and values, of which so many slots are in use."""
        self.room_k, self.room_v, self.used = keys, values, used
        self._publish()

    def clear(self) -> None:
        """Let go of everything."""
        self.room_k = self.room_v = self.keys = self.values = None
        self.used = 0

    def _publish(self) -> None:
        assert self.room_k is not None
        assert self.room_v is not None
        self.keys, self.values = self.room_k[:, :, : self.used], self.room_v[:, :, : self.used]
        self.is_initialized = True


def room_for(slots: int) -> int:
    """Slots that are laid in where so many are needed: a quarter more."""
    return max(64, slots + slots // 4)


def _room(like: Tensor, rows: int, slots: int) -> Float[Tensor, "rows heads room dim"]:
    """Room for so many slots and more; those beyond what ``like`` has are 0, the others anything."""
    _, heads, held, dim = like.shape
    made = like.new_empty((rows, heads, room_for(slots), dim))
    made[:, :, held:] = 0
    return made


def _written(room: Tensor, states: Tensor, to: Target) -> Tensor:
    flat = states.transpose(1, 2).flatten(0, 1)
    room[to.rows, :, to.slots] = flat if to.tokens is None else flat[to.tokens]
    return room


def can_keep(model: Any) -> bool:
    """Whether every layer of the model attends to all earlier tokens, so that what it should not see can be masked."""
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)


class RaggedCache:
    """The keys and values of several episodes.

    Attributes:
        names: an episode a row; None for a row that nobody needs any more.
        ids: the token ids that each row holds.
        images: the images that stand among them.
        places: the position of each row's next token.
        prompts: what several rows begin with, if its keys and values are not in ``layers`` but there, once.
        roots: the row of ``prompts`` that each row begins with.
    """

    def __init__(self, names: Sequence[str | None], layers: Sequence[SlabLayer], ids: list[list[int]],
                 images: list[tuple[Image, ...]], places: list[int]) -> None:
        self.names = list(names)
        self.layers = list(layers)
        self.ids = ids
        self.images = images
        self.places = places
        self.prompts: RaggedCache | None = None
        self.roots: list[int] = []

    @classmethod
    def empty(cls, names: Sequence[str | None], n_layers: int) -> RaggedCache:
        """A cache without tokens."""
        return cls(names, [SlabLayer() for _ in range(n_layers)], [[] for _ in names], [() for _ in names],
                   [0] * len(names))  # fmt: skip

    @property
    def nbytes(self) -> int:
        """Memory held by keys and values, in bytes."""
        own = sum(2 * layer.room_k.nbytes for layer in self.layers if layer.room_k is not None)
        return own + (self.prompts.nbytes if self.prompts is not None else 0)

    @property
    def begins(self) -> list[int]:
        """How many of each row's tokens are in ``prompts``."""
        return [0] * len(self.ids) if self.prompts is None else [len(self.prompts.ids[root]) for root in self.roots]

    def append(self, new: Sequence[Sequence[int]], images: Sequence[Sequence[Image]], places: list[int]) -> None:
        """Note what every row has read, and where it goes on."""
        for held, more in zip(self.ids, new, strict=True):
            held.extend(more)
        self.images = [(*held, *more) for held, more in zip(self.images, images, strict=True)]
        self.places = places

    def cut(self, row: int, keep: int) -> None:
        """Forget what a row holds after its first ``keep`` ids; only where these are all, or no images stand in it.

        What rows share in ``prompts`` is theirs alone by then.
        """
        self.gather(last=True)
        if keep < len(self.ids[row]):
            self.ids[row] = self.ids[row][:keep]
            self.places[row] = keep

    def fan_out(self, rows: Sequence[int], names: Sequence[str | None]) -> RaggedCache:
        """A new cache of the given rows, most of them several times, that reads them here and adds to them there."""
        made = RaggedCache(names, [SlabLayer() for _ in self.layers], [list(self.ids[r]) for r in rows],
                           [self.images[r] for r in rows], [self.places[r] for r in rows])  # fmt: skip
        made.prompts, made.roots = self, list(rows)
        return made

    def gather(self, last: bool = False) -> None:
        """Give every row a copy of what it reads in ``prompts``.

        Args:
            last: nobody else reads there: each layer goes as soon as it is copied, so that never all is there twice.
        """
        if self.prompts is None:
            return
        spans = [(root, n, len(ids)) for root, n, ids in zip(self.roots, self.begins, self.ids, strict=True)]
        for layer, before in zip(self.layers, self.prompts.layers, strict=True):
            keys, values = _joined(before.keys, layer.keys, spans), _joined(before.values, layer.values, spans)
            layer.load(keys, values, max(len(ids) for ids in self.ids))
            if last:
                before.clear()
        self.prompts, self.roots = None, []

    def select(self, rows: Sequence[int], last: bool = False) -> RaggedCache:
        """A copy of the given rows, in that order; a row may be taken several times.

        Args:
            rows: which.
            last: this cache is not used any more (see :meth:`gather`).
        """
        self.gather(last)
        made = self.fan_out(rows, [self.names[r] for r in rows])
        made.gather(last)
        return made


def _joined(before: Tensor | None, own: Tensor | None,
            spans: Sequence[tuple[int, int, int]]) -> Float[Tensor, "rows heads room dim"]:  # fmt: skip
    """What each row begins with (its row there, how much of it) and behind that its own, up to its length."""
    assert before is not None
    made = _room(before[:, :, :0], len(spans), max(length for _, _, length in spans))
    for row, (root, size, length) in enumerate(spans):
        made[row, :, :size] = before[root, :, :size]
        if own is not None:
            made[row, :, size:length] = own[row, :, : length - size]
    return made


def merge(caches: Sequence[RaggedCache]) -> RaggedCache:
    """One cache of all rows, in order; those that it is made of are used up, layer by layer."""
    if len(caches) == 1:
        return caches[0]
    for cache in caches:
        cache.gather(last=True)
    slots = max(len(i) for c in caches for i in c.ids)
    layers: list[SlabLayer] = []
    for depth in range(len(caches[0].layers)):
        made = SlabLayer()
        held = [c.layers[depth] for c in caches]
        made.load(_stack([h.keys for h in held], slots), _stack([h.values for h in held], slots), slots)
        layers.append(made)
        for layer in held:
            layer.clear()
    return RaggedCache([n for c in caches for n in c.names], layers, [i for c in caches for i in c.ids],
                       [i for c in caches for i in c.images], [p for c in caches for p in c.places])  # fmt: skip


def _stack(tensors: Sequence[Tensor | None], slots: int) -> Float[Tensor, "rows heads slots dim"]:
    held = [t[:, :, :slots] for t in tensors if t is not None]
    made = _room(held[0], sum(len(t) for t in held), slots)
    for to, t in zip(made.split([len(t) for t in held]), held, strict=True):
        to[:, :, : t.shape[2]] = t
        to[:, :, t.shape[2] : slots] = 0
    return made
