"""The text that a plugin file carries, and the file around it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmrl
from mmrl.bridges.suite_config import SuiteConfig, literal, write_file
from mmrl.config import Config

ENTRIES = [
    {"name": "exact_match", "as": "exact", "weight": 0.5, "kwargs": {"tag": "answer"}, "gate": {"below": 1}},
    {"name": "length", "kwargs": {"max_length": 5, "unit": "words"},
     "weight": {"schedule": "linear", "from": 1, "to": 2}, "retries": 2, "cache": "scores"},
]  # fmt: skip
RUN = {"train_type": "GRPO", "model_id": "m", "environments": [{"id": "text/arithmetic"}]}


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The cache of ENTRIES is a folder beside the run."""
    monkeypatch.chdir(tmp_path)


def test_the_yaml_says_it_all_and_no_more():
    config = SuiteConfig.of(ENTRIES)
    text = config.yaml()
    assert text.startswith("reward_plugins:\n- name: exact_match\n  as: exact\n  weight: 0.5\n")
    assert "timeout_s" not in text
    assert SuiteConfig.from_yaml(text) == config
    assert [m.name for m in config.build().members] == ["exact", "length"]


def test_a_runs_configuration_brings_its_clip_and_files():
    config = Config.model_validate({**RUN, "reward_plugins": ENTRIES, "rewards": {"clip": [-1, 1]},
                                    "plugin_files": ["mine.py"]})  # fmt: skip
    read = SuiteConfig.from_yaml(SuiteConfig.of(config).yaml())
    assert (read.rewards.clip, read.plugin_files) == ((-1.0, 1.0), [Path("mine.py")])
    assert read.reward_plugins == config.reward_plugins
    with pytest.raises(mmrl.BadInput, match=r"plugin file: no file mine\.py"):
        read.build()


def test_what_cannot_be_exported():
    with pytest.raises(mmrl.BadInput, match="there are no reward_plugins to export"):
        SuiteConfig.of([])
    with pytest.raises(mmrl.BadInput, match="reward plugin 'x': weight: "):
        SuiteConfig.of([{"name": "x", "weight": "much"}])
    gdpo = {**RUN, "reward_plugins": ENTRIES, "rewards": {"normalise": "normalise_then_sum"}}
    with pytest.raises(mmrl.BadInput, match=r"^rewards\.normalise: normalise_then_sum compares each plugin's scores"):
        SuiteConfig.of(Config.model_validate(gdpo))
    with pytest.raises(mmrl.BadInput, match="a plugin's kwargs cannot be written down: "):
        SuiteConfig.of([{"name": "x", "kwargs": {"f": object()}}]).yaml()


@pytest.mark.parametrize(
    ("text", "said"),
    [("reward_plugins: []", "the suite: reward_plugins: "), ("a: [", "the suite is not valid YAML"),
     ("reward_plugins: [{name: x, weigth: 1}]", r"the suite: reward_plugins\.0\.weigth: "), ("1", "the suite: : ")],
)  # fmt: skip
def test_an_edited_text_that_is_wrong(text: str, said: str):
    with pytest.raises(mmrl.BadInput, match=said):
        SuiteConfig.from_yaml(text)


@given(st.text() | st.text(alphabet=['"', "\\", "\n", "a", "{", "n"]))
def test_a_literal_is_its_text(text: str):
    assert ast.literal_eval(literal(text)) == text


def test_a_literal_keeps_its_lines():
    assert literal('a: "b"\nc: \\d\n') == '"""\\\na: "b"\nc: \\\\d\n"""'


def test_files(tmp_path: Path):
    path = tmp_path / "reward.py"
    write_file(path, "é = 1", force=False)
    with pytest.raises(mmrl.BadInput, match="exists; --force"):
        write_file(path, "é = 2", force=False)
    assert path.read_text(encoding="utf-8") == "é = 1"
    write_file(path, "é = 2", force=True)
    assert path.read_text(encoding="utf-8") == "é = 2"
    for name in ("reward", "my-reward.py", "reward.yaml", "1.py"):
        with pytest.raises(mmrl.BadInput, match=r"name it like mmrl_reward\.py"):
            write_file(tmp_path / name, "", force=True)
    for name in ("mmrl.py", "swift.py", "json.py"):
        with pytest.raises(mmrl.BadInput, match="is another module's name"):
            write_file(tmp_path / name, "", force=True)
    assert [p.name for p in tmp_path.iterdir()] == ["reward.py"]
