"""Rewards in a real training run: broken plugins, schedules, state after a resume."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from learner_tools import repeatable

from mmrl.config_load import load_config
from mmrl.registry import PLUGINS
from mmrl.report import Quiet
from mmrl.store import RunStore, read_trajectories
from mmrl.stored_run import StoredRun
from mmrl_agents.train import Grpo

BROKEN = '''
import math
import time
import mmrl

class Raises(mmrl.RewardPlugin):
    def compute(self, trajectory):
        if trajectory.seed % 7 == 6:
            raise ValueError("seven")
        return 0.0

class IsNan(mmrl.RewardPlugin):
    def compute(self, trajectory):
        return math.nan if trajectory.id.endswith("3") else 0.0

class Hangs(mmrl.RewardPlugin):
    def compute(self, trajectory):
        if trajectory.id.endswith("5"):
            time.sleep(3600)
        return 0.0

class WrongLength(mmrl.RewardPlugin):
    def score(self, trajectories):
        return [mmrl.Score(0.0)] * (0 if any(t.id.endswith("1") for t in trajectories) else len(trajectories))

@mmrl.reward_plugin
def answer_length(response: str) -> float:
    return float(len(response))

@mmrl.reward_plugin
def where(step: int, progress: float) -> float:
    return step + progress
'''


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(PLUGINS, "local", {})
    path = tmp_path / "plugins.py"
    path.write_text(BROKEN)
    return path


class Listening(Quiet):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def config(tmp_path: Path, entries: list[dict[str, Any]], steps: int = 2, **training: Any) -> Path:
    tree = {
        "train_type": "GRPO", "model_id": "mmrl/tiny", "environments": [{"id": "text/arithmetic"}],
        "reward_plugins": entries,
        "training_args": {"output_dir": str(tmp_path / "run"), "max_steps": steps, "per_device_train_batch_size": 8,
                          "num_generations": 4, "learning_rate": 1e-4, **training},
        "rollout": {"max_new_tokens": 4}, "eval": {"episodes": 0, "final_episodes": 0},
    }  # fmt: skip
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def test_training_goes_on_beside_broken_plugins_and_counts_them(tmp_path: Path, plugins: Path) -> None:
    names = ["Raises", "IsNan", "Hangs", "WrongLength"]
    entries = [{"name": f"{plugins}:{n}", "as": n, "timeout_s": 0.5} for n in names]
    path = config(tmp_path, [{"name": f"{plugins}:answer_length", "as": "length"}, *entries])
    reporter = Listening()
    store = RunStore(Grpo().train(load_config(path), False, reporter))
    metrics = store.metrics()
    assert [m["step"] for m in metrics] == [1, 2]
    for m in metrics:
        assert [m[f"failed/{n}"] for n in names[1:]] == [1.0, 1.0, 1.0]
        assert m["failed/length"] == 0.0
        assert m["failed_scores"] == 3.0 + m["failed/Raises"]
        assert m["invalid"] >= 3.0
    assert "plugin 'IsNan' failed on 1 of 8 rollouts: the score is nan, not a finite number" in reporter.said
    assert "plugin 'Hangs' failed on 1 of 8 rollouts: Overdue: no answer after 0.5 s" in reporter.said
    for t in read_trajectories(store.root):
        assert t.valid == (not {"1", "3", "5"} & {t.id[-1]} and t.seed % 7 != 6)


def test_a_metric_that_is_not_logged_every_step_keeps_its_newest_value(tmp_path: Path) -> None:
    weight = {"schedule": "metric", "metric": "eval/success", "from": 5, "to": 6, "start": -1, "end": 1}
    path = config(tmp_path, [{"name": "number_match", "weight": weight}], steps=4)
    overrides = ["eval.episodes=4", "eval.every=2"]
    root = Grpo().train(load_config(path, overrides), False, Listening())
    metrics = RunStore(root).metrics()
    assert ["eval/success" in m for m in metrics] == [False, True, False, True]
    after = 5 + (metrics[1]["eval/success"] + 1) / 2
    assert [m["weight/number_match"] for m in metrics] == pytest.approx([5.0, 5.0, after, after])
    # Scoring the stored run again sees the run as the trainer saw it.
    assert [StoredRun.find(root).state(s).metrics.get("eval/success") for s in (2, 3, 4)] == [
        None, metrics[1]["eval/success"], metrics[1]["eval/success"],
    ]  # fmt: skip


def test_weights_follow_the_run_also_after_a_resume(tmp_path: Path, plugins: Path) -> None:
    entries = [
        {"name": f"{plugins}:where", "as": "where", "weight": {"schedule": "linear", "from": 0, "to": 1}},
        {"name": f"{plugins}:answer_length", "as": "length",
         "weight": {"schedule": "metric", "metric": "reward/where", "from": 5, "to": 0, "start": 0, "end": 5}},
    ]  # fmt: skip
    path = config(tmp_path, entries, steps=4, save_steps=2)
    root = Grpo().train(load_config(path), False, Listening())
    metrics = RunStore(root).metrics()
    assert [m["reward/where"] for m in metrics] == [1.0, 2.25, 3.5, 4.75]
    assert [m["weight/where"] for m in metrics] == [0.0, 0.25, 0.5, 0.75]
    assert [m["weight/length"] for m in metrics] == pytest.approx([5.0, 4.0, 2.75, 1.5])
    for step in (4, 3):  # as if killed after step 2
        for stale in root.glob(f"checkpoints/step-*{step}"):
            shutil.rmtree(stale)
    again = RunStore(Grpo().train(load_config(path), True, Listening())).metrics()
    assert repeatable(again) == repeatable(metrics)
