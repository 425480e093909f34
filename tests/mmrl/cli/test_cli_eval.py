import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmrl.cli.defaults import read_defaults

Cli = Callable[..., Any]


def test_json_is_the_last_line_and_one_object(mmrl: Cli, tmp_path: Path) -> None:
    words = ("eval", "--env", "text/arithmetic", "--policy", "expert", "--episodes", "5", "--seed", "10", "--json")
    code, out, err = mmrl(*words, "--save", "deep/x.json")
    record = json.loads(out.splitlines()[-1])
    assert (code, err) == (0, "")
    assert {k: record[k] for k in ("env", "policy", "episodes", "success", "mean_return", "seeds")} == {
        "env": "text/arithmetic", "policy": "expert", "episodes": 5, "success": 1.0, "mean_return": 1.0,
        "seeds": [10, 14],
    }  # fmt: skip
    assert record["ci95"] == [pytest.approx(0.5655, abs=1e-4), 1.0]
    assert json.loads((tmp_path / "deep/x.json").read_text()) == record


def test_each_episode_is_recorded(mmrl: Cli, tmp_path: Path) -> None:
    words = ("eval", "--env", "text/arithmetic", "--env", "babyai/balrog-goto", "--policy", "expert", "--episodes", "2")
    assert mmrl(*words, "--records", "deep/r.jsonl").code == 0
    found = [json.loads(line) for line in (tmp_path / "deep/r.jsonl").read_text().splitlines()]
    assert [(r["env"], r["seed"], r["success"]) for r in found] == [
        ("text/arithmetic", 0, True), ("text/arithmetic", 1, True), ("babyai/balrog-goto", 0, True),
        ("babyai/balrog-goto", 1, True),
    ]  # fmt: skip
    (tmp_path / "file").touch()
    code, _, err = mmrl(*words, "--records", "file/r.jsonl")
    assert code == 2
    assert err.startswith("mmrl: --records file/r.jsonl: cannot be written: ")


def test_several_environments_are_pooled_and_listed(mmrl: Cli) -> None:
    words = ("eval", "--env", "text/arithmetic", "--env", "babyai/balrog-goto", "--policy", "expert", "--json")
    record = json.loads(mmrl(*words, "--episodes", "2").out)
    assert (record["env"], record["episodes"]) == ("text/arithmetic,babyai/balrog-goto", 4)
    assert [(r["env"], r["episodes"]) for r in record["results"]] == [("text/arithmetic", 2), ("babyai/balrog-goto", 2)]


def test_the_table(mmrl: Cli) -> None:
    code, out, _ = mmrl("eval", "--env", "text/arithmetic", "--policy", "expert", "--episodes", "3")
    assert code == 0
    assert "policy expert" in out
    assert "│ text/arithmetic │  100.0% │ 43.9% - 100.0% │" in out


def test_a_runs_folder_gives_its_own_policy(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("train_type: GRPO\nmodel_id: mmrl/tiny\nenvironments: [text/arithmetic]\n")
    assert read_defaults(tmp_path).policy == "mmrl/tiny"  # nothing trained yet
    (tmp_path / "final").mkdir()
    assert read_defaults(tmp_path).policy == str(tmp_path)
    assert read_defaults(tmp_path / "config.yaml").policy == "mmrl/tiny"


def test_a_config_gives_the_defaults_and_options_win(mmrl: Cli, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "train_type: GRPO\nmodel_id: expert\nenvironments: [{id: text/arithmetic, kwargs: {low: 7, high: 7}}]\n"
        "eval: {max_turns: 1, environments: [{id: babyai/GoToLocal, kwargs: {max_steps: 2}}]}\n"
    )
    record = json.loads(mmrl("eval", "c.yaml", "--episodes", "3", "--json").out)
    assert (record["env"], record["policy"], record["mean_turns"]) == ("babyai/GoToLocal", "expert", 1.0)
    record = json.loads(
        mmrl("eval", "c.yaml", "--episodes", "3", "--max-turns", "9", "--policy", "random", "--json").out
    )
    assert (record["policy"], record["mean_turns"]) == ("random", 2.0)
    more = ("--env-kwargs", "max_steps=1", "--max-turns", "9")
    assert json.loads(mmrl("eval", "c.yaml", "--episodes", "3", *more, "--json").out)["mean_turns"] == 1.0


def test_a_policy_of_ones_own(mmrl: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from mmrl import Completion\n"
        "class Mine:\n    async def generate(self, requests):\n        return [Completion('7') for _ in requests]\n"
    )
    words = ("--env", "text/arithmetic", "--policy", "mine.py:Mine", "--env-kwargs", "low=7", "--env-kwargs", "high=7")
    record = json.loads(mmrl("eval", *words, "--env-kwargs", "operations='+'", "--episodes", "2", "--json").out)
    assert record["success"] == 0.0


def test_an_environment_that_always_fails_is_exit_code_1(mmrl: Cli, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(
        "from mmrl import SingleTurnEnv\n"
        "class Bad(SingleTurnEnv):\n    def draw(self):\n        raise ValueError('no')\n"
    )
    code, _, err = mmrl("eval", "--env", "bad.py:Bad", "--policy", "random", "--episodes", "2")
    assert code == 1
    assert err == "2 of 2 episodes ended by an exception, first: ValueError: no\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--policy random", "say where: --env ID"),
        ("--env text/arithmetic", "say which policy: --policy"),
        ("--env text/aritmetic --policy random",
         "unknown environment 'text/aritmetic'; did you mean 'text/arithmetic'?"),
        ("--env text/arithmetic --policy random --env-kwargs high", "--env-kwargs high: write --env-kwargs key=value"),
        ("--env text/arithmetic --policy random --env-kwargs hihg=1",
         "environment 'text/arithmetic' does not take these"),
        ("--env text/arithmetic --policy random --temperature -1", "--temperature is at least 0, not -1"),
        ("--env text/arithmetic --policy hf", "policy 'hf' does not take these arguments"),
        ("--env text/arithmetic --policy random --save /proc/x.json --episodes 1",
         "--save /proc/x.json: cannot be written"),
        ("nope.yaml --policy random", "config nope.yaml: no such file"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(words: str, said: str, mmrl: Cli) -> None:
    code, _, err = mmrl("eval", *words.split())
    assert code == 2
    assert err.startswith(f"mmrl: {said}")
    assert err.count("\n") == 1


def test_an_environment_without_expert(mmrl: Cli) -> None:
    code, _, err = mmrl("eval", "--env", "minigrid/DoorKey-8x8", "--policy", "expert", "--episodes", "1")
    assert code == 1
    assert "1 of 1 episodes ended by an exception, first: NoExpert: BabyAIBot plays BabyAI levels only" in err
