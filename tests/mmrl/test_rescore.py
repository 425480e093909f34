import dataclasses

import numpy as np
import pytest
from reward_tools import episode, plugin_of, suite_of

from mmrl.rescore import Change, Rescorer, most_changed, parts
from mmrl.reward import RewardPlugin
from mmrl.run_state import RunState
from mmrl.score import RewardRecord, Score
from mmrl.score_report import report
from mmrl.trajectory import Trajectory


def record(values: dict[str, float], weights: dict[str, float], value: float, gate: str | None = None) -> RewardRecord:
    return RewardRecord(value, True, {n: Score(v) for n, v in values.items()}, weights, gate)


def test_parts_are_weight_times_score() -> None:
    assert parts(record({"a": 2.0, "b": -1.0}, {"a": 0.5, "b": 3.0}, -2.0)) == {"a": 1.0, "b": -3.0}


def test_what_a_gate_takes_is_the_part_of_its_plugin() -> None:
    # 1 + 0 = 1 was forced to -2
    assert parts(record({"a": 1.0, "safe": 0.0}, {"a": 1.0, "safe": 1.0}, -2.0, "safe")) == {"a": 1.0, "safe": -3.0}


def test_the_plugin_that_changed_most() -> None:
    old = record({"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 2.0}, 3.0)
    assert most_changed(old, record({"a": 1.0, "c": 0.5}, {"a": 2.0, "c": 1.0}, 2.5)) == Change("b", -2.0)
    assert most_changed(old, old) is None
    assert most_changed(None, old) is None
    assert most_changed(old, RewardRecord(0.0, False, {})) is None


class Characters(RewardPlugin):
    def compute(self, response: str) -> float:
        return len(response)


def scored(id: str, old: float | None, **kwargs: object) -> Trajectory:
    stored = None if old is None else record({"a": old}, {"a": 1.0}, old)
    return dataclasses.replace(episode("x", id=id), record=stored, **kwargs)


def test_groups_of_one_name_in_two_steps_are_two() -> None:
    rescorer, seen = Rescorer(suite_of({"a": plugin_of(0.5)})), list[Trajectory]()
    for step in (1, 2):
        rescorer.step([scored("p", 1.0), scored("q", None)], RunState(step), seen.append)
    found = rescorer.result()
    assert (found.groups.tolist(), list(found.group_names)) == ([0, 0, 1, 1], ["g", "g"])
    assert (found.steps.tolist(), list(found.ids), len(found), len(seen)) == ([1, 1, 2, 2], ["p", "q", "p", "q"], 4, 4)
    np.testing.assert_array_equal(found.old, [1.0, np.nan, 1.0, np.nan])
    assert found.new.tolist() == [0.5] * 4
    assert found.changed == [Change("a", -0.5), None] * 2


def test_what_does_not_count_keeps_its_first_reason() -> None:
    suite = suite_of({"a": plugin_of(1.0), "b": plugin_of(ValueError("no")), "c": plugin_of(None)},
                     {"b": {"on_failure": "leave_out"}})  # fmt: skip
    rescorer = Rescorer(suite)
    rescorer.step([scored("p", 1.0), scored("q", 1.0, error="broken")], RunState(1), lambda _: None)
    found = rescorer.result()
    assert found.reasons == {("b", "failed"): "ValueError: no",
                             ("c", "not_applicable"): "the plugin gave no answer"}  # fmt: skip
    assert (found.broken, found.new.tolist()) == (1, [3.0])


def test_a_report_of_nothing() -> None:
    found = report(Rescorer(suite_of({"a": plugin_of(1.0), "b": plugin_of(1.0)})).result(), 10)
    assert (found["rollouts"], found["groups"], found["steps"]) == (0, 0, None)
    assert found["plugins"]["a"] == {
        "mean": None, "spread": None, "scored": 0, "no_spread": None, "compared_groups": 0, "not_applicable": 0,
        "failed": 0, "first_reason": {}, "correlation": {"b": None}, "success": None,
    }  # fmt: skip
    assert found["moved"] == {"rollouts": 0, "top": []}


def test_a_report_by_hand() -> None:
    """Old 3, 2, 1 becomes 1, 2, 3: the ends change places, the middle keeps its own."""
    rescorer = Rescorer(suite_of({"a": plugin_of(1.0), "length": Characters()}))
    group = [dataclasses.replace(episode("x" * n, id=f"r{n}"), record=record({"a": 4.0 - n}, {"a": 1.0}, 4.0 - n))
             for n in (1, 2, 3)]  # fmt: skip
    rescorer.step(group, RunState(7), lambda _: None)
    found = report(rescorer.result(), 1)
    assert found["plugins"]["length"]["mean"] == 2.0
    assert found["plugins"]["length"]["spread"] == pytest.approx((2 / 3) ** 0.5)
    assert found["plugins"]["a"]["no_spread"] == 1.0
    assert found["plugins"]["length"]["no_spread"] == 0.0
    reward = found["reward"]
    assert (reward["old"]["mean"], reward["new"]["mean"]) == (2.0, 3.0)
    assert (reward["spearman"], reward["spearman_within_groups"], reward["ranked_groups"]) == (-1.0, -1.0, 1)
    assert found["moved"] == {"rollouts": 2, "top": [
        {"id": "r3", "step": 7, "old_rank": 3.0, "new_rank": 1.0, "old_reward": 1.0, "new_reward": 4.0,
         "plugin": "length", "change": 3.0},
    ]}  # fmt: skip
