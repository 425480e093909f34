import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mmrl.cli.listing import registry_rows, source_line
from mmrl.config_load import load_config
from mmrl.env import EnvFamily
from mmrl.registry import ENVS, LEARNERS, PLUGINS, POLICIES
from mmrl.reward import reward_plugin
from mmrl.table_rows import APART, LEARNED

Cli = Callable[..., Any]


def test_lists_have_one_name_and_line_a_row(mmrl: Cli) -> None:
    rows = dict(line.split("\t") for line in mmrl("list", "policies").out.splitlines())
    assert set(rows) == set(POLICIES.names())
    assert rows["random"].startswith("A policy that picks one of")
    assert dict(registry_rows(LEARNERS))["GRPO"].startswith("Group-relative policy optimisation")


def test_every_registered_thing_has_a_line() -> None:
    for registry in (LEARNERS, PLUGINS, POLICIES):
        assert all(line and not line.startswith("(") for _, line in registry_rows(registry))


def test_every_environment_has_a_line_of_its_own(mmrl: Cli) -> None:
    rows = dict(line.split("\t") for line in mmrl("list", "envs").out.splitlines())
    assert rows["babyai/balrog-goto"] == "Go to an object."
    assert rows["babyai/GoToRedBall"] == rows["BabyAI-GoToRedBall-v0"] == (
        "Go to the red ball, single room, with distractors.")  # fmt: skip
    assert rows["text"].startswith("Questions from a file")
    assert rows["vqa/shapes"] == "One question about circles, squares and the like."
    assert all(rows.values())
    assert "``" not in "".join(rows.values())


