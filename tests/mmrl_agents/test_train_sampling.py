"""Which episodes a step learns from, in whole runs: dynamic sampling, curriculum, turn cap, replay."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
import yaml
from learner_tools import StopAfter, repeatable, run_config
from safetensors.torch import load_file

from mmrl.cli.main import main
from mmrl.config_load import LoadedConfig
from mmrl.errors import BadInput
from mmrl.report import Quiet
from mmrl.store import RunStore, read_trajectories
from mmrl.trajectory import Trajectory
from mmrl_agents.learner import Learner
from mmrl_agents.sft import Sft
from mmrl_agents.train import Grpo

ENVS = '''
from mmrl import Env, Sample, SingleTurnEnv, Text

class Uneven(SingleTurnEnv):
    """Of every three seeds two are lost whatever is said; at the third about every second answer wins."""
    def reset(self, *, seed=None, options=None):
        self.flat = seed % 3 != 0
        return super().reset(seed=seed)
    def draw(self):
        return Sample.ask("say", "x")
    def grade(self, sample, response):
        return 0.0 if self.flat else float(sum(map(ord, response)) % 2)

class Coin(Uneven):
    def grade(self, sample, response):
        return float(sum(map(ord, response)) % 2)

class Once(Coin):
    """The first two tasks can be won, none after them."""
    def grade(self, sample, response):
        return super().grade(sample, response) if self.early else 0.0
    def reset(self, *, seed=None, options=None):
        self.early = seed <= 1_000_000
        return super().reset(seed=seed)

class Never(Uneven):
    def grade(self, sample, response):
        return 0.0

class Long(Env):
    """Goes on for ever; every turn is worth something else."""
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return (Text("go"),), {"sample": Sample.ask("go")}
    def step(self, action):
        return (Text("on"),), float(sum(map(ord, action)) % 2), False, False, {"success": False}
'''


def uneven(folder: Path, name: str = "run", env: str = "Uneven", **sections: Any) -> LoadedConfig:
    """A run in an environment of :data:`ENVS`; its tasks are seeds 0, 1, 2, ... past the first million."""
    (folder / "toys.py").write_text(ENVS)
    tree = {"environments": [{"id": f"{folder}/toys.py:{env}", "seeds": {"start": 999_999}}],
            "reward_plugins": [{"name": "env_reward"}], **sections}  # fmt: skip
    return run_config(folder, name, **tree)


def train(loaded: LoadedConfig, resume: bool = False, reporter: Any = None) -> Path:
    made = Grpo()
    made.check(loaded)
    return made.train(loaded, resume, reporter or Quiet())


class Bars(Quiet):
    """Remembers which bars were begun."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, int]] = []

    def begin(self, what: str, total: int) -> None:
        self.begun.append((what, total))


def test_the_update_sees_the_groups_with_spread_and_the_store_sees_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[tuple[list[Trajectory], list[float]]] = []
    plain = Learner.update

    def update(self: Learner, trajectories: Sequence[Trajectory], advantages: Sequence[float], *more: Any) -> Any:
        learned.append((list(trajectories), list(advantages)))
        return plain(self, trajectories, advantages, *more)

    monkeypatch.setattr(Learner, "update", update)
    loaded, bars = uneven(tmp_path, rollout={"dynamic_sampling": 8}, training_args={"max_steps": 2}), Bars()
    root = train(loaded, reporter=bars)
    metrics, first = RunStore(root).metrics(), 999_999
    for step, (m, (trajectories, advantages)) in enumerate(zip(metrics, learned, strict=True), 1):
        stored = read_trajectories(RunStore(root).rollouts_of(step))
        frame = pandas.read_parquet(RunStore(root).rollouts_of(step))
        groups = [stored[i : i + 4] for i in range(0, len(stored), 4)]
        assert [g[0].seed for g in groups] == list(range(first, first + len(groups)))
        assert [t.id for t in stored] == [f"s{step:06d}-{n:05d}" for n in range(len(stored))]
        first += len(groups)
        spread = [g for g in groups if len({t.record.value for t in g if t.record}) > 1]
        assert all(g[0].seed % 3 == 0 for g in spread)
        assert len(spread) == 2
        assert [t.id for t in trajectories] == [t.id for g in spread for t in g]
        by_id = dict(zip(frame["id"], frame["advantage"], strict=True))
        assert [by_id.pop(t.id) for t in trajectories] == advantages
        assert set(by_id.values()) == {0.0}
        assert m["success"] == sum(t.success for t in stored) / len(stored)
        assert m["groups/no_spread"] == m["groups/resampled"] == len(groups) - 2 > 0
        assert m["groups/dropped"] == m["invalid"] == 0.0
        assert m["tokens"] == sum(len(turn.token_ids) for t in trajectories for turn in t.turns)
    begun = [b for b in bars.begun if b[0].startswith("step 1:")]
    further = [f"step 1: episodes, round {n} of at most 9" for n in range(2, 1 + len(begun))]
    assert [what for what, _ in begun] == ["step 1: episodes", *further]
    assert sum(n for _, n in begun) == len(read_trajectories(RunStore(root).rollouts_of(1)))


