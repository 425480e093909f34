"""BALROG's five BabyAI tasks on stock minigrid, seed for seed.

Each task is one 8x8 room (two for ``open``) with one or two objects.  A seed gives the same room, mission
and step limit as BALROG's fork of minigrid; the order of the random draws is therefore part of the
contract.  Checked against records made by running BALROG itself.
"""

from __future__ import annotations

from typing import ClassVar

from minigrid.core.world_object import WorldObj
from minigrid.envs.babyai.core.roomgrid_level import RejectSampling, RoomGridLevel
from minigrid.envs.babyai.core.verifier import (
    AfterInstr,
    BeforeInstr,
    GoToInstr,
    Instr,
    ObjDesc,
    OpenInstr,
    PickupInstr,
    PutNextInstr,
)

# BALROG keeps these combinations out of its missions.
_HELD_OUT = ("yellow box", "red key", "red door", "green ball", "grey door")


def _desc(thing: WorldObj) -> ObjDesc:
    return ObjDesc(thing.type, thing.color)


class BalrogTask(RoomGridLevel):
    """One room with a few objects; a task says which instruction is drawn over them."""

    num_objects: ClassVar[int] = 1
    columns: ClassVar[int] = 1

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(room_size=8, num_rows=1, num_cols=self.columns, render_mode=render_mode)

    def gen_mission(self) -> None:
        """Draw the room's content and the instruction; then, after all draws, reject what BALROG rejects."""
        self.instrs = self.draw_instruction()
        if not self.check_objs_reachable(raise_exc=False):
            raise RejectSampling("an object is out of reach")
        if any(held_out in self.instrs.surface(self) for held_out in _HELD_OUT):
            raise RejectSampling("the mission is held out")

    def draw_instruction(self) -> Instr:
        """Place the agent and the objects, then draw an instruction over them."""
        self.place_agent()
        return self.choose(self.add_distractors(num_distractors=self.num_objects, all_unique=False))

    def choose(self, things: list[WorldObj]) -> Instr:
        """Draw the instruction over the placed ``things``."""
        raise NotImplementedError

    def draw_pair(self, things: list[WorldObj]) -> tuple[ObjDesc, ObjDesc]:
        """Draw two different descriptions, as far as the two ``things`` differ."""
        identical = len({(t.type, t.color) for t in things}) == 1
        first, second = self._rand_elem(things), self._rand_elem(things)
        while not identical and (first.type, first.color) == (second.type, second.color):
            second = self._rand_elem(things)
        return _desc(first), _desc(second)


class GoTo(BalrogTask):
    """Go to an object."""

    def choose(self, things: list[WorldObj]) -> Instr:
        """Draw which one."""
        return GoToInstr(_desc(self._rand_elem(things)))


class PickUp(BalrogTask):
    """Pick an object up."""

    def choose(self, things: list[WorldObj]) -> Instr:
        """Draw which one."""
        return PickupInstr(_desc(self._rand_elem(things)))


class PutNext(BalrogTask):
    """Put one object next to the other."""

    num_objects = 2

    def choose(self, things: list[WorldObj]) -> Instr:
        """Draw which is moved."""
        return PutNextInstr(*self.draw_pair(things))


class PickUpSeqGoTo(BalrogTask):
    """Pick one object up, then go to the other, said in either order."""

    num_objects = 2

    def choose(self, things: list[WorldObj]) -> Instr:
        """Draw the objects, then how it is said."""
        first, second = self.draw_pair(things)
        if self._rand_elem(["Before", "After"]) == "Before":
            return BeforeInstr(PickupInstr(first), GoToInstr(second))
        return AfterInstr(GoToInstr(second), PickupInstr(first))


class Open(BalrogTask):
    """Fetch the key and open the locked door to the other room."""

    columns = 2

    def _gen_grid(self, width: int, height: int) -> None:
        self._first_try = True
        super()._gen_grid(width, height)

    def _redraw_door_row(self) -> None:
        """BALROG's fork draws the row of the shared door twice, on the first try of a reset only."""
        if self._first_try:
            row = int(self._rand_int(1, 7))
            column = self.room_size - 1
            self.get_room(0, 0).door_pos[0] = self.get_room(1, 0).door_pos[2] = (column, row)
        self._first_try = False

    def draw_instruction(self) -> Instr:
        """Place door, key and agent in the order of BALROG's draws."""
        self._redraw_door_row()
        color = self._rand_elem(["yellow", "green", "blue", "purple"])
        while True:
            i, j, k = int(self._rand_int(0, 2)), int(self._rand_int(0, 1)), int(self._rand_int(0, 4))
            locked = self.get_room(i, j)
            if locked.neighbors[k]:
                break
        self.add_door(i, j, k, color, locked=True)
        while True:
            i, j = int(self._rand_int(0, 2)), int(self._rand_int(0, 1))
            if self.get_room(i, j) is not locked:
                break
        self.add_object(i, j, "key", color)
        while True:
            self.place_agent()
            if self.room_from_pos(*self.agent_pos) is not locked:
                break
        return OpenInstr(ObjDesc("door", self._rand_elem([None, color])))


TASKS: dict[str, type[BalrogTask]] = {
    "goto": GoTo,
    "pickup": PickUp,
    "open": Open,
    "putnext": PutNext,
    "pick_up_seq_go_to": PickUpSeqGoTo,
}
