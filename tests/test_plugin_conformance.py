"""Every registered plugin keeps the contract: one suite over all entry points."""

import copy
import inspect
import sys
from typing import Any

import pytest
from local_server import LocalServer, plain_judge, plain_scorer

from mmrl import RewardPlugin, RewardSuite
from mmrl.plugin import by_compute
from mmrl.plugin_conformance import check_plugin
from mmrl.plugin_episodes import ordinary
from mmrl.registry import PLUGINS
from mmrl.reward import PluginConfig, build_plugin

JUDGE, SCORER = LocalServer(plain_judge).url, LocalServer(plain_scorer).url  # real ones, until the process ends
KWARGS: dict[str, list[dict[str, Any]]] = {
    "env_reward": [{}, {"gamma": 0.9}],
    "potential": [{}, {"scale": 2.0}],
    "format": [{"tags": ["answer"]}],
    "task_completion": [{}],
    "action_cost": [{}, {"per_invalid": 0.5}, {"scale": "fraction", "budget": 2}],
    "answer_format": [{"tags": ["think", "answer"]}, {"pattern": r".*\d"}],
    "exact_match": [{}, {"tag": "answer"}, {"casefold": False, "strip": False, "collapse": False}],
    "number_match": [{}, {"rel_tol": 0.01, "abs_tol": 0.5}],
    "llm_judge": [
        {"model": "m", "rubric": "Is it right?", "base_url": JUDGE, "api_key_env": None, "images": True},
        {"model": "m", "rubric": {"right": {"question": "Is it right?", "weight": 2}, "kind": {"question": "Kind?"}},
         "base_url": JUDGE, "api_key_env": None, "conversation": False},
    ],
    "http": [{"url": SCORER, "images": True}, {"url": SCORER, "batch": True}],
    "length": [{"max_length": 4, "min_length": 1, "unit": "words"}, {"max_length": 9, "unit": "characters"}],
    "repetition": [{}, {"ngram_size": 1, "max_penalty": 0.5}],
    "think_format": [{}, {"answer": "answer"}, {"opened": True}],
    "json_schema": [{"schema": {"type": "integer"}}, {"schema": {"type": "string"}, "tag": "answer"}],
    "regex": [{"pattern": r"\d"}, {"pattern": r"\d+", "match": "full", "negate": True}],
    "math_verify": [{}, {"tag": "answer"}],
    "multiple_choice": [{"choices": ["3", "4", "four"]}, {"choices": ["4", "5"], "tag": "answer"}],
    "f1": [{}, {"tag": "answer"}],
    "rouge": [{}, {"variant": "rouge2", "measure": "recall", "stemmer": True}, {"variant": "rougeLsum"}],
    "vqa_accuracy": [{}, {"tag": "answer"}, {"lists": "alternatives"}],
    "anls": [{}, {"tag": "answer", "threshold": 0.9}],
    "relaxed_accuracy": [{}, {"tag": "answer"}, {"tolerance": 0.3, "percent": "ignored"}],
    "iou": [{}, {"format": "xywh", "threshold": 0.5, "several": "any"},
            {"scale": "unit", "reference_scale": "thousand", "reference_format": "xyxy"}],
    "counting": [{}, {"tag": "answer"}, {"graded": True}],
    "valid_action": [{}],
    "efficiency": [{}],
    "exploration": [{}],
    "safety": [{}, {"threshold": 0.9, "penalty": -1.0}],
    "relevance": [{}, {"against": "reference", "scale": "cosine"}, {"against": "observation", "turns": "all"}],
    "clip_similarity": [
        {}, {"images": "best", "text": "a {reference}, not {response}", "scale": "cosine"},
        {"images": "mean", "turns": "all", "where": "observation", "negatives": ["{query} five", "no"]},
    ],
    "factuality": [{"knowledge": "sample", "min_similarity": -1.0, "turns": t} for t in ("last", "all")],
}
"""Sensible arguments of every plugin.  A new plugin adds itself here."""

NAMES = sorted(PLUGINS.points())
CASES = [(name, kwargs) for name in NAMES for kwargs in KWARGS.get(name, [{}])]


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
def test_conforms(name: str, kwargs: dict[str, Any]) -> None:
    given = copy.deepcopy(kwargs)
    results = check_plugin(lambda: plugin(name, kwargs), limit_s=600)  # a busy machine is no failure
    assert [r for r in results if r.outcome == "failed"] == []
    skipped = {"same_in_a_batch"} if by_compute(plugin(name, kwargs)) else set[str]()
    assert {r.name for r in results if r.outcome == "skipped"} == skipped
    assert kwargs == given


@pytest.mark.parametrize(("name", "kwargs"), CASES)
def test_every_way_to_name_it_gives_equal_records(name: str, kwargs: dict[str, Any]) -> None:
    made = PLUGINS.get(name)
    by_module, by_file = f"{made.__module__}:{made.__name__}", f"{inspect.getfile(made)}:{made.__name__}"
    episodes = list(ordinary().values())
    records = [
        RewardSuite.from_config([{"name": ref, "as": "it", "kwargs": kwargs, "timeout_s": 600}]).score(episodes)
        for ref in (name, by_module, by_file)
    ]
    assert records[0] == records[1] == records[2]
    assert {s.status for r in records[0] for s in r.scores.values()} <= {"ok", "not_applicable"}


@pytest.mark.parametrize(("name", "kwargs"), CASES)
def test_the_last_turn_of_nothing_is_not_a_silent_zero(name: str, kwargs: dict[str, Any]) -> None:
    (score,) = plugin(name, kwargs).score([ordinary()["no turns, no reference"]])
    assert score.status == "not_applicable"
    assert score.info["reason"]
