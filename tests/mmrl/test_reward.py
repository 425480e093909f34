import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from reward_tools import batched, episode, plugin_of, suite_of

import mmrl
from mmrl.errors import BadInput
from mmrl.registry import PLUGINS
from mmrl.reward import PluginConfig, RewardPlugin, RewardSuite, build_plugin, reward_plugin
from mmrl.score import RewardRecord, Score
from mmrl.trajectory import Trajectory


class ByCompute(RewardPlugin):
    """compute form."""

    range: ClassVar[tuple[float, float]] = (0.0, 9.0)

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def compute(self, query: str, response: str, images: Any = None) -> dict[str, Any]:
        return {"reward": self.scale * len(response), "info": {"query": query}}


class ByScore(RewardPlugin):
    """score form."""

    range: ClassVar[tuple[float, float]] = (0.0, 9.0)

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def score(self, trajectories: Sequence[Trajectory]) -> list[Score]:
        return [Score(self.scale * len(t.response), info={"query": t.sample.query}) for t in trajectories]


def by_function(query: str, response: str, scale: float = 1.0) -> dict[str, Any]:
    return {"reward": scale * len(response), "info": {"query": query}}


class Plain:
    """No RewardPlugin at all."""

    range = (0.0, 9.0)

    def compute(self, query: str, response: str) -> dict[str, Any]:
        return {"reward": len(response), "info": {"query": query}}


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PLUGINS, "local", {})
    for name, plugin in [("compute", ByCompute), ("score", ByScore), ("function", by_function), ("plain", Plain)]:
        mmrl.register_reward_plugin(name, plugin)
    mmrl.register_reward_plugin("instance", ByCompute())


def one(name: str, trajectory: Trajectory, **kwargs: Any) -> Score:
    (record,) = RewardSuite.from_config([{"name": name, "kwargs": kwargs, "as": "it"}]).score([trajectory])
    return record.scores["it"]


def by_weight(*plugins: tuple[float, Any]) -> RewardSuite:
    made = {f"p{i}": plugin_of(value) for i, (_, value) in enumerate(plugins)}
    return suite_of(made, {f"p{i}": {"weight": weight} for i, (weight, _) in enumerate(plugins)})


def test_all_forms_give_equal_records() -> None:
    trajectories = [episode("abc"), episode("a", ""), episode("éé")]
    records = [
        RewardSuite.from_config([{"name": name, "as": "it", "weight": 2.0}]).score(trajectories)
        for name in ("compute", "score", "function", "plain", "instance")
    ]
    assert [r.value for r in records[0]] == [6.0, 0.0, 4.0]
    assert records[0][0].scores == {"it": Score(3.0, info={"query": "how long?"})}
    assert all(r == records[0] for r in records)


def test_kwargs_reach_every_form() -> None:
    assert [one(n, episode("abc"), scale=2.0).value for n in ("compute", "score", "function")] == [6.0, 6.0, 6.0]


def test_decorated_function_is_registered_by_its_name_and_range() -> None:
    @reward_plugin(range=(0, 1))
    def shortness(response: str, limit: int = 3) -> float:
        return float(len(response) <= limit)

    assert one("shortness", episode("abc")) == Score(1.0)
    assert one("shortness", episode("abc"), limit=2) == Score(0.0)
    assert shortness.range == (0, 1)


