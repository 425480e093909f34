import dataclasses
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas
import pytest

import mmrl as package
from mmrl.config import Config
from mmrl.config_load import dump_config
from mmrl.registry import PLUGINS
from mmrl.reward import RewardSuite
from mmrl.run_state import RunState
from mmrl.store import RunStore
from mmrl.trajectory import Trajectory

Cli = Callable[..., Any]
SCRIPT = Path(sys.executable).with_name("mmrl")
BREVITY = """\
import mmrl


@mmrl.reward_plugin(range=(-1.0, 1.0))
def brevity(response: str) -> float:
    return 1.0 if len(response) < {limit} else 0.0
"""


def episodes(step: int) -> list[Trajectory]:
    """Two groups of four: the first two of each answer right, the others at random."""
    out: list[Trajectory] = []
    for g in range(2):
        for policy in ("expert", "random"):
            ran = package.rollout("text/arithmetic", policy, [10 * step + g] * 2)
            out += [dataclasses.replace(t, group=f"g{g}", id=f"s{step}-{len(out) + i}") for i, t in enumerate(ran)]
    return out


def make_run(root: Path, plugins: Sequence[Mapping[str, Any]] = ({"name": "number_match"},), steps: int = 3,
             **keys: Any) -> Path:
    """A run as a trainer writes it: scored with the state of each step, and its metrics."""
    tree = {"train_type": "GRPO", "model_id": "none", "environments": [{"id": "text/arithmetic"}],
            "reward_plugins": list(plugins), "training_args": {"max_steps": steps}, **keys}  # fmt: skip
    store = RunStore.create(root, dump_config(Config.model_validate(tree)))
    suite = RewardSuite.from_config(plugins)
    metrics: dict[str, float] = {}
    for step in range(1, steps + 1):
        ran = episodes(step)
        records = suite.score(ran, RunState(step, (step - 1) / steps, metrics))
        scored = [dataclasses.replace(t, record=r) for t, r in zip(ran, records, strict=True)]
        store.write_rollouts(step, scored, [None] * len(scored))
        metrics = {"step": step, "success": 0.25 * step}
        store.log(metrics)
    store.close()
    return root


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "runs/x")


def new_yaml(folder: Path, *entries: str, more: str = "") -> str:
    lines = "".join(f"  - {e}\n" for e in entries)
    (folder / "new.yaml").write_text(f"reward_plugins:\n{lines}{more}")
    return "new.yaml"


def answer(ran: Any) -> dict[str, Any]:
    assert ran.code == 0, ran.err
    return json.loads(ran.out.splitlines()[-1])


def test_the_runs_own_config_gives_the_stored_rewards_back(mmrl: Cli, tmp_path: Path) -> None:
    eased = {"schedule": "linear", "from": 0.5, "to": 2}
    driven = {"schedule": "metric", "metric": "success", "from": 0, "to": 1}
    make_run(tmp_path / "r", [{"name": "number_match", "weight": eased}, {"name": "exact_match", "weight": driven}])
    record = answer(mmrl("score", "r", "--json", "--out", "deep/scores.parquet"))
    frame = pandas.read_parquet(tmp_path / "deep/scores.parquet")
    assert frame.reward_old.tolist() == frame.reward_new.tolist()
    # eased: 0.5, 1, 1.5; driven by the success of the step before: 0, 0.25, 0.5
    assert frame.groupby("step").reward_new.max().tolist() == [0.5, 1.25, 2.0]
    assert (record["reward"]["spearman"], record["reward"]["spearman_within_groups"]) == (1.0, 1.0)
    assert record["moved"] == {"rollouts": 0, "top": []}
    assert (record["config"], record["steps"], record["rollouts"], record["groups"]) == ("r/config.yaml", [1, 3], 24, 6)