def test_what_has_no_spread_at_the_limit_is_dropped(tmp_path: Path) -> None:
    root = train(uneven(tmp_path, env="Never", rollout={"dynamic_sampling": 2}, training_args={"max_steps": 2}))
    for m in RunStore(root).metrics():
        assert (m["groups/no_spread"], m["groups/resampled"], m["groups/dropped"]) == (6.0, 4.0, 2.0)
        assert m["update/skipped"] == 1.0
    assert len(read_trajectories(root)) == 48
    progress = json.loads((root / "checkpoints" / "step-2" / "progress.json").read_text())
    assert progress["cursor"] == [12]


def test_answers_that_were_cut_are_not_learned_from(tmp_path: Path) -> None:
    tokens: list[float] = []
    for masked in (False, True):
        root = train(run_config(tmp_path, f"run{masked}", rollout={"max_new_tokens": 40},
                                training_args={"max_steps": 1, "mask_truncated_completions": masked}))  # fmt: skip
        (m,), stored = RunStore(root).metrics(), read_trajectories(root)
        whole = {t.id: t.turns[-1].finish_reason == "stop" for t in stored}
        assert 0 < sum(whole.values()) < len(stored)
        assert m["overlong"] == len(stored) - sum(whole.values())
        frame = pandas.read_parquet(RunStore(root).rollouts_of(1))
        learned = dict(zip(frame["id"], frame["advantage"].notna(), strict=True))
        assert learned == (whole if masked else dict.fromkeys(whole, True))
        pulls = dict(zip(frame["id"], frame["advantage"].fillna(0) != 0, strict=True))
        assert m["tokens"] == sum(len(t.turns[0].token_ids) for t in stored if pulls[t.id])
        tokens.append(m["tokens"])
    assert 0 < tokens[1] < tokens[0]


def test_where_no_group_has_spread_the_entropy_bonus_acts_nevertheless(tmp_path: Path) -> None:
    args = {"max_steps": 2, "entropy_coef": 0.01, "entropy_target": 100.0}
    first, second = RunStore(train(uneven(tmp_path, env="Never", rollout={"dynamic_sampling": 1},
                                          training_args=args))).metrics()  # fmt: skip
    assert first["groups/dropped"] == second["groups/dropped"] == 2.0
    assert (first["update/skipped"], first["entropy"] > 0) == (1.0, True)
    assert "update/skipped" not in second
    assert second["tokens"] == second["tokens/sampled"]


@pytest.mark.parametrize("args", [{}, {"kl_coef": 0.1}, {"turn_discount": 0.5, "advantage": "batch_std"}])
def test_dynamic_sampling_that_finds_spread_at_once_changes_nothing(tmp_path: Path, args: dict[str, Any]) -> None:
    """Letters have spread in every group: the first round is all."""
    roots = [train(run_config(tmp_path, f"run{n}", training_args={**args, "max_steps": 2},
                              rollout={"dynamic_sampling": n, "max_new_tokens": 12})) for n in (0, 3)]  # fmt: skip
    plain, dynamic = (repeatable(RunStore(r).metrics()) for r in roots)
    assert [m["groups/resampled"] for m in dynamic] == [0.0, 0.0]
    for a, b in zip(plain, dynamic, strict=True):
        assert a == {k: b[k] for k in a}
    weights = [load_file(r / "final" / "model.safetensors") for r in roots]
    assert all(torch.equal(t, weights[1][n]) for n, t in weights[0].items())


