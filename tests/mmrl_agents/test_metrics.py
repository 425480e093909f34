import dataclasses

from learner_tools import trajectory, turn

from mmrl.score import RewardRecord, Score
from mmrl.trajectory import Trajectory, Turn
from mmrl_agents.metrics import rollout_metrics


def with_info(t: Turn, **info: object) -> Turn:
    return dataclasses.replace(t, info=info)


def batch() -> list[Trajectory]:
    won = with_info(turn([1], [2]), success=True, valid_action=True)
    lost = dataclasses.replace(with_info(turn([1], [2]), valid_action=False), finish_reason="length")
    na = Score.not_applicable()
    gated = RewardRecord(1.5, True, {"p": Score(1.0), "q": Score(2.0)}, {"p": 0.5, "q": 0.5}, gate="p")
    failed = RewardRecord(0.0, False, {"p": Score.failed("boom"), "q": Score(8.0)})
    return [
        trajectory("a", [lost, won], record=gated),
        trajectory("b", [won], record=RewardRecord(0.5, True, {"p": Score(0.5), "q": na}, {"p": 1.0})),
        trajectory("c", [lost], record=failed),
        trajectory("d", [], error="ValueError: x", record=None),
    ]


def test_means_by_hand() -> None:
    assert rollout_metrics(batch(), [0.0, 1.0, None, None]) == {
        "reward": 1.0,
        "success": 0.5,
        "turns": 1.0,
        "invalid_actions": 0.5,
        "errors": 1.0,
        "invalid": 2.0,
        "no_spread": 0.5,
        "cut_turns": 0.5,
        "failed_scores": 1.0,
        "gated": 1.0,
        "reward/p": 0.75,
        "spread/p": 0.25,
        "failed/p": 1.0,
        "weight/p": 0.75,
        "reward/q": 5.0,
        "spread/q": 3.0,
        "failed/q": 0.0,
        "weight/q": 0.5,
    }


def test_nothing_at_all_is_0() -> None:
    assert set(rollout_metrics([], []).values()) == {0.0}
