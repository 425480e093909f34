import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reward_tools import batched, episode, plugin_of

import mmrl
from mmrl.errors import BadInput
from mmrl.plugin import RewardPlugin
from mmrl.plugin_build import build_plugin
from mmrl.plugin_config import PluginConfig
from mmrl.run_state import START, RunState
from mmrl.score import Score
from mmrl.score_cache import ScoreCache, default_folder, plain
from mmrl.trajectory import Trajectory, Turn


class OfResponse(RewardPlugin):
    def compute(self, response: str) -> float:
        return float(len(response))


WHOLE = batched(lambda ts: [Score(0.0)] * len(ts))


def key(cache: ScoreCache, plugin: RewardPlugin, t: Trajectory, state: RunState = START) -> str | None:
    return cache.key(plugin, t, state)


def test_the_key_is_of_what_the_plugin_sees(tmp_path: Path) -> None:
    cache = ScoreCache(tmp_path, "p", {})
    one, other = episode("same", reference="a", id="1"), episode("same", reference="b", id="2", seed=9)
    assert key(cache, OfResponse(), one) == key(cache, OfResponse(), other)
    assert key(cache, WHOLE, one) != key(cache, WHOLE, other)
    assert key(cache, WHOLE, one) == key(cache, WHOLE, dataclasses.replace(one, id="3", group="h"))
    assert key(cache, OfResponse(), one) != key(cache, OfResponse(), episode("else"))
    assert key(ScoreCache(tmp_path, "p", {"a": 1}), OfResponse(), one) != key(cache, OfResponse(), one)


def test_the_key_holds_infos_images_and_state(tmp_path: Path) -> None:
    cache = ScoreCache(tmp_path, "p", {})

    def seeing(pixel: int, **info: Any) -> Trajectory:
        picture = mmrl.Image(np.full((2, 2, 3), pixel, np.uint8))
        return dataclasses.replace(episode("x"), turns=(Turn((picture,), "x", info=info),))

    keys = [key(cache, WHOLE, seeing(1)), key(cache, WHOLE, seeing(2)), key(cache, WHOLE, seeing(1, n=np.float32(2)))]
    assert len({*keys}) == 3
    assert None not in keys

    class Late(RewardPlugin):
        def compute(self, step: int) -> float:
            return step

    assert key(cache, Late(), seeing(1), RunState(1)) != key(cache, Late(), seeing(1), RunState(2))
    assert key(cache, WHOLE, seeing(1, strange=object())) is None


def test_an_edited_file_is_another_key(tmp_path: Path) -> None:
    keys = set[str | None]()
    for value in (1, 2):
        body = f"import mmrl\nclass Mine(mmrl.RewardPlugin):\n  compute = lambda s: {value}\n"
        (tmp_path / "mine.py").write_text(body)
        plugin = build_plugin(PluginConfig(name=f"{tmp_path / 'mine.py'}:Mine"))
        keys.add(key(ScoreCache(tmp_path, "p", {}), plugin, episode("x")))
    assert len(keys) == 2


def test_an_edited_plain_function_or_class_is_another_key(tmp_path: Path) -> None:
    for kind, name in (("def g(response):\n  return {}", "g"), ("class G:\n  compute = lambda s, response: {}", "G")):
        keys = set[str | None]()
        for value in (1, 2):
            (tmp_path / "plain.py").write_text(kind.format(value) + "\n")
            plugin = build_plugin(PluginConfig(name=f"{tmp_path / 'plain.py'}:{name}"))
            keys.add(key(ScoreCache(tmp_path, "p", {}), plugin, episode("x")))
        assert len(keys) == 2


def test_scores_come_back_as_they_were(tmp_path: Path) -> None:
    kept = [Score(0.1 + 0.2, info={"a": [1, "é"]}, turns=(0.1, 0.2)), Score.not_applicable(reason="no")]
    first = ScoreCache(tmp_path, "p", {})
    for i, score in enumerate(kept):
        first.put(str(i), score)
    first.put("odd", Score(1.0, info={"no": object()}))
    again = ScoreCache(tmp_path, "p", {})
    assert [again.get(k) for k in ("0", "1", "odd", "none")] == [*kept, None, None]


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=f"cannot keep scores in {tmp_path}/file/below"):
        ScoreCache(tmp_path / "file" / "below", "p", {})


def test_the_default_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "mmrl" / "scores"


def test_plain_tells_types_apart() -> None:
    assert plain(mmrl.Text("a")) != plain("a")
    assert plain((1, 2)) == plain([1, 2])
    with pytest.raises(TypeError, match="a set has no content"):
        plain({1})


def test_of_a_registered_instance_without_a_file(tmp_path: Path) -> None:
    assert key(ScoreCache(tmp_path, "p", {}), plugin_of(1.0), episode("x")) is not None


def test_an_edited_file_that_an_argument_names_is_another_key(tmp_path: Path) -> None:
    facts, keys = tmp_path / "facts.jsonl", set[str | None]()
    for text in ("a", "b"):
        facts.write_text(text)
        keys.add(key(ScoreCache(tmp_path, "p", {"knowledge": str(facts), "top_k": 3}), OfResponse(), episode("x")))
    assert len(keys) == 2