def test_other_weights_turn_the_order_round(mmrl: Cli, run: Path) -> None:
    config = new_yaml(run.parents[1], "name: number_match\n    weight: -1", "{name: length, kwargs: {max_length: 9}}")
    record = answer(mmrl("score", "runs/x", "--config", config, "--json", "--top", "2"))
    matched = record["plugins"]["number_match"]
    assert {k: matched[k] for k in ("mean", "spread", "scored", "not_applicable", "failed", "no_spread")} == {
        "mean": 0.5, "spread": 0.5, "scored": 24, "not_applicable": 0, "failed": 0, "no_spread": 0.0,
    }  # fmt: skip
    assert (matched["compared_groups"], matched["success"]) == (6, 1.0)
    assert matched["correlation"] == {"length": None}  # text policies have no tokens: it does not apply
    assert record["plugins"]["length"]["not_applicable"] == 24
    reward = record["reward"]
    # the plugin that does not apply leaves its weight to the other: -2 for a right answer
    assert (reward["old"]["mean"], reward["new"]["mean"]) == (0.5, -1.0)
    assert (reward["spearman"], reward["spearman_within_groups"], reward["ranked_groups"]) == (-1.0, -1.0, 6)
    assert record["moved"]["rollouts"] == 24
    assert record["moved"]["top"] == [
        {"id": f"s1-{i}", "step": 1, "old_rank": 1.5, "new_rank": 3.5, "old_reward": 1.0, "new_reward": -2.0,
         "plugin": "number_match", "change": -3.0} for i in range(2)
    ]  # fmt: skip


def test_the_tables(mmrl: Cli, run: Path) -> None:
    config = new_yaml(run.parents[1], "{name: number_match, as: 'right[er]', weight: -1}", "name: exact_match")
    code, out, err = mmrl("score", "runs/x", "--config", config, "--top", "1")
    said = [" ".join(line.split()) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert said[0] == "runs/x: 24 rollouts of steps 1-3 in 6 groups, scored by new.yaml"
    assert "│ right[er] │ 0.500 │ 0.500 │ 24 │ 0 │ 0 │ 0% of 6 │" in said
    assert "│ right[er] │ 1.00 │ │ 1.00 │" in said
    assert "│ new │ 0.000 │ 0.000 │ 24 │ 100% of 6 │ - │" in said
    assert "rank correlation of old and new reward: - overall, - within groups" in said
    assert "24 rollouts changed places; those that moved most" in said
    assert "│ s1-0 │ 1 │ 1.5 -> 2.5 │ 1.000 -> 0.000 │ right[er] -1.000 │" in said


def test_an_edited_plugin_file_counts_at_once(mmrl: Cli, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PLUGINS, "local", {})
    folder = run.parents[1]
    by_path = new_yaml(folder, "name: mine.py:brevity")
    (folder / "named.yaml").write_text("plugin_files: [mine.py]\nreward_plugins: [{name: brevity}]\n")
    for limit, mean in ((1000, 1.0), (0, 0.0), (1000, 1.0)):
        (folder / "mine.py").write_text(BREVITY.format(limit=limit))
        here = answer(mmrl("score", "runs/x", "--config", by_path, "--json"))
        assert here["plugins"]["mine.py:brevity"]["mean"] == mean
        named = answer(mmrl("score", "runs/x", "--config", "named.yaml", "--json"))
        assert named["plugins"]["brevity"]["mean"] == mean
    for limit, mean in ((1000, 1.0), (0, 0.0)):
        (folder / "mine.py").write_text(BREVITY.format(limit=limit))
        words = [SCRIPT, "score", "runs/x", "--config", by_path, "--json"]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60)
        assert json.loads(done.stdout.splitlines()[-1])["plugins"]["mine.py:brevity"]["mean"] == mean


def contents(root: Path) -> dict[str, str]:
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in root.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("words", "steps", "rollouts"),
    [
        ("runs/x", [1, 3], 24),
        ("runs/x/", [1, 3], 24),
        ("runs/x/rollouts", [1, 3], 24),
        ("runs/x/rollouts/step-000002.parquet", [2, 2], 8),
        ("runs/x --last 2", [2, 3], 16),
        ("runs/x --last 9", [1, 3], 24),
        ("runs/x --steps 2", [2, 2], 8),
        ("runs/x --steps 2-3", [2, 3], 16),
        ("runs/x --steps 2-", [2, 3], 16),
        ("runs/x --steps 0-2", [1, 2], 16),
    ],
)
def test_which_rollouts_and_nothing_in_the_run_changes(
    words: str, steps: list[int], rollouts: int, mmrl: Cli, run: Path
) -> None:
    before = contents(run)
    record = answer(mmrl("score", *words.split(), "--json"))
    assert (record["steps"], record["rollouts"]) == (steps, rollouts)
    assert contents(run) == before