def everything(folder: Path, name: str, **args: Any) -> LoadedConfig:
    """Three environments, two of which are never won, and all of the sampling policy."""
    (folder / "toys.py").write_text(ENVS)
    by_success = {"schedule": "metric", "metric": "success", "from": 1, "to": 3, "start": 0.0, "end": 0.3}
    return run_config(
        folder, name, environments=[{"id": f"{folder}/toys.py:{env}"} for env in ("Coin", "Never", "Long")],
        reward_plugins=[{"name": "env_reward"}], training_args={"learning_rate": 0.02, **args},
        rollout={"dynamic_sampling": 3, "max_turns": by_success, "max_new_tokens": 4},
        curriculum={"smoothing": 0.5, "floor": 0.2}, replay={"size": 3, "share": 0.4},
    )  # type: ignore[arg-type]  # fmt: skip


def comparable(root: Path) -> list[dict[str, Any]]:
    return repeatable(RunStore(root).metrics())


@pytest.mark.parametrize("args", [{}, {"turn_discount": 0.9, "num_iterations": 2, "importance_correction": "icepop"}])
def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path: Path, args: dict[str, Any]) -> None:
    whole, cut = train(everything(tmp_path, "whole", **args)), everything(tmp_path, "cut", **args)
    with pytest.raises(KeyboardInterrupt):
        train(cut, reporter=StopAfter(2))
    train(cut, resume=True)
    assert comparable(whole) == comparable(cut.output_dir)
    for where in ("final", "checkpoints/step-4"):
        a, b = (load_file(root / where / "model.safetensors") for root in (whole, cut.output_dir))
        assert all(torch.equal(t, b[n]) for n, t in a.items())
    states = [json.loads((r / "checkpoints/step-4/progress.json").read_text()) for r in (whole, cut.output_dir)]
    assert all(s.pop("minutes") > 0 for s in states)
    assert states[0] == states[1]
    before = json.loads((whole / "checkpoints/step-2/progress.json").read_text())
    assert before["remembered"], "what is resumed must have something to remember"
    assert any(m["replay/used"] > 0 for m in comparable(whole)[2:])


def test_what_a_run_with_all_of_it_says(tmp_path: Path) -> None:
    root = train(everything(tmp_path, "run"))
    metrics = RunStore(root).metrics()
    (name,) = [k.removeprefix("mix/") for k in metrics[0] if k.startswith("mix/") and "Coin" in k]
    never = name.replace("Coin", "Never")
    smoothed: float | None = None
    for step, m in enumerate(metrics, 1):
        stored = read_trajectories(RunStore(root).rollouts_of(step))
        factor = 1.0 if smoothed is None else max(0.2, 4 * smoothed * (1 - smoothed))
        others = [m[k] for k in m if k.startswith("mix/")]
        assert sum(others) == pytest.approx(1.0)
        known = any(f"success/{never}" in before for before in metrics[: step - 1])
        assert m[f"mix/{name}"] / m[f"mix/{never}"] == pytest.approx(factor / (0.2 if known else 1.0))
        if f"success/{name}" in m:
            own = [t.success for t in stored if t.env_id == name]
            assert m[f"success/{name}"] == sum(own) / len(own)
            smoothed = sum(own) / len(own) if smoothed is None else 0.5 * smoothed + 0.5 * sum(own) / len(own)
        before = metrics[step - 2]["success"] if step > 1 else 0.0
        assert m["max_turns"] == round(1 + 2 * min(1.0, before / 0.3))
        assert max(len(t.turns) for t in stored) <= m["max_turns"]
        assert m["replay/used"] == min(m["replay/known"], round(8 * 0.4 / 0.6))
    assert metrics[0]["replay/used"] == 0.0
    used = [m for m in metrics if m["replay/used"] > 0]
    assert used
    assert all(m["mismatch_kl"] > 1e-6 for m in used), "a replayed token was sampled by an older policy"


