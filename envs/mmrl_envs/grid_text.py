"""A MiniGrid view in words, line for line as BALROG writes it.

Comes in: the ``image`` of a MiniGrid observation, the agent's masked view as small integers.  Goes out:
the scene's text.  Everything is in the image, the carried object too, so nothing is computed twice.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from minigrid.core.constants import IDX_TO_COLOR, IDX_TO_OBJECT, OBJECT_TO_IDX, STATE_TO_IDX
from numpy.typing import NDArray

_EMPTY = OBJECT_TO_IDX["empty"]
_WALL = OBJECT_TO_IDX["wall"]
_DOOR = OBJECT_TO_IDX["door"]
_STATES = {index: name for name, index in STATE_TO_IDX.items()}


def _steps(count: int, side: str) -> str:
    return f"{count} step{'' if count == 1 else 's'} {side}"


@lru_cache(maxsize=16)
def _places(width: int, height: int) -> tuple[str, ...]:
    """Where each cell lies as seen by the agent, who stands in the middle of the last row."""
    places: list[str] = []
    for column in range(width):
        across = column - width // 2
        side = _steps(abs(across), "left" if across < 0 else "right") if across else ""
        for row in range(height):
            ahead = _steps(height - 1 - row, "forward") if row < height - 1 else ""
            places.append(" and ".join(word for word in (side, ahead) if word))
    return tuple(places)


@lru_cache(maxsize=1024)
def _thing(kind: int, color: int, state: int) -> str:
    """Name an object; only doors have a state.  BALROG always says "a", before "open" as well."""
    door = f"{_STATES[state]} " if kind == _DOOR else ""
    return f"a {door}{IDX_TO_COLOR[color]} {IDX_TO_OBJECT[kind]}"


def describe(image: NDArray[np.uint8]) -> str:
    """Describe the agent's view.

    First what is carried, then the walls ahead, left and right on the agent's own lines where nothing
    stands nearer, then every other visible thing, by column from left to right and from far to near.
    The cell that the agent stands in is not described.

    Args:
        image: shape (width, height, 3): kind, colour and state of each visible cell, kind 0 where unseen;
            the agent's own cell, in the middle of the last row, holds what it carries.

    Returns:
        One line a fact, without a newline at the end; empty if there is nothing to say.
    """
    width, height, _ = image.shape
    cells = image.tobytes()  # columns left to right, inside a column far to near
    kinds = cells[::3]
    agent = (width // 2) * height + height - 1
    lines: list[str] = []
    if kinds[agent] > _EMPTY:
        lines.append(f"You carry {_thing(*cells[3 * agent : 3 * agent + 3])}")
    places = _places(width, height)
    for stride, reach in ((-1, height - 1), (-height, width // 2), (height, width // 2)):
        for cell in range(agent + stride, agent + stride * reach + stride, stride):
            if kinds[cell] > _EMPTY:
                if kinds[cell] == _WALL:
                    lines.append(f"a wall {places[cell]}")
                break
    for cell, kind in enumerate(kinds):
        if kind > _WALL and cell != agent:
            lines.append(f"{_thing(*cells[3 * cell : 3 * cell + 3])} {places[cell]}")
    return "\n".join(lines)
