from typing import Any

from mmrl import Sample, Score, Trajectory, Turn
from mmrl_plugins.task_completion import TaskCompletion


def episode(*infos: dict[str, Any], truncated: bool = False, error: str | None = None) -> Trajectory:
    turns = tuple(Turn((), "a", info=i) for i in infos)
    return Trajectory("t", "e", 0, "g", Sample.ask("q"), turns, not truncated, truncated, error=error)


def test_success_and_failure() -> None:
    assert TaskCompletion().compute(episode({}, {"success": True})) == Score(1.0)
    assert TaskCompletion().compute(episode({}, {"success": False})) == Score(0.0)
    assert TaskCompletion().compute(episode({"success": True}, {"success": False})) == Score(0.0)


def test_stalling_until_the_turn_limit_is_no_way_out() -> None:
    score = TaskCompletion().compute(episode({}, {}, truncated=True))
    assert (score.value, score.valid) == (0.0, True)
    assert "cut short" in score.info["reason"]


def test_an_environment_that_reports_none() -> None:
    assert TaskCompletion().compute(episode({}, {})).status == "not_applicable"
    assert TaskCompletion().compute(episode()).status == "not_applicable"
    assert TaskCompletion().compute(episode({}, truncated=True, error="boom")).status == "not_applicable"
