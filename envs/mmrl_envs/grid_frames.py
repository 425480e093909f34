"""MiniGrid in pixels: the agent's view or the whole grid, out of tiles that are drawn once.

Comes in: a running simulator, or the encoded cells of a view.  Goes out: RGB frames, pixel for pixel those that
MiniGrid renders, some twenty times as fast; a picture of the whole grid shows also what the agent carries.
"""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from typing import Literal

import numpy as np
from minigrid.core.constants import OBJECT_TO_IDX
from minigrid.core.grid import Grid
from minigrid.core.world_object import WorldObj
from minigrid.minigrid_env import MiniGridEnv
from numpy.typing import NDArray

from mmrl.errors import BadInput
from mmrl.image import Image

View = Literal["partial", "full"]
VIEWS: tuple[View, ...] = ("partial", "full")
SMALLEST, LARGEST = 4, 64
"""The bounds of a tile's width in pixels."""

_UNSEEN = OBJECT_TO_IDX["unseen"]
_EMPTY = (OBJECT_TO_IDX["empty"], 0, 0)
_CORNER = 0, 0
_UP = 3  # where the agent points in its own view
_COLORS, _STATES = 6, 3
_CODES = len(OBJECT_TO_IDX) * _COLORS * _STATES
_STRIDES = np.array([_COLORS * _STATES, _STATES, 1])

Cells = NDArray[np.uint8]
"""Encoded cells, shape (columns, rows, 3): kind, colour and state, as in MiniGrid's observations."""
Frame = NDArray[np.uint8]
"""RGB pixels, shape (height, width, 3)."""


class Tiles:
    """The tiles of one size, drawn by MiniGrid when first needed.

    Args:
        size: width of a tile in pixels.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._sheet = np.zeros((2 * _CODES, size, size, 3), dtype=np.uint8)
        self._drawn = np.zeros(2 * _CODES, dtype=bool)
        self._agents: dict[tuple[int, int], Frame] = {}

    def paint(self, cells: Cells, lit: NDArray[np.bool_], agent: tuple[int, int], direction: int) -> Frame:
        """Paint cells and the agent.

        Args:
            cells: what is where.
            lit: which cells are brightened, as MiniGrid does with those that the agent sees; shape (columns, rows).
            agent: the agent's column and row; that cell's tile is drawn beneath it.
            direction: where the agent points: 0 to 3 for right, down, left and up.
        """
        columns, rows, _ = cells.shape
        codes = cells @ _STRIDES + _CODES * lit
        if not self._drawn[codes].all():
            for code in np.unique(codes[~self._drawn[codes]]):
                self._sheet[code], self._drawn[code] = self._draw(int(code), None), True
        tiles = self._sheet[codes]
        tiles[agent] = self._agent(int(codes[agent]), direction)
        return tiles.transpose(1, 2, 0, 3, 4).reshape(rows * self._size, columns * self._size, 3)

    def _agent(self, code: int, direction: int) -> Frame:
        key = code, direction
        if key not in self._agents:
            self._agents[key] = self._draw(code, direction)
        return self._agents[key]

    def _draw(self, code: int, direction: int | None) -> Frame:
        lit, code = divmod(code, _CODES)
        kind, rest = divmod(code, _COLORS * _STATES)
        thing = WorldObj.decode(kind, *divmod(rest, _STATES))
        drawn = Grid.render_tile(thing, direction, highlight=bool(lit), tile_size=self._size)
        return np.asarray(drawn).astype(np.uint8)


@lru_cache(maxsize=16)
def tiles(size: int) -> Tiles:
    """The tiles of ``size`` pixels, shared by all environments of a process."""
    return Tiles(size)


def check_tile_size(name: str, size: int) -> None:
    """Refuse a size in which nothing can be made out, or that takes seconds to draw.

    Args:
        name: whose option it is, for the message.
        size: width of a tile in pixels.

    Raises:
        BadInput: if ``size`` is below 4 or above 64.
    """
    if not SMALLEST <= size <= LARGEST:
        raise BadInput(f"{name}'s tile_size is {SMALLEST} to {LARGEST} pixels, not {size}")


def partial_view(inner: MiniGridEnv, seen: Cells, tile_size: int) -> Frame:
    """What the agent sees, itself at the bottom in the middle, pointing up, with what it carries beneath it.

    Args:
        inner: the simulator.
        seen: the ``image`` of its present observation; kind 0 is unseen.
        tile_size: width of a cell in pixels.
    """
    size = inner.agent_view_size
    return tiles(tile_size).paint(seen, seen[..., 0] != _UNSEEN, (size // 2, size - 1), _UP)


def full_view(inner: MiniGridEnv, seen: Cells, tile_size: int) -> Frame:
    """The whole grid, evenly dark, and in its top left corner, lit, what the agent carries.

    MiniGrid's picture of the grid does not show what is carried.  Beneath the agent it would hide what stands there,
    and a red ball would hide where the agent points; the corner is a wall, or lies outside every room.

    Args:
        inner: the simulator.
        seen: not used; every view takes the same arguments.
        tile_size: width of a cell in pixels.
    """
    grid = inner.grid
    codes = [_EMPTY if thing is None else thing.encode() for thing in grid.grid]
    cells = np.array(codes, dtype=np.uint8).reshape(grid.height, grid.width, 3).swapaxes(0, 1)
    lit = np.zeros(cells.shape[:2], dtype=bool)
    if inner.carrying is not None:
        cells[_CORNER], lit[_CORNER] = inner.carrying.encode(), True
    column, row = inner.agent_pos
    return tiles(tile_size).paint(cells, lit, (int(column), int(row)), int(inner.agent_dir))


FRAMES = {"partial": partial_view, "full": full_view}
"""How a view is painted: simulator, encoded view and tile size to a frame."""


class Frames:
    """The last frames of one simulator.

    Args:
        inner: the simulator.
        view: what they show.
        tile_size: width of a cell in pixels.
        history: how many are kept, at least 1.
    """

    def __init__(self, inner: MiniGridEnv, view: View, tile_size: int, history: int) -> None:
        self._inner = inner
        self._paint = FRAMES[view]
        self._tile_size = tile_size
        self._kept: deque[Image] = deque(maxlen=history)

    def begin(self) -> None:
        """Forget the last episode and look; call it after the simulator's reset."""
        self._kept.clear()
        # Not the reset's own observation: some levels put something into the agent's hands after it.
        self.look(np.asarray(self._inner.gen_obs()["image"], dtype=np.uint8))

    def look(self, seen: Cells) -> None:
        """Add the present frame; ``seen`` is the ``image`` of the present observation."""
        self._kept.append(Image(self._paint(self._inner, seen, self._tile_size)))

    @property
    def images(self) -> tuple[Image, ...]:
        """The frames that are kept, the oldest first; fewer at the beginning."""
        return tuple(self._kept)
