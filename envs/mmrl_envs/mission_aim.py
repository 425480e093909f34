"""What a BabyAI mission is after at the moment, in words: first ``blue key``, and once that is carried ``red ball``.

Comes in: a level in play, and its scene as the agent is told it.  Goes out: the object that the mission's next part is
about, as the mission calls it, and where the agent sees it.
"""

from __future__ import annotations

import re
from typing import Any

from minigrid.envs.babyai.core.roomgrid_level import RoomGridLevel
from minigrid.envs.babyai.core.verifier import AfterInstr, ObjDesc, OpenInstr, PutNextInstr, SeqInstr
from minigrid.minigrid_env import MiniGridEnv

from mmrl.env import NoExpert


def aim(level: MiniGridEnv) -> str:
    """What to go for next.

    Of what is to be put next to something, first the one and then the other; of a locked door its key, until that is
    carried.

    Raises:
        NoExpert: if it is no level of BabyAI: there is no mission to read.
    """
    if not isinstance(level, RoomGridLevel):
        raise NoExpert(f"{type(level).__name__} has no BabyAI mission")
    untyped: Any = level  # minigrid declares neither of these
    instruction, carried = _first(untyped.instrs), untyped.carrying
    if isinstance(instruction, PutNextInstr):
        moved: Any = instruction.desc_move
        return _words(instruction.desc_fixed if carried in moved.obj_set else moved)
    if isinstance(instruction, OpenInstr):
        locked = [door.color for door in instruction.desc.obj_set if door.is_locked]
        if locked and not (carried is not None and carried.type == "key" and carried.color in locked):
            return f"{locked[0]} key"
    return _words(instruction.desc)


def place(thing: str, scene: str) -> str:
    """Where the nearest such thing lies: ``2 steps left and 1 step forward``; empty if the agent sees none.

    Args:
        thing: an object as :func:`aim` names it.
        scene: the agent's view in words, a line a fact, as :func:`mmrl_envs.grid_text.describe` gives it.
    """
    colour, _, kind = thing.rpartition(" ")
    wanted = re.compile(rf"a (?:\w+ )?{colour or '[a-z]+'} {r'[a-z]+' if kind == 'object' else kind} (\d.*)")
    places = [found[1] for line in scene.splitlines() if (found := wanted.fullmatch(line))]
    return min(places, key=lambda words: sum(map(int, re.findall(r"\d+", words))), default="")


def _first(instruction: Any) -> Any:
    """The simple instruction that is to be followed first, of what is left of a mission."""
    while isinstance(instruction, SeqInstr):
        parts: Any = instruction  # minigrid sets a_done and b_done without declaring them
        both = [(parts.a_done, parts.instr_a), (parts.b_done, parts.instr_b)]
        order = both[::-1] if isinstance(instruction, AfterInstr) else both
        instruction = next((part for done, part in order if done != "success"), order[-1][1])
    return instruction


def _words(desc: ObjDesc) -> str:
    return " ".join(filter(None, (desc.color, desc.type or "object")))