def test_a_line_is_no_markup_on_a_terminal(mmrl: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr("mmrl.cli.listing.screen", lambda: Console(file=out, force_terminal=True, width=160))
    assert mmrl("list", "envs", "--filter", "babyai/ActionObjDoor").code == 0
    assert "[pick up an object] or [go to an object or door] or [open a door]" in out.getvalue()


def test_a_family_that_cannot_tell_its_environments_apart_does_not_hide_the_others(
        mmrl: Cli, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    broken = EnvFamily(ids=lambda: ("odd/a",), make=lambda _: None, about=lambda _: 1 / 0)
    monkeypatch.setattr(ENVS, "local", {"odd": broken})
    rows = dict(line.split("\t") for line in mmrl("list", "envs").out.splitlines())
    assert rows["odd/a"] == "(cannot be read: ZeroDivisionError: division by zero)"
    assert "text" in rows


def test_envs_are_filtered(mmrl: Cli) -> None:
    names = [line.split("\t")[0] for line in mmrl("list", "envs", "--filter", "BALROG-").out.splitlines()]
    assert names == [f"babyai/balrog-{t}" for t in ("goto", "pickup", "open", "putnext", "pick_up_seq_go_to")]


def test_a_filter_that_finds_nothing_says_so(mmrl: Cli) -> None:
    found = mmrl("list", "plugins", "--filter", "zzz")
    assert (found.code, found.out) == (0, "")
    assert found.err == "nothing of what is listed contains 'zzz'\n"
    found = mmrl("list", "--filter", "GoToLocal S")
    assert (found.code, found.out) == (0, "")
    assert found.err.endswith("contains 'GoToLocal S'; every environment id: mmrl list envs --filter 'GoToLocal S'\n")


def test_plugins_of_this_process_are_listed(mmrl: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PLUGINS, "local", dict(PLUGINS.local))

    @reward_plugin
    def brevity_for_the_list(response: str) -> float:
        """Short is good.

        Longer is not.
        """
        return -float(len(response))

    assert "brevity_for_the_list\tShort is good.\n" in mmrl("list", "plugins").out


def test_a_wrong_kind(mmrl: Cli) -> None:
    assert mmrl("list", "plugin") == (2, "", "mmrl: unknown kind 'plugin'; did you mean 'plugins'?\n")


def test_what_cannot_be_read_says_so() -> None:
    assert source_line("no_such_module:X") == "(module no_such_module is missing)"


def test_check_config_says_what_would_run(mmrl: Cli, tmp_path: Path) -> None:
    (tmp_path / "learner.py").write_text("class Any:\n    def check(self, loaded): pass\n    def train(self): pass\n")
    (tmp_path / "c.yaml").write_text(
        "train_type: learner.py:Any\nmodel_id: m\n"
        "environments: [{id: text/arithmetic, weight: 2, seeds: {start: 5000, count: 10}, kwargs: {high: 3}}]\n"
        "reward_plugins: [{name: exact_match, as: em, weight: 0.5}]\nrollout: {window: 3, max_turns: 8}\n"
    )
    code, out, _ = mmrl("check", "config", "c.yaml", "training_args.max_minutes=2")
    rows = dict(line.split(maxsplit=1) for line in out.splitlines() if not line.startswith("held-out"))
    assert code == 0
    assert {k: v.strip() for k, v in rows.items()} == {
        "learner": "learner.py:Any",
        "model": "m, all weights",
        "environment": "text/arithmetic, {'high': 3}, weight 2, seeds 5000-5009",
        "reward": "em, weight 0.5",
        "steps": "1 epochs of 10 tasks, 2 minutes at most",
        "batch": "8 rows x 1 = 8 a step: groups of 8",
        "rollout": "last 3 observations, 64 new tokens a turn, 8 turns at most, temperature 1",
        "folder": "runs/c",
    }
    assert "500000-500099 every 20 steps; 0-199 before and after" in out
    assert load_config(tmp_path / "c.yaml").config.rollout.window == 3


def test_check_config_says_rows_and_where_the_run_is_evaluated(mmrl: Cli, tmp_path: Path) -> None:
    (tmp_path / "learner.py").write_text("class Any:\n    def check(self, loaded): pass\n    def train(self): pass\n")
    (tmp_path / "q.jsonl").write_text('{"question": "Who?", "answer": "me"}\n' * 3)
    (tmp_path / "c.yaml").write_text(
        "train_type: learner.py:Any\nmodel_id: m\nenvironments: [{id: text, kwargs: {path: q.jsonl}}]\n"
        "reward_plugins: [{name: safety}]\neval: {environments: [{id: text, kwargs: {path: q.jsonl, system: Hm.}}]}\n"
    )
    code, out, _ = mmrl("check", "config", "c.yaml")
    rows = [" ".join(line.split()) for line in out.splitlines()]
    assert code == 0
    assert rows[2:5] == [
        "environment text (3 rows), {'path': 'q.jsonl'}, weight 1, seeds 1000000-",
        "evaluated in text (3 rows), {'path': 'q.jsonl', 'system': 'Hm.'}",
        "reward safety, weight 1, loads what it needs when training begins",
    ]
    held_out = f"rows: 3 of text{LEARNED} (drawn again by 200 episodes; intervals count rows);"
    assert f"held-out seeds 500000-500099 every 20 steps; 0-199 before and after; {held_out}" in rows
    assert APART in rows


def test_check_config_says_what_changes_on_the_way(mmrl: Cli, tmp_path: Path) -> None:
    (tmp_path / "learner.py").write_text("class Any:\n    def check(self, loaded): pass\n    def train(self): pass\n")
    (tmp_path / "c.yaml").write_text(
        "train_type: learner.py:Any\nmodel_id: m\nenvironments: [{id: text/arithmetic}, {id: text/arithmetic}]\n"
        "rollout: {dynamic_sampling: 3, max_turns: {schedule: linear, from: 8, to: 20}}\n"
        "curriculum: {floor: 0.2}\nreplay: {size: 32}\n"
    )
    code, out, _ = mmrl("check", "config", "c.yaml")
    assert code == 0
    rows = [" ".join(line.split()) for line in out.splitlines()]
    assert ("rollout whole transcript, 64 new tokens a turn, 8 to 20 (linear) turns at most, temperature 1, at most 3 "
            "further rounds a step") in rows  # fmt: skip
    assert "curriculum weights follow success, never below 0.2 of their own" in rows
    assert "replay 0.25 of an update, from the best 32 of each environment" in rows


def test_check_config_refuses_what_train_would(mmrl: Cli, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("train_type: GRPO\nmodel_id: m\nenvironments: [{id: text/aritmetic}]\n")
    assert mmrl("check", "config", "c.yaml") == (
        2, "", "mmrl: c.yaml:3: unknown environment 'text/aritmetic'; did you mean 'text/arithmetic'?\n"
    )  # fmt: skip


def test_check_env_passes_and_fails(mmrl: Cli, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    (tmp_path / "mine.py").write_text(
        "from mmrl import Sample, SingleTurnEnv\n"
        "class Good(SingleTurnEnv):\n"
        "    def __init__(self, top=9):\n        super().__init__()\n        self.top = top\n"
        "    def draw(self):\n        n = int(self.np_random.integers(self.top))\n"
        "        return Sample.ask(f'Say {n}.', str(n))\n"
        "class Same(Good):\n    def draw(self):\n        return Sample.ask('Say [red].', 'red')\n"
        "class Hidden(Good):\n    def draw(self):\n"
        "        return Sample.ask('Guess.', str(int(self.np_random.integers(9))))\n"
        "class Broken(Good):\n    def grade(self, sample, response):\n        return 1 / 0\n"
    )
    code, out, _ = mmrl("check", "env", "mine.py:Good", "--env-kwargs", "top=90")
    assert code == 0
    assert "│ seeds_differ " in out
    assert "FAILED" not in out
    code, out, _ = mmrl("check", "env", "mine.py:Same")
    assert code == 1
    failed = [line for line in out.splitlines() if "FAILED" in line]
    assert len(failed) == 1
    assert "seeds 0 to 15 give the same episode" in failed[0]
    assert "metadata['one_episode']" in " ".join(out.split())
    assert mmrl("check", "env", "mine.py:Hidden").code == 0  # seeds differ in what is asked for
    code, out, err = mmrl("check", "env", "mine.py:Broken")
    assert code == 1
    assert err == ""
    assert not [w for w in recwarn if "Traceback" in str(w.message)]
    assert "runs_in_async_vector" in "".join(line for line in out.splitlines() if "ZeroDivisionError" in line)
    code, _, err = mmrl("check", "env", "mine.py:Godo")
    assert (code, err) == (2, "mmrl: unknown name in mine.py 'Godo'; did you mean 'Good'?\n")