def test_overrides_come_last(mmrl: Cli, run: Path) -> None:
    record = answer(mmrl("score", "runs/x", "reward_plugins.0.weight=3", "rewards.clip=[0, 2.5]", "--json"))
    assert record["reward"]["new"]["mean"] == 1.25
    assert record["overrides"] == ["reward_plugins.0.weight=3", "rewards.clip=[0, 2.5]"]
    said = mmrl("score", "runs/x", "reward_plugins.0.weight=3").out.splitlines()[0]
    assert said.endswith("scored by runs/x/config.yaml with reward_plugins.0.weight=3")


def test_a_whole_config_whose_other_parts_do_not_count(mmrl: Cli, run: Path) -> None:
    (run.parents[1] / "whole.yaml").write_text(
        "train_type: NoSuch\nmodel_id: none\nenvironments: [{id: no/such}]\nreward_plugins: [{name: exact_match}]\n"
    )
    assert list(answer(mmrl("score", "runs/x", "--config", "whole.yaml", "--json"))["plugins"]) == ["exact_match"]


@pytest.mark.parametrize(
    ("plugins", "files", "named"),
    [
        ([{"name": "evil.py:brevity"}], [], "evil.py:brevity"),
        ([{"name": "evil:brevity"}], [], "evil:brevity"),
        ([{"name": "exact_match"}], ["evil.py"], "evil.py"),
        ([{"name": "llm_judge", "kwargs": {"model": "m", "rubric": "r"}}], [], "m"),
        ([{"name": "http", "kwargs": {"url": "http://evil/"}}], [], "http://evil/"),
        ([{"name": "relevance", "kwargs": {"options": [{"model": "x"}]}}], [], "x"),
        ([{"name": "exact_match", "cache": "elsewhere"}], [], "elsewhere"),
    ],
)
def test_a_stored_run_loads_nothing_by_name(
    plugins: list[dict[str, Any]], files: list[str], named: str, mmrl: Cli, run: Path
) -> None:
    folder = run.parents[1]
    (folder / "evil.py").write_text("raise SystemExit('code of a stored run was run')")
    tree = {"train_type": "GRPO", "model_id": "none", "environments": [{"id": "text/arithmetic"}],
            "reward_plugins": plugins, "plugin_files": files}  # fmt: skip
    (run / "config.yaml").write_text(dump_config(Config.model_validate(tree)))
    code, _, err = mmrl("score", "runs/x")
    assert code == 2
    assert err.startswith("mmrl: runs/x/config.yaml:")
    said = f"nothing is loaded from a stored run by name, and this names '{named}'; if you trust it: --config runs/x/"
    assert said in err
    assert err.count("\n") == 1
    assert not (folder / "elsewhere").exists()


