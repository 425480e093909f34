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
        """Write keys and values, shape (lines, heads, new, dim), to the target; returns those of all rows."""
        to = self.target
        assert to is not None
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
    """

    def __init__(self, names: Sequence[str | None], layers: Sequence[SlabLayer], ids: list[list[int]],
                 images: list[tuple[Image, ...]], places: list[int]) -> None:
        self.names = list(names)
        self.layers = list(layers)
        self.ids = ids
        self.images = images
        self.places = places

    @classmethod
    def empty(cls, names: Sequence[str | None], n_layers: int) -> RaggedCache:
        """A cache without tokens."""
        return cls(names, [SlabLayer() for _ in range(n_layers)], [[] for _ in names], [() for _ in names],
                   [0] * len(names))  # fmt: skip

    @property
    def nbytes(self) -> int:
        """Memory held by keys and values, in bytes."""
        return sum(2 * layer.room_k.nbytes for layer in self.layers if layer.room_k is not None)

    def append(self, new: Sequence[Sequence[int]], images: Sequence[Sequence[Image]], places: list[int]) -> None:
        """Note what every row has read, and where it goes on."""
        for held, more in zip(self.ids, new, strict=True):
            held.extend(more)
        self.images = [(*held, *more) for held, more in zip(self.images, images, strict=True)]
        self.places = places

    def cut(self, row: int, keep: int) -> None:
        """Forget what a row holds after its first ``keep`` ids; only where these are all, or no images stand in it."""
        if keep < len(self.ids[row]):
            self.ids[row] = self.ids[row][:keep]
            self.places[row] = keep

    def select(self, rows: Sequence[int], names: Sequence[str | None] | None = None) -> RaggedCache:
        """A new cache of the given rows, in that order; a row may be taken several times."""
        slots = max(len(self.ids[r]) for r in rows)
        layers: list[SlabLayer] = []
        for layer in self.layers:
            assert layer.keys is not None
            assert layer.values is not None
            made = SlabLayer()
            made.load(*(_taken(held[:, :, :slots], rows) for held in (layer.keys, layer.values)), slots)
            layers.append(made)
        chosen = names if names is not None else [self.names[r] for r in rows]
        return RaggedCache(chosen, layers, [list(self.ids[r]) for r in rows], [self.images[r] for r in rows],
                           [self.places[r] for r in rows])  # fmt: skip


def _taken(states: Tensor, rows: Sequence[int]) -> Float[Tensor, "chosen heads room dim"]:
    made = _room(states, len(rows), states.shape[2])
    for place, row in enumerate(rows):  # an index would make a copy that then is copied into the room
        made[place, :, : states.shape[2]] = states[row]
    return made


def merge(caches: Sequence[RaggedCache]) -> RaggedCache:
    """One cache of all rows, in order."""
    if len(caches) == 1:
        return caches[0]
    slots = max(len(i) for c in caches for i in c.ids)
    layers: list[SlabLayer] = []
    for depth in range(len(caches[0].layers)):
        made = SlabLayer()
        held = [c.layers[depth] for c in caches]
        made.load(_stack([h.keys for h in held], slots), _stack([h.values for h in held], slots), slots)
        layers.append(made)
    return RaggedCache([n for c in caches for n in c.names], layers, [i for c in caches for i in c.ids],
                       [i for c in caches for i in c.images], [p for c in caches for p in c.places])  # fmt: skip


def _stack(tensors: Sequence[Tensor | None], slots: int) -> Float[Tensor, "rows heads slots dim"]:
    held = [t[:, :, :slots] for t in tensors if t is not None]
    made = _room(held[0], sum(len(t) for t in held), slots)
    for to, t in zip(made.split([len(t) for t in held]), held, strict=True):
        to[:, :, : t.shape[2]] = t
        to[:, :, t.shape[2] : slots] = 0
    return made
