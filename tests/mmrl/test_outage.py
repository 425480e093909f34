import dataclasses
from typing import Any

import pytest
from reward_tools import episode

from mmrl.errors import RunStopped
from mmrl.outage import PATIENCE, Outage, broken, without_reward
from mmrl.score import RewardRecord, Score
from mmrl.trajectory import Trajectory

GOOD, FAILED = Score(1.0), Score.failed("OSError: refused\nby the server")
ELSEWHERE = Score.not_applicable(reason="the episode shows no image")


def rollouts(*scores: dict[str, Score], valid: bool = False) -> list[Trajectory]:
    return [dataclasses.replace(episode("a"), record=RewardRecord(0.0, valid, s)) for s in scores]


WORKS = rollouts({"a": GOOD}, {"a": FAILED}, valid=True)
DOWN = rollouts({"a": FAILED, "b": GOOD}, {"a": FAILED, "b": GOOD})


@pytest.mark.parametrize(("trajectories", "said"), [
    (WORKS, None),
    (DOWN, "plugin 'a' failed on 2 of 2 (OSError: refused); 'b' applied to 2 of 2"),
    (rollouts({"a": ELSEWHERE}, {"a": ELSEWHERE}), "plugin 'a' applied to none of 2 (the episode shows no image)"),
    (rollouts({"a": FAILED}, {"a": ELSEWHERE}), "plugin 'a' failed on 1 of 2 (OSError: refused)"),
    ([], None),
])  # fmt: skip
def test_a_step_without_any_reward_is_said(trajectories: Any, said: str | None) -> None:
    assert without_reward(7, trajectories) == (said and f"no rollout of step 7 has a reward: {said}")


BROKE_OFF = [episode("a", error="ValueError: no door\nin draw()"), episode("b", seed=1, error="OSError: gone")]


def test_episodes_that_all_broke_off_stop_a_run_as_a_plugin_would() -> None:
    said = "no episode of step 1 came to its end; 2 ended by an exception, first: ValueError: no door"
    assert without_reward(1, BROKE_OFF) == said
    with pytest.raises(RunStopped) as stopped:
        Outage().note(1, BROKE_OFF)
    assert str(stopped.value) == f"{said}; nothing can be learned: mend e, and go on with --resume"
    outage = Outage()
    assert outage.note(1, [*WORKS, *BROKE_OFF]) is None
    for step in range(2, 1 + PATIENCE):
        assert "came to its end" in str(outage.note(step, BROKE_OFF))
    with pytest.raises(RunStopped, match=r"first: ValueError: no door \(3 steps in a row\); nothing"):
        outage.note(9, BROKE_OFF)


def test_one_task_whose_episodes_all_break_off_is_passed_over_at_first() -> None:
    outage, one = Outage(), [BROKE_OFF[0]] * 8
    for step in range(1, PATIENCE):
        assert "8 ended by an exception" in str(outage.note(step, one))
    with pytest.raises(RunStopped, match=r"\(3 steps in a row\); nothing can be learned: mend e,"):
        outage.note(PATIENCE, one)


def test_one_episode_that_came_to_its_end_keeps_a_run_going() -> None:
    assert without_reward(7, [*BROKE_OFF, *rollouts({"a": ELSEWHERE})]) == (
        "no rollout of step 7 has a reward: plugin 'a' applied to none of 1 (the episode shows no image)")


def test_broken_is_what_failed_on_every_rollout() -> None:
    assert broken(DOWN) == ["a"]
    assert broken(WORKS) == broken(rollouts({"a": FAILED}, {"a": ELSEWHERE})) == broken([]) == []


def test_what_never_worked_stops_at_once() -> None:
    said = (r"step 1 has a reward: plugin 'a' failed on 2 of 2 \(OSError: refused\); 'b' applied to 2 of 2; nothing "
            r"can be learned: mend a, and go on with --resume$")  # fmt: skip
    with pytest.raises(RunStopped, match=said):
        Outage().note(1, DOWN)


def test_what_worked_once_may_be_away_for_some_steps() -> None:
    outage = Outage()
    for step in range(1, 4):
        assert outage.note(step, WORKS) is None
        for _ in range(PATIENCE - 1):
            assert "failed on 2 of 2" in str(outage.note(step, DOWN))
    with pytest.raises(RunStopped, match=r"\(3 steps in a row\); nothing can be learned"):
        outage.note(4, DOWN)


def test_what_does_not_apply_never_stops() -> None:
    outage = Outage()
    for step in range(2 * PATIENCE):
        assert "applied to none of 1" in str(outage.note(step, rollouts({"a": ELSEWHERE})))