def test_a_stored_runs_code_is_run_if_asked_for(mmrl: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def brevity(response):\n    return 1.0\n")
    make_run(tmp_path / "r", [{"name": "mine.py:brevity"}], steps=1)
    assert mmrl("score", "r").code == 2
    record = answer(mmrl("score", "r", "--config", "r/config.yaml", "--json"))
    assert (record["reward"]["old"]["mean"], record["reward"]["new"]["mean"]) == (1.0, 1.0)


def test_what_does_not_count_is_said(mmrl: Cli, run: Path) -> None:
    folder = run.parents[1]
    (folder / "odd.py").write_text(
        "def odd(response, reference):\n    return {}[response] if response != str(reference) else None\n"
    )
    config = new_yaml(folder, "{name: 'odd.py:odd', as: odd}", "name: number_match")
    code, out, err = mmrl("score", "runs/x", "--config", config, "--json")
    record = json.loads(out.splitlines()[-1])
    assert code == 0
    assert err.startswith("12 of 24 scores of 'odd' failed, first: KeyError: ")
    odd, reward = record["plugins"]["odd"], record["reward"]
    assert (odd["scored"], odd["not_applicable"], odd["failed"], odd["mean"]) == (0, 12, 12, None)
    assert odd["first_reason"]["not_applicable"] == "the plugin gave no answer"
    # only the right answers have a reward left, all of it number_match's
    assert (reward["old"]["scored"], reward["new"]["scored"], reward["new"]["mean"]) == (24, 12, 2.0)
    alone = mmrl("score", "runs/x", "--config", new_yaml(folder, "{name: 'odd.py:odd', as: odd}"))
    assert alone.code == 1
    assert "no rollout has a new reward; the first reason: the plugin gave no answer" in alone.err


def test_an_episode_that_an_exception_ended_is_left_out(mmrl: Cli, tmp_path: Path) -> None:
    store = RunStore.create(tmp_path / "r", "x: 1")
    fine, broken = episodes(1)[:2]
    store.write_rollouts(1, [fine, dataclasses.replace(broken, error="ValueError: no")], [None] * 2)
    config = new_yaml(tmp_path, "name: number_match")
    code, out, err = mmrl("score", "r", "--config", config, "--json")
    record = json.loads(out)
    assert (code, record["rollouts"], record["broken"], record["reward"]["old"]["scored"]) == (0, 1, 1, 0)
    assert err == "1 rollouts are left out: an exception had ended their episode\n"


def test_out_holds_a_row_a_rollout(mmrl: Cli, run: Path) -> None:
    folder = run.parents[1]
    config = new_yaml(folder, "{name: number_match, as: right, weight: 2}", "{name: length, kwargs: {max_length: 9}}")
    for out in ("s.jsonl", "s.parquet"):
        assert mmrl("score", "runs/x", "--config", config, "--last", "1", "--out", out).code == 0
    rows = [json.loads(line) for line in (folder / "s.jsonl").read_text().splitlines()]
    assert rows[0] == {"id": "s3-0", "step": 3, "group": "g0", "reward_old": 1.0, "reward_new": 3.0,
                       "score/right": 1.0, "status/right": "ok", "score/length": None,
                       "status/length": "not_applicable"}  # fmt: skip
    frame = pandas.read_parquet(folder / "s.parquet")
    assert len(rows) == len(frame) == 8
    assert frame["score/right"].tolist() == [r["score/right"] for r in rows]
    assert frame["score/length"].isna().all()


INTERRUPTED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # the one who started us may ignore it
from mmrl.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
STUCK = """\
import os, signal, threading
seen = []


def stuck(response):
    seen.append(response)
    if len(seen) == 11:
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(50)
    return 1.0
"""


def test_an_interrupt_prints_what_is_done(run: Path) -> None:
    folder = run.parents[1]
    (folder / "stuck.py").write_text(STUCK)
    config = new_yaml(folder, "name: stuck.py:stuck", "name: number_match")
    words = [sys.executable, "-c", INTERRUPTED, "score", "runs/x", "--config", config, "--json", "--out", "s.jsonl"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=45)
    record = json.loads(done.stdout.splitlines()[-1])
    # The first step was whole; of the two more that the plugin had answered, the command may have seen none yet.
    n = record["rollouts"]
    assert 8 <= n <= 10
    assert (done.returncode, done.stderr) == (130, f"stopped after {n} of 24 rollouts\n")
    assert record["interrupted"]
    assert len((folder / "s.jsonl").read_text().splitlines()) == n


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("runs/xx", "no run runs/xx: no such file or folder; did you mean 'x'?; give the folder of a run, its "),
        ("runs", "runs is no run: it has neither config.yaml nor rollouts/; it holds runs/x; give the folder of a run"),
        ("empty", "run empty has no rollouts: there is no .parquet file in empty/rollouts; train or collect some"),
        ("hollow", "run hollow has no rollouts: there is no .parquet file in hollow/rollouts; train or collect some"),
        ("nothing", "nothing is no run: it has neither config.yaml nor rollouts/; give the folder of a run"),
        ("new.yaml", "new.yaml: not a Parquet file that can be read (Parquet magic bytes"),
        ("other.parquet", "other.parquet: no rollouts as mmrl stores them: no column step of whole numbers; give the"),
        ("step.parquet --config new.yaml", "step.parquet: lacks the columns id, env_id, "),
        ("none.parquet", "none.parquet has no rollouts: its .parquet file is empty; train or collect some"),
        ("alone/rollouts", "{cwd}/alone has no config.yaml; say what to score with: --config FILE"),
        ("collected", "collected/config.yaml is of mmrl collect and has no reward_plugins; say what to score with"),
        ("unrewarded", "unrewarded/config.yaml has no reward_plugins; say what to score with: --config FILE"),
        ("runs/x --config nw.yaml", "config nw.yaml: no such file; did you mean 'new.yaml'?"),
        ("runs/x --config bare.yaml", "bare.yaml has no reward_plugins; list what to score with, such as [{name: "),
        ("runs/x --config typo.yaml", "typo.yaml:3: unknown plugin 'exact_mach'; did you mean 'exact_match'?"),
        ("runs/x --config key.yaml", "key.yaml:2: unknown key 'reward_plugin'; did you mean 'reward_plugins'?"),
        ("runs/x --config twice.yaml", "twice.yaml:4: two reward plugins are called 'exact_match'; give one of them"),
        ("runs/x --config weight.yaml", "weight.yaml:3: 'reward_plugins.0.weight': input should be a valid number, "),
        ("runs/x --config file.yaml", "file.yaml:1: plugin file: no file gone.py (looked from {cwd})"),
        ("runs/x --config args.yaml", "args.yaml:2: plugin 'exact_match' does not take these kwargs: "),
        ("runs/x reward_plugins.4.weight=1", "override 'reward_plugins.4.weight=1': the config has no"),
        ("runs/x weight", "override 'weight': write key.path=value"),
        ("runs/x --steps 4-9", "--steps 4-9: no rollouts; the stored steps are 1-3"),
        ("runs/x --steps 3-2", "--steps 3-2: no rollouts; the stored steps are 1-3"),
        ("runs/x --steps two", "--steps two: write --steps 5, --steps 5-20 or --steps 5-"),
        ("runs/x --steps 1 --last 1", "--steps and --last both choose steps; give one of them"),
        ("runs/x --out s.csv", "--out s.csv: the name ends in .parquet or .jsonl"),
        ("runs/x --out dir.jsonl", "--out dir.jsonl: is a folder; name a file in it"),
        ("runs/x --out runs/x/s.jsonl", "--out runs/x/s.jsonl: lies in the run, where nothing is changed; write it"),
        ("runs/x --out runs/x/rollouts/s.parquet", "--out runs/x/rollouts/s.parquet: lies in the run"),
        ("step.parquet --out step.parquet", "--out step.parquet: lies in the run"),
        ("runs/x --out new.yaml/s.jsonl", "--out new.yaml/s.jsonl: cannot be written: "),
    ],
)
def test_bad_input_is_one_line(words: str, said: str, mmrl: Cli, run: Path) -> None:
    folder = run.parents[1]
    make_odd_runs(folder)
    code, out, err = mmrl("score", *words.split())
    assert (code, out) == (2, "")
    assert err.startswith("mmrl: " + said.replace("{cwd}", str(folder)))
    assert err.count("\n") == 1


