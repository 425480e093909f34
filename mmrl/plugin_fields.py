"""What a plugin's ``compute`` may name, and where each field comes from.

``images`` are PIL images in RGB, which every vision library takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from mmrl.run_state import START, RunState
from mmrl.sample import text_of
from mmrl.trajectory import Trajectory, Turn


@dataclass(frozen=True)
class Call:
    """What one call of ``compute`` is about: a trajectory, or one of its turns."""

    trajectory: Trajectory
    state: RunState = START
    turn: int | None = None

    @property
    def one_turn(self) -> Turn | None:
        """The turn, if the call is about one."""
        return None if self.turn is None else self.trajectory.turns[self.turn]


def _query(call: Call) -> str:
    turn = call.one_turn
    return call.trajectory.sample.query if turn is None or call.turn == 0 else text_of(turn.observation)


def _response(call: Call) -> str:
    turn = call.one_turn
    return call.trajectory.response if turn is None else turn.response


def _env(call: Call) -> Any:
    turn, turns = call.one_turn, call.trajectory.turns
    return turn.info if turn is not None else (turns[-1].info if turns else {})


FIELDS: dict[str, Callable[[Call], Any]] = {
    "query": _query,
    "response": _response,
    "images": lambda c: [i.to_pil() for m in c.trajectory.messages for i in m.images] or None,
    "videos": lambda c: [v for m in c.trajectory.messages for v in m.videos] or None,
    "reference": lambda c: c.trajectory.sample.reference,
    "messages": lambda c: c.trajectory.messages,
    "trajectory": lambda c: c.trajectory,
    "turn": lambda c: c.one_turn,
    "env": _env,
    "step": lambda c: c.state.step,
    "progress": lambda c: c.state.progress,
}
ENV_FIELDS = frozenset({"images", "videos", "reference"})
"""The fields that an environment may lack."""


def fields_of(call: Call, names: Iterable[str]) -> dict[str, Any]:
    """The values of the fields ``names``."""
    return {name: FIELDS[name](call) for name in names}
