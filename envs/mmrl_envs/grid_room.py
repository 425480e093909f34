"""A MiniGrid room that is furnished from outside, and what its agent sees of it.

Comes in: items and where they go.  Goes out: a running simulator; ``look`` says in the agent's terms what a view of it
shows, read from the simulator's state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from minigrid.core.constants import COLOR_TO_IDX, DIR_TO_VEC, IDX_TO_COLOR, IDX_TO_OBJECT, STATE_TO_IDX
from minigrid.core.grid import Grid
from minigrid.core.mission import MissionSpace
from minigrid.core.world_object import Ball, Box, Door, Goal, Key, Wall, WorldObj
from minigrid.minigrid_env import MiniGridEnv

from mmrl_envs.grid_frames import View

COLORS: tuple[str, ...] = tuple(COLOR_TO_IDX)
OBJECTS: tuple[str, ...] = ("key", "ball", "box")
"""What can be carried."""
STATES: tuple[str, ...] = tuple(STATE_TO_IDX)
"""What a door can be."""

Cell = tuple[int, int]
_NAMED = frozenset({*OBJECTS, "door", "goal"})
_BUILD: dict[str, Callable[[str, str], WorldObj]] = {
    "key": lambda color, state: Key(color),
    "ball": lambda color, state: Ball(color),
    "box": lambda color, state: Box(color),
    "door": lambda color, state: Door(color, is_open=state == "open", is_locked=state == "locked"),
    "goal": lambda color, state: Goal(),
}


@dataclass(frozen=True, slots=True)
class Item:
    """A thing that has a name: a key, a ball, a box, a door or the goal.

    Attributes:
        kind: which of these.
        color: its colour; the goal is green.
        state: a door is open, closed or locked; for anything else the first of these, without meaning.
    """

    kind: str
    color: str
    state: str = "open"


@dataclass(frozen=True, slots=True)
class Sight:
    """An item and where it lies for the agent: steps to its right (left is negative) and ahead (behind is negative)."""

    item: Item
    right: int
    ahead: int


@dataclass(frozen=True, slots=True)
class Look:
    """What can be seen.

    Attributes:
        sights: every item in sight, but for what is carried.
        front: what is right in front of the agent: an item's kind, ``"wall"`` or ``"nothing"``.
        carried: what the agent carries, or None.
    """

    sights: tuple[Sight, ...]
    front: str
    carried: Item | None


class Room(MiniGridEnv):
    """A square room of ``size`` cells, walls included; it has no task and no end."""

    def __init__(self, size: int) -> None:
        super().__init__(MissionSpace(lambda: ""), grid_size=size, max_steps=2**31)
        self.clear(None)

    def clear(self, divider: int | None) -> None:
        """Empty the room; with ``divider``, a wall down that column, without a door, makes two rooms of it."""
        self.grid = Grid(self.width, self.height)
        self.grid.wall_rect(0, 0, self.width, self.height)
        if divider is not None:
            self.grid.vert_wall(divider, 0)
        self.carrying = None
        self.step_count = 0
        self.stand((1, 1), 0)

    def stand(self, cell: Cell, direction: int) -> None:
        """Put the agent into a cell; it faces right, down, left or up (0 to 3)."""
        self.agent_pos = cell
        self.agent_dir = direction

    def hold(self, item: Item | None) -> None:
        """Put an item into the agent's hands."""
        self.carrying = None if item is None else _BUILD[item.kind](item.color, item.state)

    def put(self, item: Item, cell: Cell) -> None:
        """Put an item into a cell; a door replaces a wall."""
        self.grid.set(*cell, _BUILD[item.kind](item.color, item.state))

    def free(self) -> list[Cell]:
        """The empty cells, without the agent's."""
        inside = ((i, j) for j in range(1, self.height - 1) for i in range(1, self.width - 1))
        return [cell for cell in inside if self.grid.get(*cell) is None and cell != tuple(self.agent_pos)]

    def doorways(self) -> list[Cell]:
        """The walls that could hold a door: those beside an inner cell that is no wall."""
        cells = ((i, j) for j in range(self.height) for i in range(self.width))
        return [cell for cell in cells if isinstance(self.grid.get(*cell), Wall) and self._borders(cell)]

    def _borders(self, cell: Cell) -> bool:
        for step in DIR_TO_VEC:
            i, j = cell[0] + int(step[0]), cell[1] + int(step[1])
            if 0 < i < self.width - 1 and 0 < j < self.height - 1 and not isinstance(self.grid.get(i, j), Wall):
                return True
        return False

    def ahead_of(self, cell: Cell, direction: int) -> Cell:
        """The cell one step from ``cell`` in a direction."""
        return cell[0] + int(DIR_TO_VEC[direction][0]), cell[1] + int(DIR_TO_VEC[direction][1])

    def from_agent(self, cell: Cell) -> tuple[int, int]:
        """Steps to the agent's right and ahead of it."""
        forward = DIR_TO_VEC[self.agent_dir]
        i, j = cell[0] - int(self.agent_pos[0]), cell[1] - int(self.agent_pos[1])
        return int(-forward[1] * i + forward[0] * j), int(forward[0] * i + forward[1] * j)


def _item(thing: WorldObj) -> Item:
    _, color, state = thing.encode()
    return Item(thing.type, IDX_TO_COLOR[color], STATES[state])


def _partial(room: Room) -> tuple[Sight, ...]:
    """The items in the agent's observation, which holds the cells that it sees and, in its own, what it carries."""
    seen = np.asarray(room.gen_obs()["image"])
    middle, last = seen.shape[0] // 2, seen.shape[1] - 1
    return tuple(
        Sight(Item(name, IDX_TO_COLOR[int(color)], STATES[int(state)]), i - middle, last - j)
        for i, column in enumerate(seen) for j, (kind, color, state) in enumerate(column)
        if (name := IDX_TO_OBJECT[int(kind)]) in _NAMED and (i, j) != (middle, last)
    )  # fmt: skip


def _full(room: Room) -> tuple[Sight, ...]:
    cells = ((i, j) for j in range(room.height) for i in range(room.width))
    things = ((cell, room.grid.get(*cell)) for cell in cells)
    return tuple(Sight(_item(thing), *room.from_agent(cell)) for cell, thing in things
                 if thing is not None and thing.type in _NAMED)  # fmt: skip


_SIGHTS: dict[View, Callable[[Room], tuple[Sight, ...]]] = {"partial": _partial, "full": _full}


def look(room: Room, view: View) -> Look:
    """What a view of the room shows: in the agent's own view only what it can see, in the full view everything."""
    ahead = room.grid.get(*(int(place) for place in room.front_pos))
    carried = None if room.carrying is None else _item(room.carrying)
    return Look(_SIGHTS[view](room), "nothing" if ahead is None else ahead.type, carried)
