import asyncio
import dataclasses
import json
import math

import pytest

from mmrl.evaluate import EvalResult, evaluate, summarise, wilson
from mmrl.load import load_policy
from mmrl.rollout import Scheduler
from mmrl.sample import Sample
from mmrl.trajectory import Trajectory, Turn


@pytest.mark.parametrize(
    ("wins", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_as_published(wins: int, n: int, low: float, high: float) -> None:
    """Newcombe 1998, Statistics in Medicine 17:857, table I, method 3."""
    assert wilson(wins, n) == pytest.approx((low, high), abs=5e-5)


def test_wilsons_interval_ends_where_the_score_test_does() -> None:
    for n in (1, 7, 200):
        for wins in range(n + 1):
            low, high = wilson(wins, n)
            assert 0.0 <= low <= wins / n + 1e-15 <= high + 2e-15 <= 1.0 + 2e-15
            for p in (low, high):
                assert abs(wins / n - p) == pytest.approx(1.959963984540054 * math.sqrt(p * (1 - p) / n), abs=1e-7)
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 10) == (0.0, pytest.approx(1.959963984540054**2 / (10 + 1.959963984540054**2), abs=1e-12))


def episode(success: bool, rewards: list[float], valid: bool = True, error: str | None = None) -> Trajectory:
    turns = [Turn((), "a", reward=r, info={"valid_action": valid}) for r in rewards]
    if turns:
        turns[-1] = dataclasses.replace(turns[-1], info={"valid_action": valid, "success": success})
    return Trajectory("t", "e", 0, "g", Sample("s", ()), tuple(turns), True, False, error=error)


def test_a_summary_by_hand() -> None:
    done = [episode(True, [0.0, 1.0]), episode(False, [0.5], valid=False), episode(False, [], error="OSError: x")]
    result = summarise("env", [3, 9, 4], done)
    assert result == EvalResult("env", 3, 1 / 3, wilson(1, 3), 0.5, 1.0, 1 / 3, 1, (3, 9), 3)
    assert json.loads(json.dumps(result.as_dict()))["seeds"] == [3, 9]
    assert str(result) == ("env: success 33.3% [6.1%, 79.2%] on 3 episodes (seeds 3-9), return 0.500, 1.0 turns, "
                           "1 ended by an exception")  # fmt: skip
    assert str(summarise("env", [3], done[:1])).endswith(" turns")


def test_nothing_evaluated() -> None:
    assert summarise("env", [], []) == EvalResult("env", 0, 0.0, (0.0, 1.0), 0.0, 0.0, 0.0, 0, (0, 0), 0)


def test_rows_drawn_again_do_not_narrow_the_interval() -> None:
    rows = [1, 2, 1, 1, 2, 2]
    done = [dataclasses.replace(episode(row == 1, [1.0]), sample=Sample("s", (), meta={"row": row})) for row in rows]
    result = summarise("env", range(6), done)
    assert (result.success, result.episodes, result.tasks, result.ci95) == (0.5, 6, 2, wilson(1, 2))
    assert str(result).startswith("env: success 50.0% [9.5%, 90.5%] on 6 episodes of 2 rows (seeds 0-5)")
    once = summarise("env", range(2), done[:2])
    assert (once.tasks, once.ci95) == (2, wilson(1, 2))
    assert " on 2 episodes (seeds" in str(once)
    assert summarise("env", range(6), done, tasks=4).ci95 == wilson(2, 4)


def test_the_expert_is_always_right_and_its_seeds_are_used() -> None:
    run = evaluate("text/arithmetic", {"high": 3}, load_policy("expert"), range(5, 9), Scheduler())
    result, trajectories = asyncio.run(run)
    assert (result.success, result.episodes, result.seeds, result.errors) == (1.0, 4, (5, 8), 0)
    assert [t.seed for t in trajectories] == [5, 6, 7, 8]


def test_an_episode_does_not_depend_on_which_others_are_evaluated() -> None:
    def said(seeds: range) -> dict[int, str]:
        run = evaluate("babyai/GoToLocal", {}, load_policy("random"), seeds, Scheduler())
        return {t.seed: "|".join(u.response for u in t.turns) for t in asyncio.run(run)[1]}

    few, many = said(range(3, 4)), said(range(2, 5))
    assert few[3] == many[3]
