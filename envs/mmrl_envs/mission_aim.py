"""What a BabyAI mission is after at the moment, in words: first ``blue key``, and once that is carried ``red ball``.

Comes in: a level in play.  Goes out: the object that the mission's next part is about, as the mission calls it.
"""

from __future__ import annotations

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