def make_odd_runs(folder: Path) -> None:
    files = {
        "empty/config.yaml": "x: 1", "hollow/rollouts/note.txt": "", "nothing/note.txt": "",
        "collected/config.yaml": "collect: {reward: []}",
        "unrewarded/config.yaml": "train_type: SFT\nmodel_id: none\nenvironments: [{id: text/arithmetic}]\n",
        "new.yaml": "reward_plugins:\n  - name: exact_match\n", "bare.yaml": "rewards: {clip: [0, 1]}\n",
        "typo.yaml": "# mine\nreward_plugins:\n  - name: exact_mach\n",
        "key.yaml": "# mine\nreward_plugin: []\n",
        "twice.yaml": "reward_plugins:\n  - name: exact_match\n\n  - name: exact_match\n",
        "weight.yaml": "reward_plugins:\n  - name: exact_match\n    weight: heavy\n",
        "file.yaml": "plugin_files: [gone.py]\nreward_plugins: [{name: exact_match}]\n",
        "args.yaml": "reward_plugins:\n  - name: exact_match\n    kwargs: {tga: x}\n",
    }  # fmt: skip
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "dir.jsonl").mkdir()
    stored = (folder / "runs/x/rollouts/step-000001.parquet").read_bytes()
    for name in ("alone", "collected", "unrewarded"):
        (folder / name / "rollouts").mkdir(parents=True)
        (folder / name / "rollouts/step-000001.parquet").write_bytes(stored)
    pandas.DataFrame({"step": ["one"]}).to_parquet(folder / "other.parquet")
    pandas.DataFrame({"step": [1]}).to_parquet(folder / "step.parquet")
    pandas.DataFrame({"step": pandas.Series([], dtype="int64")}).to_parquet(folder / "none.parquet")


def test_help_has_examples(mmrl: Cli) -> None:
    code, out, _ = mmrl("score", "--help")
    assert code == 0
    assert "mmrl score runs/" in out.split("For example:")[1]
