"""What the actions cost: shorter and cleaner episodes are worth more.

Comes in: ``info["action_cost"]`` (1.0 is a plain step) and ``info["valid_action"]`` of the turns.  Goes out: minus
their cost, in total and by turn.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from mmrl.errors import BadInput
from mmrl.reward import RewardPlugin
from mmrl.score import Score
from mmrl.trajectory import Trajectory, Turn


class ActionCost(RewardPlugin):
    """Minus the cost of all turns; the per-turn values add up to it.

    A turn costs ``per_action * info["action_cost"]``, plus ``per_invalid`` if its action was invalid; a turn
    that reports no cost costs nothing of the first kind.  Not applicable if no turn reports a cost.

    Args:
        per_action: price of one unit of ``info["action_cost"]``, at least 0.
        per_invalid: extra price of an invalid action, at least 0.
        scale: ``"sum"`` gives minus the total; ``"fraction"`` divides it by ``budget`` and stops at -1.
        budget: how much cost is as bad as can be, above 0; with ``"fraction"`` only.

    Raises:
        BadInput: for a negative price, an unknown scale, or a budget that is missing or does nothing.
    """

    range: ClassVar[tuple[float, float]] = (-math.inf, 0.0)

    def __init__(self, per_action: float = 1.0, per_invalid: float = 0.0,
                 scale: Literal["sum", "fraction"] = "sum", budget: float | None = None) -> None:
        for name, price in (("per_action", per_action), ("per_invalid", per_invalid)):
            if not 0.0 <= price < math.inf:
                raise BadInput(f"{name} is a price of at least 0, not {price}")
        if scale not in ("sum", "fraction"):
            raise BadInput(f"scale is 'sum' or 'fraction', not {scale!r}")
        if (scale == "fraction") != (budget is not None):
            raise BadInput("scale 'fraction' needs a budget (how many actions are too many); scale 'sum' takes none")
        if budget is not None and not 0.0 < budget < math.inf:
            raise BadInput(f"budget is a number of actions above 0, not {budget}")
        self.per_action, self.per_invalid, self.budget = float(per_action), float(per_invalid), budget

    def compute(self, trajectory: Trajectory) -> Score:
        """Add up what ``trajectory`` cost."""
        if not any("action_cost" in turn.info for turn in trajectory.turns):
            return Score.not_applicable(reason="the environment reports no action_cost")
        before, values = 0.0, list[float]()
        for turn in trajectory.turns:
            cost = self._cost(turn) / (self.budget or 1.0)
            if self.budget is not None:
                cost = min(cost, 1.0 - before)
            before += cost
            values.append(0.0 - cost)
        invalid = sum(turn.info.get("valid_action") is False for turn in trajectory.turns)
        total = before if self.budget is None else min(before, 1.0)
        return Score(0.0 - total, info={"invalid_actions": invalid}, turns=tuple(values))

    def _cost(self, turn: Turn) -> float:
        cost = float(turn.info.get("action_cost", 0.0))
        if not 0.0 <= cost < math.inf:
            raise ValueError(f"the environment reports an action_cost of {cost}; it is at least 0 and finite")
        extra = self.per_invalid if turn.info.get("valid_action") is False else 0.0
        return self.per_action * cost + extra