@pytest.mark.parametrize("rounds", [0, 1])
def test_replay_teaches_where_nothing_else_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rounds: int) -> None:
    """After the first step no group has spread; later ones learn from what the first one found."""
    learned: list[list[tuple[str, float]]] = []
    plain = Learner.update

    def update(self: Learner, trajectories: Sequence[Trajectory], advantages: Sequence[float], *more: Any) -> Any:
        learned.append([(t.id, a) for t, a in zip(trajectories, advantages, strict=True)])
        return plain(self, trajectories, advantages, *more)

    monkeypatch.setattr(Learner, "update", update)
    run: dict[str, Any] = {"env": "Once", "rollout": {"dynamic_sampling": rounds}, "training_args": {"max_steps": 3}}
    root = train(uneven(tmp_path, replay={"size": 8, "share": 0.5}, **run))
    metrics = RunStore(root).metrics()
    won = {t.id for t in read_trajectories(RunStore(root).rollouts_of(1)) if t.success}
    first = {i: a for i, a in learned[0] if i in won and a > 0}
    assert first
    for ids, m in zip(learned[1:], metrics[1:], strict=True):
        replays = [(i, a) for i, a in ids if i.startswith("s000001")]
        assert dict(replays) == first
        assert len(replays) == m["replay/used"] == len(first)
        assert [a for i, a in ids if not i.startswith("s000001")] == [0.0] * (0 if rounds else 8)
        assert m["mismatch_kl"] > 0, "an older policy sampled it"
        assert m["grad_norm"] > 0
    none = train(uneven(tmp_path, "none", **run))
    assert [m.get("update/skipped") for m in RunStore(none).metrics()] == [None, 1.0, 1.0]


def test_wrong_settings_are_bad_input_before_anything_is_loaded(tmp_path: Path) -> None:
    ppo = {"advantage": "reinforce_pp", "num_generations": 1}
    for sections, words in (
        ({"rollout": {"dynamic_sampling": 1}, "training_args": ppo}, "dynamic_sampling replaces groups without spread"),
        ({"curriculum": {}}, "a curriculum weighs environments against each other"),
        ({"replay": {}, "training_args": {"importance_correction": "none"}}, "replay learns from what older policies"),
    ):
        with pytest.raises(BadInput, match=words):
            Grpo().check(run_config(tmp_path, **sections))  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["curriculum", "replay"])
def test_imitation_knows_none_of_it(tmp_path: Path, key: str) -> None:
    loaded = run_config(tmp_path, train_type="SFT", sft={"rollouts": []}, **{key: {}})  # type: ignore[arg-type]
    with pytest.raises(BadInput, match=rf"run\.yaml:\d+: {key} belongs to GRPO; SFT imitates what 'sft' names"):
        Sft().check(loaded)


def test_mmrl_train_with_all_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command line, on the embedded policy."""
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({
        "train_type": "GRPO", "model_id": "mmrl/tiny",
        "environments": [{"id": "text/arithmetic"}, {"id": "babyai/GoToObj", "weight": 2.0}],
        "reward_plugins": [{"name": "env_reward"}],
        "training_args": {"output_dir": str(tmp_path / "run"), "max_steps": 3, "num_generations": 4,
                          "per_device_train_batch_size": 8, "save_steps": 1, "learning_rate": 1e-4},
        "rollout": {"max_new_tokens": 8, "dynamic_sampling": 2,
                    "max_turns": {"schedule": "linear", "from": 3, "to": 6, "end": 0.6}},
        "curriculum": {"smoothing": 0.5}, "replay": {"size": 4, "share": 0.3},
        "eval": {"episodes": 0, "final_episodes": 0},
    }))  # fmt: skip
    assert main(["train", str(tmp_path / "c.yaml")]) == 0, capsys.readouterr()
    metrics = RunStore(tmp_path / "run").metrics()
    assert [m["max_turns"] for m in metrics] == [3, 5, 6]
    for m in metrics:
        assert m["mix/text/arithmetic"] + m["mix/babyai/GoToObj"] == pytest.approx(1.0)
        assert m["groups/no_spread"] == m["groups/resampled"] + m["groups/dropped"]
    assert metrics[0]["mix/babyai/GoToObj"] == pytest.approx(2 / 3)
