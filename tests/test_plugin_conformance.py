"""Every registered plugin keeps the contract: one suite over all entry points."""

import copy
import inspect
import pickle
import sys
from typing import Any

import numpy as np
import pytest

from mmrl import Image, Message, RewardPlugin, RewardSuite, Sample, Text, Trajectory, Turn
from mmrl.registry import PLUGINS
from mmrl.reward import PluginConfig, build_plugin

KWARGS: dict[str, list[dict[str, Any]]] = {
    "env_reward": [{}, {"gamma": 0.9}],
    "task_completion": [{}],
    "action_cost": [{}, {"per_invalid": 0.5}, {"scale": "fraction", "budget": 2}],
    "answer_format": [{"tags": ["think", "answer"]}, {"pattern": r".*\d"}],
    "exact_match": [{}, {"tag": "answer"}, {"casefold": False, "strip": False, "collapse": False}],
    "number_match": [{}, {"rel_tol": 0.01, "abs_tol": 0.5}],
}
"""Sensible arguments of every plugin.  A new plugin adds itself here."""

NAMES = sorted(PLUGINS.points())
CASES = [(name, kwargs) for name in NAMES for kwargs in KWARGS.get(name, [{}])]
RESPONSES = [
    "", "4", "go forward", "<think>2+2</think><answer>4</answer>", "</answer><answer>", "∞ 你好 🙂 −4", "\x00\n\t",
    "4" * 5000, "<answer>" * 500,
]  # fmt: skip
REFERENCES: list[Any] = [None, "4", 4, ["4", "four"], "", []]
INFOS: list[dict[str, Any]] = [
    {}, {"success": True, "valid_action": True, "action_cost": 1.0},
    {"success": False, "valid_action": False, "action_cost": 3.0},
]  # fmt: skip


def trajectories() -> list[Trajectory]:
    """Varied episodes: every response with every reference, 0 to 3 turns, with and without reports and images."""
    out: list[Trajectory] = []
    picture = Image(np.zeros((2, 2, 3), np.uint8))
    for i, (response, reference) in enumerate((a, b) for a in RESPONSES for b in REFERENCES):
        info = INFOS[i % 3]
        turns = tuple(Turn((Text("see"), picture), response, reward=j - 0.5, info=info) for j in range(i % 4))
        sample = Sample(f"s{i}", (Message("user", (Text("2+2?"), picture)),), reference)
        out.append(Trajectory(f"t{i}", "test", i, "g", sample, turns, i % 2 == 0, i % 2 == 1))
    return out


def plugin(name: str, kwargs: dict[str, Any]) -> RewardPlugin:
    return build_plugin(PluginConfig(name=name, kwargs=kwargs))


def test_every_plugin_is_in_the_table() -> None:
    missing = [name for name in NAMES if name not in KWARGS]
    assert not missing, f"add {missing} to KWARGS in {__file__}, with sensible arguments"
    assert not set(KWARGS) - set(NAMES), "KWARGS names plugins that are not registered"


@pytest.mark.parametrize("name", NAMES)
def test_documented(name: str) -> None:
    made = PLUGINS.get(name)
    assert (sys.modules[made.__module__].__doc__ or "").strip()
    assert (made.__doc__ or "").strip()
    documented = inspect.getdoc(made) or ""
    parameters = [p for p in inspect.signature(made).parameters if p not in ("args", "kwargs")]
    assert [p for p in parameters if f"{p}:" not in documented] == []


@pytest.mark.parametrize(("name", "kwargs"), CASES)
def test_one_score_each_in_order_within_range_and_never_failed(name: str, kwargs: dict[str, Any]) -> None:
    made, episodes = plugin(name, kwargs), trajectories()
    scores = made.score(episodes)
    assert len(scores) == len(episodes)
    assert [made.score([t])[0] for t in episodes] == scores
    assert made.score(episodes[::-1]) == scores[::-1]
    low, high = made.range
    for score, episode in zip(scores, episodes, strict=True):
        assert score.status in ("ok", "not_applicable"), score.info
        assert score.valid == (score.status == "ok")
        assert low <= score.value <= high
        assert score.turns is None or len(score.turns) == len(episode.turns)
    assert any(s.valid for s in scores), "no trajectory applied: the case tests nothing"


@pytest.mark.parametrize(("name", "kwargs"), CASES)
def test_deterministic_and_mutates_nothing(name: str, kwargs: dict[str, Any]) -> None:
    episodes, given = trajectories(), copy.deepcopy(kwargs)
    before = pickle.dumps(episodes)
    made = plugin(name, kwargs)
    first = made.score(episodes)
    assert made.score(episodes) == first
    assert plugin(name, kwargs).score(trajectories()) == first
    assert pickle.loads(before) == episodes
    assert kwargs == given


@pytest.mark.parametrize(("name", "kwargs"), CASES)
def test_every_way_to_name_it_gives_equal_records(name: str, kwargs: dict[str, Any]) -> None:
    made = PLUGINS.get(name)
    by_module, by_file = f"{made.__module__}:{made.__name__}", f"{inspect.getfile(made)}:{made.__name__}"
    records = [
        RewardSuite.from_config([{"name": ref, "as": "it", "kwargs": kwargs}]).score(trajectories())
        for ref in (name, by_module, by_file)
    ]
    assert records[0] == records[1] == records[2]
    assert {s.status for r in records[0] for s in r.scores.values()} <= {"ok", "not_applicable"}


@pytest.mark.parametrize(("name", "kwargs"), CASES)
def test_the_last_turn_of_nothing_is_not_a_silent_zero(name: str, kwargs: dict[str, Any]) -> None:
    sample = Sample.ask("2+2?", None)
    (score,) = plugin(name, kwargs).score([Trajectory("t", "test", 0, "g", sample, (), True, False)])
    assert score.status == "not_applicable"
    assert score.info["reason"]
