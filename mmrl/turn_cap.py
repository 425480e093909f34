"""How many turns a training episode may have: a number, or a schedule that moves while the run goes on.

Comes in: ``rollout.max_turns`` of the YAML.  Goes out: the cap at a :class:`~mmrl.run_state.RunState`, and the largest
cap of the whole run.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Discriminator, PositiveInt, Tag

from mmrl.run_state import RunState
from mmrl.schedule import FORMS, NUMBER, Schedule, Steps, TaggedSchedule, kind_of, weight_at


def ends(cap: int | Schedule) -> tuple[float, ...]:
    """The values between which a cap moves."""
    if isinstance(cap, int):
        return (cap,)
    return tuple(cap.values.values()) if isinstance(cap, Steps) else (cap.from_, cap.to)


def _whole(cap: int | Schedule) -> int | Schedule:
    wrong = [v for v in ends(cap) if v < 1 or v != int(v)]
    if wrong:
        raise ValueError(f"turns are whole numbers from 1 on, and {wrong[0]:g} is none")
    return cap


TurnCap = Annotated[
    Annotated[PositiveInt, Tag(NUMBER)] | TaggedSchedule,
    Discriminator(kind_of, custom_error_type="turns", custom_error_message=FORMS),
    AfterValidator(_whole),
]
"""A number, or a schedule as of a plugin's weight whose values are whole numbers."""


def cap_at(cap: int | Schedule | None, state: RunState) -> int | None:
    """The cap where the run stands, rounded to the nearest whole turn; None if there is none."""
    return None if cap is None else round(weight_at(cap, state))


def cap_metrics(cap: int | Schedule | None, state: RunState) -> dict[str, float]:
    """``max_turns``, the cap where the run stands; nothing where it never moves."""
    return {} if cap is None or isinstance(cap, int) else {"max_turns": round(weight_at(cap, state))}


def largest(cap: int | Schedule | None) -> int | None:
    """The largest cap that the run may come to; None if there is none."""
    return None if cap is None else int(max(ends(cap)))
