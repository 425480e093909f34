"""How a room is furnished for a question: what must be there, and what must not.

Comes in: a random generator, a level and a wish.  Goes out: a furnished room, or the word that this try failed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from mmrl_envs.grid_frames import View
from mmrl_envs.grid_room import COLORS, OBJECTS, STATES, Cell, Item, Room
from mmrl_envs.picture_question import pick


@dataclass(frozen=True, slots=True)
class Level:
    """What rooms and questions of one difficulty are drawn from.

    Attributes:
        size: cells along each side of the room, walls included.
        divided: whether a wall down the middle makes two rooms, so that much is out of sight.
        fewest: the smallest number of objects on the floor, unless a question needs more.
        most: the largest.
        doors: the largest number of doors, unless a question needs more.
        colors: the colours.
        counted: the largest answer to "How many".
        kinds: the kinds of questions that are asked by default.
    """

    size: int
    divided: bool
    fewest: int
    most: int
    doors: int
    colors: tuple[str, ...]
    counted: int
    kinds: tuple[str, ...]


_REDRAWS = 20
_EASY = ("ahead", "existence", "colour", "carried")
_MORE = (*_EASY, "count", "direction")
LEVELS: dict[int, Level] = {
    1: Level(7, False, 1, 3, 1, ("red", "green", "blue", "yellow"), 2, _EASY),
    2: Level(8, False, 2, 5, 2, COLORS, 3, _MORE),
    3: Level(9, True, 4, 8, 3, COLORS, 3, (*_MORE, "door")),
}


@dataclass(frozen=True, slots=True)
class Description:
    """A kind of item, with or without a colour."""

    kind: str
    color: str | None = None

    def fits(self, item: Item) -> bool:
        """Whether an item is one of these."""
        return item.kind == self.kind and self.color in (None, item.color)

    def words(self, *, many: bool = False) -> str:
        """In words: "red key", "boxes"."""
        ending = "" if not many else "es" if self.kind == "box" else "s"
        return f"{self.color} {self.kind}{ending}" if self.color else f"{self.kind}{ending}"


Front = Item | str
"""An item, ``"nothing"``, ``"wall"`` or, left to chance, ``"anything"``."""
Place = Callable[[int, int], bool]
"""Whether a place is right, given as steps to the agent's right and ahead of it."""


def anywhere(right: int, ahead: int) -> bool:
    """Any place."""
    return True


@dataclass(frozen=True, slots=True)
class Wish:
    """What a question needs of a room.

    Attributes:
        asked: what it asks about: nothing else that fits may be in sight or in the agent's hands.
        items: what must be there besides ``front``.
        where: where these may lie.
        front: what must be right in front of the agent.
        carried: what must be in its hands; ``"anything"`` leaves it to chance.
        at_least: the smallest number of objects, so that their number says nothing about the answer.
    """

    asked: Description | None = None
    items: tuple[Item, ...] = ()
    where: Place = anywhere
    front: Front = "anything"
    carried: Item | Literal["anything"] | None = "anything"
    at_least: int = 0

    def spoilt_by(self, item: Item) -> bool:
        """Whether one more such item would change the answer."""
        return self.asked is not None and self.asked.fits(item)


def draw_item(rng: np.random.Generator, level: Level, kinds: tuple[str, ...] = OBJECTS) -> Item:
    """Draw an item: kind, colour and, of a door, state, each evenly."""
    kind, color = pick(rng, kinds), pick(rng, level.colors)
    return Item(kind, color, pick(rng, STATES)) if kind == "door" else Item(kind, color)


def _near(rng: np.random.Generator, item: Item, asked: Description | None) -> Item:
    """Half of the time, the item with the kind or the colour that is asked about, for a closer call."""
    if asked is None or rng.random() < 0.5:
        return item
    if asked.color is not None and rng.random() < 0.5:
        return replace(item, color=asked.color)
    return replace(item, kind=asked.kind) if asked.kind in OBJECTS and item.kind in OBJECTS else item


def _stand(rng: np.random.Generator, room: Room, front: Front) -> Cell | None:
    """Put the agent where ``front`` can be; the cell to keep, which holds ``front`` if that is an item."""
    room.stand((0, 0), 0)  # out of the way
    free, doorways = room.free(), room.doorways()
    fitting = free if front == "nothing" or (isinstance(front, Item) and front.kind != "door") else doorways
    places = [(cell, d, room.ahead_of(cell, d)) for cell in free for d in range(4)]
    if front != "anything":
        kept = set(fitting)
        places = [place for place in places if place[2] in kept]
    cell, direction, ahead = pick(rng, places)
    room.stand(cell, direction)
    if isinstance(front, Item):
        room.put(front, ahead)
    return None if front == "anything" else ahead


def _add(rng: np.random.Generator, room: Room, item: Item, kept: Cell | None, where: Place) -> bool:
    """Put an item into a place that suits it; whether there is one."""
    cells = room.doorways() if item.kind == "door" else room.free()
    suiting = [cell for cell in cells if cell != kept and where(*room.from_agent(cell))]
    if suiting:
        room.put(item, pick(rng, suiting))
    return bool(suiting)


def _reached(room: Room, view: View, right: int, ahead: int) -> bool:
    """Whether a place lies within the view; a wall may hide it still."""
    reach = room.agent_view_size
    return view == "full" or (0 <= ahead < reach and abs(right) <= reach // 2)


def _add_filler(
    rng: np.random.Generator, room: Room, level: Level, kinds: tuple[str, ...], kept: Cell | None, wish: Wish,
    view: View,
) -> None:  # fmt: skip
    """Put an item somewhere; one that would change the answer only where the agent does not look."""
    for _ in range(_REDRAWS):  # where only doors may come and every door would change the answer, none comes
        item = _near(rng, draw_item(rng, level, kinds), wish.asked)
        spoils = wish.spoilt_by(item)
        if _add(rng, room, item, kept, lambda *place, spoils=spoils: not (spoils and _reached(room, view, *place))):
            return


def furnish(rng: np.random.Generator, room: Room, level: Level, view: View, wish: Wish) -> bool:
    """Furnish a room: first what is wished for, then what else may be there.

    Returns:
        Whether everything found its place.  The agent may still not see it all.
    """
    room.clear(int(rng.integers(3, level.size - 3)) if level.divided else None)
    kept = _stand(rng, room, wish.front)

    def wished(right: int, ahead: int) -> bool:
        return _reached(room, view, right, ahead) and wish.where(right, ahead)

    if not all([_add(rng, room, item, kept, wished) for item in wish.items]):
        return False
    needed = max(level.fewest, wish.at_least)
    total = int(rng.integers(needed, max(needed, level.most), endpoint=True))
    for _ in range(total - len(wish.items)):
        _add_filler(rng, room, level, OBJECTS, kept, wish, view)
    for _ in range(int(rng.integers(level.doors, endpoint=True))):
        _add_filler(rng, room, level, ("door",), kept, wish, view)
    held = wish.carried
    if held == "anything":
        drawn = draw_item(rng, level)
        held = None if rng.random() < 0.7 or wish.spoilt_by(drawn) else drawn
    room.hold(held)
    return True
