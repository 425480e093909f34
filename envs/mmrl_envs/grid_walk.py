"""An agent's walk through a room, filmed.

Comes in: a furnished room and what the agent is to do.  Goes out: what it did, and a frame before the first action and
after each.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from mmrl_envs.grid_frames import FRAMES, Frame, View
from mmrl_envs.grid_room import Cell, Room
from mmrl_envs.picture_question import pick

LEFT, RIGHT, FORWARD, PICK_UP, DROP, TOGGLE = range(6)
"""MiniGrid's actions."""

Pose = tuple[Cell, int]


def moves(room: Room, pose: Pose) -> dict[int, Pose]:
    """Where the three moves lead, by action; forward only onto an empty cell."""
    cell, direction = pose
    ahead = room.ahead_of(cell, direction)
    turns = {LEFT: (cell, (direction - 1) % 4), RIGHT: (cell, (direction + 1) % 4)}
    return turns if room.grid.get(*ahead) is not None else {**turns, FORWARD: (ahead, direction)}


def path(room: Room, start: Pose, target: Cell) -> list[int] | None:
    """The fewest moves after which ``target`` is right in front of the agent; None if it cannot get there."""
    queue: deque[Pose] = deque([start])
    came: dict[Pose, tuple[Pose, int] | None] = {start: None}
    while queue:
        pose = queue.popleft()
        if room.ahead_of(*pose) == target:
            actions: list[int] = []
            while (step := came[pose]) is not None:
                pose, action = step
                actions.append(action)
            return actions[::-1]
        for action, reached in moves(room, pose).items():
            if reached not in came:
                came[reached] = pose, action
                queue.append(reached)
    return None


class Walk:
    """One walk; it begins where the agent stands.

    Args:
        room: the simulator; its agent moves.
        view: what the frames show.
        tile_size: width of a cell in pixels.

    Attributes:
        actions: what was done so far.
        frames: the frames so far, one more than actions.
        clear: whether each turn could be told from the opposite one, and from none, in what the agent sees.
    """

    def __init__(self, room: Room, view: View, tile_size: int) -> None:
        self._room = room
        self._paint = FRAMES[view]
        self._tile_size = tile_size
        self.actions: list[int] = []
        self.clear = True
        self._seen = self._look()
        self.frames: list[Frame] = [self._paint(room, self._seen, tile_size)]

    @property
    def pose(self) -> Pose:
        """The agent's cell and direction."""
        column, row = self._room.agent_pos
        return (int(column), int(row)), int(self._room.agent_dir)

    def take(self, *actions: int) -> None:
        """Act, one action after the other."""
        for action in actions:
            before = self._seen
            self._room.step(action)
            self._seen = self._look()
            if action in (LEFT, RIGHT):
                self.clear &= not any(np.array_equal(self._seen, other) for other in (before, self._opposite()))
            self.actions.append(action)
            self.frames.append(self._paint(self._room, self._seen, self._tile_size))

    def wander(self, rng: np.random.Generator, steps: int, *, without: int | None = None) -> None:
        """Make ``steps`` moves at random, never the one ``without``; the agent meets nothing and enters no door."""
        for _ in range(steps):
            self.take(pick(rng, [action for action in moves(self._room, self.pose) if action != without]))

    def _look(self) -> Frame:
        return np.asarray(self._room.gen_obs()["image"], dtype=np.uint8)

    def _opposite(self) -> Frame:
        """What the agent would see had it turned the other way."""
        cell, direction = self.pose
        self._room.stand(cell, (direction + 2) % 4)
        seen = self._look()
        self._room.stand(cell, direction)
        return seen
