"""Where another trainer's run stands, for scheduled weights and plugins that name ``step`` or ``progress``.

Comes in: the state that Hugging Face's ``Trainer`` keeps, and all that is built on it.  Goes out: a
:class:`~mmrl.run_state.RunState`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from mmrl.errors import BadInput
from mmrl.reward import RewardSuite
from mmrl.run_state import START, RunState


class TrainerState(Protocol):
    """What is read of ``transformers.TrainerState``."""

    global_step: int
    max_steps: int
    log_history: Sequence[Mapping[str, Any]]


def run_state(state: TrainerState | None, suite: RewardSuite) -> RunState:
    """Where the run stands.

    ``metrics`` are the numbers that the trainer logged last in training, under its own names.

    Args:
        state: the trainer's state; None if it hands none over.
        suite: what is going to be scored.

    Raises:
        BadInput: if a weight of ``suite`` is scheduled and the state does not say how far the run is.
    """
    if state is None or state.max_steps <= 0:
        moving = scheduled(suite)
        if moving:
            raise BadInput(f"the weight of '{moving[0]}' is scheduled, but the trainer does not say how far its run is;"
                           " give a number")  # fmt: skip
        return START
    logged = next((line for line in reversed(state.log_history) if "reward" in line), {})
    numbers = {k: float(v) for k, v in logged.items() if isinstance(v, int | float)}
    return RunState(state.global_step + 1, min(1.0, state.global_step / state.max_steps), numbers)


def scheduled(suite: RewardSuite) -> list[str]:
    """The plugins whose weight changes while a run goes on."""
    return [m.name for m in suite.members if not isinstance(m.config.weight, int | float)]
