import dataclasses

import pytest
import torch
from learner_tools import trajectory, turn

from mmrl.score import RewardRecord, Score
from mmrl.trajectory import Trajectory, Turn
from mmrl_agents.metrics import cost_metrics, group_metrics, rollout_metrics, token_metrics
from mmrl_agents.peak_memory import peak_bytes


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
        "overlong": 1.0,
        "reward_spread": 0.5,
        "groups/zero_spread": 0.0,
        "tokens/sampled": 4.0,
        "tokens/prompt": 4.0,
        "tokens/environment": 0.0,
        "answer_length": 1.0,
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


def test_groups_of_two_and_more_are_compared() -> None:
    rewards = {"a": (1.0, 3.0), "b": (0.5, 0.5, 0.5), "c": (7.0,), "d": (2.0, 2.0)}
    pairs = [(g, r) for g, rs in rewards.items() for r in rs]
    mixed = [dataclasses.replace(trajectory(f"{i}", [turn([1], [2])], r), group=g) for i, (g, r) in enumerate(pairs)]
    broken = dataclasses.replace(mixed[-1], record=RewardRecord(9.0, True, {}), error="OSError")
    assert group_metrics([broken, *mixed[::-1]]) == {"reward_spread": 1 / 3, "groups/zero_spread": 2 / 3}


def test_tokens_by_kind() -> None:
    """A transcript of three turns; under a window the third begins anew and is all prompt."""
    first, second = turn([1, 2, 3], [4, 5]), turn([1, 2, 3, 4, 5, 6], [7])
    whole, fresh = turn([1, 2, 3, 4, 5, 6, 7, 8, 9], [10]), turn([1, 8, 9], [10])
    assert token_metrics([trajectory("a", [first, second, whole])]) == {
        "tokens/sampled": 4.0, "tokens/prompt": 3.0, "tokens/environment": 3.0, "answer_length": 4 / 3,
    }  # fmt: skip
    assert token_metrics([trajectory("a", [first, second, fresh]), trajectory("b", [first])]) == {
        "tokens/sampled": 6.0, "tokens/prompt": 9.0, "tokens/environment": 1.0, "answer_length": 1.5,
    }  # fmt: skip


def test_a_policy_without_tokens_has_none() -> None:
    spoken = dataclasses.replace(turn([], []), response="left")
    assert set(token_metrics([trajectory("a", [spoken, spoken])]).values()) == {0.0}


def test_costs() -> None:
    found = cost_metrics(30.0, {"generate": 2.0, "env": 0.5, "rollout": 3.0})
    held = found.pop("memory/peak_gib")
    assert found == {"time/generate": 2.0, "time/env": 0.5, "time/rollout": 3.0, "speed/tokens_per_s": 15.0}
    assert 0.01 < held <= peak_bytes() / 2**30
    assert cost_metrics(0.0, {})["speed/tokens_per_s"] == 0.0


def test_the_peak_rises_with_what_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    before = peak_bytes()
    block = bytearray(before)  # as much again as there ever was, every page of it written
    block[::4096] = b"x" * len(block[::4096])
    assert peak_bytes() > before
