"""Read MiniGrid's pictures back: which thing, lit or not, and which agent, each tile shows."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from minigrid.core.constants import COLOR_TO_IDX
from minigrid.core.grid import Grid
from minigrid.core.world_object import Ball, Box, Door, Goal, Key, Wall, WorldObj
from numpy.typing import NDArray

Thing = tuple[str, str, str]
Cell = tuple[int, int]
TILE = 8


@dataclass(frozen=True)
class Picture:
    """Every named thing by its cell, the agent's cell and direction, what is carried, and which cells are lit."""

    things: dict[Cell, Thing]
    agent: Cell
    direction: int
    carried: Thing | None
    lit: frozenset[Cell]


def _things() -> list[tuple[Thing | None, WorldObj | None]]:
    found: list[tuple[Thing | None, WorldObj | None]] = [(None, None), (("wall", "grey", ""), Wall())]
    found.append((("goal", "green", ""), Goal()))
    for color in COLOR_TO_IDX:
        found += [((name, color, ""), make(color)) for name, make in (("key", Key), ("ball", Ball), ("box", Box))]
        found += [(("door", color, "open"), Door(color, is_open=True)), (("door", color, "closed"), Door(color)),
                  (("door", color, "locked"), Door(color, is_locked=True))]  # fmt: skip
    return found


@lru_cache(maxsize=1)
def _known() -> dict[bytes, tuple[Thing | None, int | None, bool]]:
    tiles = {}
    for name, thing in _things():
        for direction in (None, 0, 1, 2, 3):
            for lit in (False, True):
                drawn = Grid.render_tile(thing, direction, highlight=lit, tile_size=TILE)
                tiles[drawn.astype(np.uint8).tobytes()] = (name, direction, lit)
    return tiles


def read(frame: NDArray[np.uint8], view: str) -> Picture:
    """Read a frame of tiles of 8 pixels; raises KeyError if a tile shows nothing known."""
    rows, columns = frame.shape[0] // TILE, frame.shape[1] // TILE
    cells = [(i, j) for j in range(rows) for i in range(columns)]
    cut = [frame[j * TILE : (j + 1) * TILE, i * TILE : (i + 1) * TILE] for i, j in cells]
    tiles = {cell: _known()[tile.tobytes()] for cell, tile in zip(cells, cut, strict=True)}
    agents = [cell for cell, (_, direction, _) in tiles.items() if direction is not None]
    assert len(agents) == 1
    agent = agents[0]
    direction = tiles[agent][1]
    assert direction is not None
    holder = agent if view == "partial" else (0, 0)
    carried = tiles[holder][0] if tiles[holder][0] != ("wall", "grey", "") else None
    things = {cell: thing for cell, (thing, _, _) in tiles.items() if thing is not None and cell != holder}
    return Picture(things, agent, direction, carried, frozenset(cell for cell, (_, _, lit) in tiles.items() if lit))
