"""The full state of a MiniGrid simulator as a short key, for credit per state.

Comes in: a running MiniGrid environment.  Goes out: a hash that two states share only if every future
reward of theirs (steps aside) is the same for the same actions.
"""

from __future__ import annotations

import hashlib
from typing import Any

from minigrid.core.world_object import WorldObj
from minigrid.envs.babyai.core.roomgrid_level import RoomGridLevel
from minigrid.envs.babyai.core.verifier import Instr, SeqInstr
from minigrid.minigrid_env import MiniGridEnv


def _code(thing: WorldObj | None) -> str:
    """Type, colour and state of a thing, and of what is inside it."""
    if thing is None:
        return "."
    if thing.type == "wall":
        return "#"
    kind, color, state = thing.encode()
    inside = _code(thing.contains) if thing.contains is not None else ""
    return f"<{kind},{color},{state}{inside}>"


def _progress(instruction: Instr) -> str:
    """Which parts of a sequence are done: rewards depend on it and the grid does not show it."""
    if not isinstance(instruction, SeqInstr):
        return ""
    sequence: Any = instruction  # minigrid sets a_done and b_done without declaring them
    parts = ((sequence.instr_a, sequence.a_done), (sequence.instr_b, sequence.b_done))
    return "".join(f"{int(done == 'success')}({_progress(part)})" for part, done in parts)


def state_key(env: MiniGridEnv) -> str:
    """Hash the grid, the pose, what is carried, the mission and its progress; the step count is left out.

    Returns:
        16 hexadecimal digits.
    """
    cells = "".join(["." if thing is None else _code(thing) for thing in env.grid.grid])
    level: Any = env  # minigrid sets instrs without declaring it
    progress = _progress(level.instrs) if isinstance(env, RoomGridLevel) else ""
    column, row = env.agent_pos
    state = f"{cells}|{column},{row},{env.agent_dir}|{_code(env.carrying)}|{env.mission}|{progress}"
    return hashlib.sha256(state.encode()).hexdigest()[:16]