def test_references_by_module_and_by_file_that_is_edited(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    for value in (1, 2):
        body = f"    def compute(self):\n        return {value}\n"
        path.write_text(f"import mmrl\nclass Mine(mmrl.RewardPlugin):\n{body}")
        assert one(f"{path}:Mine", episode("x")) == Score(float(value))
    assert one("mmrl_plugins.exact_match:ExactMatch", episode("x", reference="X")).value == 1.0


@pytest.mark.parametrize(("returned", "expected"), [
    (0.5, Score(0.5)), (True, Score(1.0)), (3, Score(3.0)), ({"reward": 2}, Score(2.0)),
    (None, Score.not_applicable(reason="the plugin gave no answer")),
    ({"reward": None, "info": {"a": 1}}, Score.not_applicable(a=1)),
    (Score(1.0, turns=(1.0,)), Score(1.0, turns=(1.0,))),
    (math.nan, Score.failed("the score is nan, not a finite number")),
    (math.inf, Score.failed("the score is inf, not a finite number")),
    (-math.inf, Score.failed("the score is -inf, not a finite number")),
    (ZeroDivisionError("no"), Score.failed("ZeroDivisionError: no")),
    ("high", Score.failed("TypeError: compute() returns a float, a dict with 'reward', a Score or None, not str")),
    ({"score": 1}, Score.failed("KeyError: 'reward'")),
    (Score(1.0, turns=(1.0, 2.0)), Score.failed("the values by turn are (1.0, 2.0), not 1 finite numbers")),
    (Score(1.0, turns=(math.nan,)), Score.failed("the values by turn are (nan,), not 1 finite numbers")),
])  # fmt: skip
def test_what_compute_may_return(returned: Any, expected: Score) -> None:
    (record,) = by_weight((1.0, returned)).score([episode("x")])
    assert record.scores["p0"] == expected
    assert record.valid == expected.valid


def test_a_value_outside_the_range_is_a_failure() -> None:
    (record,) = suite_of({"p": plugin_of(1.5, 0, 1)}).score([episode("x")])
    assert record == RewardRecord(0.0, False, {"p": Score.failed("the score 1.5 is outside the declared range [0, 1]")})


def test_weights_add_up() -> None:
    (record,) = by_weight((2.0, 0.5), (-1.0, 3.0)).score([episode("x")])
    assert (record.value, record.valid) == (-2.0, True)


def test_not_applicable_is_left_out_and_the_weights_scale_up() -> None:
    (record,) = by_weight((1.0, 0.5), (3.0, None)).score([episode("x")])
    assert (record.value, record.valid) == (2.0, True)
    (record,) = by_weight((1.0, None), (3.0, None)).score([episode("x")])
    assert (record.value, record.valid) == (0.0, False)


def test_one_failure_masks_the_record_and_keeps_the_other_scores() -> None:
    (record,) = by_weight((1.0, 0.5), (1.0, ValueError("x"))).score([episode("x")])
    assert (record.value, record.valid) == (0.0, False)
    assert record.scores["p0"] == Score(0.5)
    assert record.scores["p1"].status == "failed"
    assert not dataclasses.replace(episode("x"), record=record).valid


def test_a_failure_in_one_trajectory_leaves_the_others_alone() -> None:
    class Picky(RewardPlugin):
        def compute(self, response: str) -> float:
            return 1 / len(response)

    records = suite_of({"p": Picky()}).score([episode("ab"), episode(""), episode("abcd")])
    assert [(r.value, r.valid) for r in records] == [(0.5, True), (0.0, False), (0.25, True)]


@pytest.mark.parametrize(("returned", "error"), [
    ([Score(1.0)] * 3, "returned 3 scores for 1"), (["a", "b"], "the plugin returned 'a'"),
    (RuntimeError("gone"), "RuntimeError: gone"), (None, "TypeError"),
])  # fmt: skip
def test_a_batched_plugin_that_misbehaves_fails_and_never_raises(returned: Any, error: str) -> None:
    def score(trajectories: Sequence[Trajectory]) -> Any:
        if isinstance(returned, Exception):
            raise returned
        return returned

    records = suite_of({"p": batched(score)}).score([episode("x"), episode("y")])
    assert [r.valid for r in records] == [False, False]
    assert error in records[0].scores["p"].info["error"]


def test_one_plugin_twice_needs_as() -> None:
    entries = [{"name": "compute"}, {"name": "compute", "kwargs": {"scale": 2.0}}]
    with pytest.raises(BadInput, match=r"two reward plugins are called 'compute'; .*'as:'"):
        RewardSuite.from_config(entries)
    (record,) = RewardSuite.from_config([entries[0], {**entries[1], "as": "double"}]).score([episode("ab")])
    assert {n: s.value for n, s in record.scores.items()} == {"compute": 2.0, "double": 4.0}
    assert record.value == 6.0


@pytest.mark.parametrize(("entry", "message"), [
    ({"name": "compue"}, "unknown plugin 'compue'; did you mean 'compute'"),
    ({"name": "compute", "wieght": 1}, "reward plugin 'compute': wieght"),
    ({"name": "compute", "weight": math.nan}, "reward plugin 'compute': weight"),
    ({"weight": 1}, "reward plugin '?': name"),
    ({"name": "compute", "kwargs": {"size": 1}}, "plugin 'compute' does not take these kwargs: .*'size'"),
    ({"name": "function", "kwargs": {"size": 1}}, "plugin 'function' does not take these kwargs: .*'size'"),
    ({"name": "instance", "kwargs": {"scale": 1}}, "plugin 'instance' is registered as an instance"),
    ({"name": "env_reward", "kwargs": {"gamma": 2}}, r"plugin 'env_reward': gamma is in \[0, 1\], not 2"),
])  # fmt: skip
def test_bad_entries_are_named(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message.replace("'?'", r"'\?'")):
        RewardSuite.from_config([entry])


def test_compute_that_asks_for_an_unknown_field_is_found_at_construction() -> None:
    mmrl.register_reward_plugin("odd", lambda answer: 1.0)
    with pytest.raises(BadInput, match="asks for 'answer'; it may name query, response"):
        build_plugin(PluginConfig(name="odd"))
    mmrl.register_reward_plugin("empty", RewardPlugin)
    with pytest.raises(BadInput, match=r"neither compute\(\) nor score\(\)"):
        build_plugin(PluginConfig(name="empty"))


@pytest.mark.parametrize("score", [Score(None), Score("high"), Score(1.0, turns=(None,))])  # type: ignore[arg-type]
def test_a_score_that_is_no_number_fails_and_does_not_end_the_run(score: Score) -> None:
    (record,) = suite_of({"odd": batched(lambda ts: [score] * len(ts))}).score([episode("a")])
    assert (record.valid, record.scores["odd"].status) == (False, "failed")
