import math
from typing import Any

import pytest

from mmrl import BadInput, RewardSuite, Sample, Score, Trajectory, Turn
from mmrl_plugins.action_cost import ActionCost


def episode(*infos: dict[str, Any]) -> Trajectory:
    turns = tuple(Turn((), "a", info=i) for i in infos)
    return Trajectory("t", "e", 0, "g", Sample.ask("q"), turns, True, False)


STEP, DEAR, BAD = {"action_cost": 1.0}, {"action_cost": 2.5}, {"action_cost": 1.0, "valid_action": False}


def test_sum() -> None:
    assert ActionCost().compute(episode(STEP, DEAR, {})) == Score(-3.5, True, {"invalid_actions": 0}, "ok",
                                                                  (-1.0, -2.5, 0.0))  # fmt: skip
    score = ActionCost(per_action=2.0, per_invalid=0.5).compute(episode(STEP, BAD))
    assert (score.value, score.turns, score.info) == (-4.5, (-2.0, -2.5), {"invalid_actions": 1})


def test_free_actions_cost_plain_zero() -> None:
    score = ActionCost(per_action=0.0).compute(episode(STEP))
    assert math.copysign(1.0, score.value) == 1.0


def test_fraction_of_the_budget_stops_at_minus_one_and_the_turns_add_up() -> None:
    plugin = ActionCost(scale="fraction", budget=4)
    assert plugin.compute(episode(STEP, STEP)).value == -0.5
    score = plugin.compute(episode(DEAR, STEP, DEAR, STEP))
    assert (score.value, score.turns) == (-1.0, (-0.625, -0.25, -0.125, 0.0))


def test_not_applicable_without_costs_and_failed_with_impossible_ones() -> None:
    assert ActionCost().compute(episode({"valid_action": False})).status == "not_applicable"
    assert ActionCost().compute(episode()).status == "not_applicable"
    for cost in (-1.0, math.nan, math.inf):
        (record,) = RewardSuite.from_config([{"name": "action_cost"}]).score([episode({"action_cost": cost})])
        assert record.scores["action_cost"].status == "failed"


@pytest.mark.parametrize("kwargs", [
    {"per_action": -1.0}, {"per_invalid": math.inf}, {"per_action": math.nan}, {"scale": "mean"}, {"budget": 5},
    {"scale": "fraction"}, {"scale": "fraction", "budget": 0},
])  # fmt: skip
def test_bad_arguments(kwargs: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        ActionCost(**kwargs)
