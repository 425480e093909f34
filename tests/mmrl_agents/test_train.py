import json
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
from learner_tools import Listening, StopAfter, ragged, repeatable, run_config
from safetensors.torch import load_file
from torch import Tensor

import mmrl
from mmrl.config_load import LoadedConfig
from mmrl.errors import BadInput, RunStopped
from mmrl.report import Quiet
from mmrl.store import RunStore, read_trajectories
from mmrl_agents.batch import segments_of
from mmrl_agents.logprobs import Scorer
from mmrl_agents.models import find_model, load_model, load_processing
from mmrl_agents.sft import Sft, pick
from mmrl_agents.train import Grpo

MIX = [{"id": "text/arithmetic", "weight": 2.0}, {"id": "babyai/GoToLocal", "kwargs": {}}]


def train(loaded: LoadedConfig, resume: bool = False, reporter: Any = None, trainer: Any = None) -> Path:
    made = trainer or Grpo()
    made.check(loaded)
    return made.train(loaded, resume, reporter or Quiet())


def bits(root: Path, step: int = 4) -> dict[str, Tensor]:
    """Weights and optimiser state of a run's checkpoint, and its published weights."""
    folder = root / "checkpoints" / f"step-{step}"
    out: dict[str, Tensor] = {}
    for where in (folder, root / "final"):
        for file in sorted(where.glob("*.safetensors")):
            out |= {f"{where.name}/{n}": t for n, t in load_file(file).items()}
    state = torch.load(folder / "learner.pt", weights_only=True)
    for i, moments in state["optimizer"]["state"].items():
        out |= {f"{i}/{n}": t for n, t in moments.items()}
    return {**out, "rng": state["rng"]}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    assert a.keys() == b.keys()
    assert len(a) > 20
    return all(torch.equal(a[k], b[k]) for k in a)


def comparable(root: Path) -> list[dict[str, Any]]:
    """The metrics without the times."""
    return repeatable(RunStore(root).metrics())


LORA = {"lora": {"r": 2, "dropout": 0.1}, "kl_coef": 0.05}
KINDS = {
    "full": {"rollout": {"max_new_tokens": 6}},
    "lora, a mix, windows": {"environments": MIX, "training_args": {**LORA, "num_iterations": 2},
                             "rollout": {"max_new_tokens": 4, "max_turns": 3, "window": 2}},
    "tokens, an entropy target": {"training_args": {"advantage": "reinforce_pp", "num_generations": 1,
                                                    "loss_type": "gspo", "importance_correction": "geometric",
                                                    "entropy_coef": 0.01, "entropy_target": 100.0}},
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path: Path, kind: str) -> None:
    whole = train(run_config(tmp_path, "whole", **KINDS[kind]))
    cut = run_config(tmp_path, "cut", **KINDS[kind])
    with pytest.raises(KeyboardInterrupt):
        train(cut, reporter=StopAfter(2))
    assert [n for n, _ in RunStore(cut.output_dir).checkpoints()] == [1, 2]
    train(cut, resume=True)
    assert same(bits(whole), bits(cut.output_dir))
    assert comparable(whole) == comparable(cut.output_dir)
    start = load_file(find_file(whole / "checkpoints" / "step-1"))
    assert not all(torch.equal(t, start[n]) for n, t in load_file(find_file(whole / "final")).items())


def find_file(folder: Path) -> Path:
    (file,) = folder.glob("*.safetensors")
    return file


def test_the_same_config_and_seed_give_the_same_bits_and_another_seed_others(tmp_path: Path) -> None:
    one, two = (train(run_config(tmp_path, n, environments=MIX, rollout={"max_turns": 2})) for n in ("one", "two"))
    assert same(bits(one), bits(two))
    other = train(run_config(tmp_path, "other", environments=MIX, rollout={"max_turns": 2}, training_args={"seed": 1}))
    assert not same(bits(one), bits(other))


def test_batching_as_requests_come_trains_too(tmp_path: Path) -> None:
    root = train(run_config(tmp_path, rollout={"deterministic": False, "concurrency": 3, "max_batch": 2}))
    assert [m["step"] for m in RunStore(root).metrics()] == [1, 2, 3, 4]


def test_what_a_run_leaves_behind(tmp_path: Path) -> None:
    root = train(run_config(tmp_path, environments=MIX, rollout={"max_turns": 3}, training_args={"kl_coef": 0.1}))
    metrics = RunStore(root).metrics()
    assert [m["step"] for m in metrics] == [1, 2, 3, 4]
    assert metrics[0]["kl"] == 0.0
    assert metrics[1]["kl"] > 0.0
    for m in metrics:
        assert m["ratio_deviation"] == 0.0
        assert m["mismatch_kl"] == pytest.approx(0.0, abs=1e-6)
        assert m["effective_sample"] == pytest.approx(1.0, abs=1e-4)
        assert m["reward"] == m["reward/letters"]
        parts = [m[f"time/{kind}"] for kind in ("generate", "env", "score", "update")]
        assert all(seconds > 0 for seconds in parts)
        assert m["time/rollout"] >= m["time/generate"]
        assert m["speed/tokens_per_s"] == pytest.approx(m["tokens/sampled"] / m["time/generate"])
        assert m["memory/peak_gib"] > 0
    table = pandas.read_parquet(root / "rollouts")
    assert len(table) == 32
    assert set(table["step"]) == {1, 2, 3, 4}
    for _, group in table.groupby("group"):
        assert len(group) == 4
        assert group["seed"].nunique() == 1
        assert group["advantage"].sum() == pytest.approx(0.0, abs=1e-9)
    stored = read_trajectories(root)
    assert {turn.version for t in stored[:8] for turn in t.turns} == {0}
    assert {turn.version for t in stored[-8:] for turn in t.turns} == {3}
    assert load_model(find_model(str(root))).dtype == torch.float32
    assert load_processing(find_model(str(root))).chat_template


def test_stored_log_probabilities_are_the_policys(tmp_path: Path) -> None:
    """Rollouts of step 2 were sampled by the weights of checkpoint 1: nothing stale, nothing early."""
    root = train(run_config(tmp_path, environments=[{"id": "babyai/GoToLocal"}], training_args={"learning_rate": 0.02},
                            rollout={"max_turns": 3, "max_new_tokens": 4, "temperature": 0.7}))  # fmt: skip
    (stored, versions) = read_trajectories(root / "rollouts" / "step-000002.parquet"), {}
    for step in (1, 2):
        model = load_model(find_model(str(root / "checkpoints" / f"step-{step}")))
        gaps = []
        for s in [s for i, t in enumerate(stored) for s in segments_of(t, i)]:
            mask = torch.tensor([s.mask[1:]])
            expected = Scorer(model.eval(), 0.7)(torch.tensor([s.ids]), mask)[0][mask].detach()
            gaps.append(float((expected - torch.tensor(s.mu[1:])[mask[0]]).abs().max()))
        versions[step] = max(gaps)
    assert versions[1] < 1e-5
    assert versions[2] > 1e-3


def test_a_window_shows_the_last_turns_and_trains_each_turn(tmp_path: Path) -> None:
    root = train(run_config(tmp_path, environments=[{"id": "babyai/GoToLocal"}], training_args={"max_steps": 1},
                            rollout={"max_turns": 4, "max_new_tokens": 3, "window": 1}))  # fmt: skip
    tokenizer = load_processing(find_model(str(root)))
    for t in read_trajectories(root):
        for turn in t.turns:
            text = tokenizer.decode(list(turn.prompt_ids))
            assert text.count("<|user|>") == text.count("<|assistant|>") == text.count("<|system|>") == 1
        assert len(segments_of(t, 0)) == len(t.turns) == 4


PLUGINS = '''
class Moody:
    """Fails on answers that begin with a letter of its choice."""
    def __init__(self, upto="z"):
        self.upto = upto
    def compute(self, response):
        if response[:1].lower() <= self.upto:
            raise ValueError("not in the mood")
        return len(set(response))

class Never:
    def compute(self, response):
        raise RuntimeError("never")

class Until:
    def __init__(self, last):
        self.last = last
    def compute(self, response, step):
        if step > self.last:
            raise RuntimeError("gone")
        return len(response)

class Elsewhere:
    def compute(self, response):
        return None
'''


def test_a_plugins_failure_masks_the_trajectory_out_and_is_counted(tmp_path: Path) -> None:
    (tmp_path / "moody.py").write_text(PLUGINS)
    root = train(run_config(tmp_path, reward_plugins=[{"name": f"{tmp_path}/moody.py:Moody", "as": "moody",
                                                       "kwargs": {"upto": "m"}}]))  # fmt: skip
    table = pandas.read_parquet(root / "rollouts")
    failed = [not t.valid for t in read_trajectories(root)]
    assert 0 < sum(failed) < 32
    assert table["advantage"].isna().tolist() == failed
    for step, m in enumerate(RunStore(root).metrics(), 1):
        assert m["failed_scores"] == m["invalid"] == sum(failed[8 * step - 8 : 8 * step])
        assert m["errors"] == 0.0
    for _, group in table.groupby("group"):
        assert group["advantage"].sum() == pytest.approx(0.0, abs=1e-9)


def test_a_plugin_that_always_fails_stops_the_run(tmp_path: Path) -> None:
    (tmp_path / "moody.py").write_text(PLUGINS)
    loaded = run_config(tmp_path, reward_plugins=[{"name": f"{tmp_path}/moody.py:Never", "as": "never"}])
    with pytest.raises(RunStopped, match=r"^no rollout of step 1 has a reward: plugin 'never' failed on 8 of 8 "
                                         r"\(RuntimeError: never\); nothing can be learned: mend never, "):  # fmt: skip
        train(loaded)
    assert not RunStore(loaded.output_dir).checkpoints()


def test_a_plugin_that_fails_from_some_step_on_stops_the_run_at_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "moody.py").write_text(PLUGINS)
    entries = [{"name": f"{tmp_path}/moody.py:Until", "as": "until", "kwargs": {"last": 2}}]
    loaded = run_config(tmp_path, reward_plugins=entries, training_args={"max_steps": 9, "save_steps": 100})
    with pytest.raises(RunStopped, match=r"of step 5 has a reward: .* \(3 steps in a row\); nothing can be learned"):
        train(loaded)
    store = RunStore(loaded.output_dir)
    assert [n for n, _ in store.checkpoints()] == [4]
    assert [m.get("update/skipped", 0.0) for m in store.metrics()] == [0.0, 0.0, 1.0, 1.0]
    with pytest.raises(RunStopped, match=r"of step 5 has a reward: plugin 'until' failed on 8 of 8 \(.*\); nothing"):
        train(loaded, resume=True)


def test_a_plugin_that_never_applies_is_said(tmp_path: Path) -> None:
    (tmp_path / "moody.py").write_text(PLUGINS)
    entries = [{"name": f"{tmp_path}/moody.py:Elsewhere", "as": "elsewhere"}]
    reporter = Listening()
    root = train(run_config(tmp_path, reward_plugins=entries, training_args={"max_steps": 1}), reporter=reporter)
    assert reporter.said[-1] == ("no rollout of step 1 has a reward: plugin 'elsewhere' applied to none of 8 "
                                 "(the plugin gave no answer)")  # fmt: skip
    assert [m["update/skipped"] for m in RunStore(root).metrics()] == [1.0]


ENV = '''
from mmrl import SingleTurnEnv, Sample

class Brittle(SingleTurnEnv):
    """Breaks on every third seed."""
    def reset(self, *, seed=None, options=None):
        self.broken = seed % 3 == 0
        return super().reset(seed=seed, options=options)
    def draw(self):
        return Sample.ask("say", "x")
    def step(self, action):
        if self.broken:
            raise OSError("the simulator died")
        return super().step(action)
'''


def test_an_environments_exception_ends_its_episode_only(tmp_path: Path) -> None:
    (tmp_path / "brittle.py").write_text(ENV)
    seeds = {"start": 1, "count": 3}  # 1, 2, 3: the last breaks
    root = train(run_config(tmp_path, environments=[{"id": f"{tmp_path}/brittle.py:Brittle", "seeds": seeds}]))
    stored = read_trajectories(root)
    assert {t.seed for t in stored if t.error} == {3}
    assert {t.error for t in stored} == {None, "OSError: the simulator died"}
    assert [m["errors"] for m in RunStore(root).metrics()] == [0.0, 4.0, 4.0, 0.0]
    assert pandas.read_parquet(root / "rollouts")["advantage"].isna().sum() == 8


EVAL = {"episodes": 4, "final_episodes": 6, "every": 2, "seed": 100, "final_seed": 7}


def test_held_out_evaluation_chooses_the_best(tmp_path: Path) -> None:
    root = train(run_config(tmp_path, environments=MIX, rollout={"max_turns": 2}, eval={**EVAL, "max_turns": 2}))
    metrics = RunStore(root).metrics()
    assert ["eval/success" in m for m in metrics] == [False, True, False, True]
    names = {p.name for p in (root / "eval").iterdir()}
    assert names == {f"{when}-{env}.json" for when in ("before", "after", "step-000002", "step-000004")
                     for env in ("text-arithmetic", "babyai-GoToLocal")}  # fmt: skip
    before = json.loads((root / "eval" / "before-text-arithmetic.json").read_text())
    assert (before["seeds"], before["episodes"]) == ([7, 12], 6)
    assert (root / "best" / "model.safetensors").is_file()
    assert json.loads((root / "checkpoints" / "step-4" / "progress.json").read_text())["best"] == 0.0


def test_evaluation_leaves_the_training_alone(tmp_path: Path) -> None:
    one, two = run_config(tmp_path, "one"), run_config(tmp_path, "two", eval=EVAL)
    assert same(bits(train(one)), bits(train(two)))


def test_a_resume_under_another_config_is_refused(tmp_path: Path) -> None:
    first = run_config(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(first, reporter=StopAfter(1))
    changed = run_config(tmp_path, training_args={"learning_rate": 0.5})
    with pytest.raises(BadInput, match=r"config: training_args\.learning_rate: was 0\.001, now 0\.5; resume"):
        train(changed, resume=True)
    with pytest.raises(BadInput, match="exists and is not empty; continue that run with --resume"):
        train(run_config(tmp_path))


def test_resume_without_a_run_starts_one(tmp_path: Path) -> None:
    root = train(run_config(tmp_path, training_args={"max_steps": 1}), resume=True)
    assert [m["step"] for m in RunStore(root).metrics()] == [1]


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    loaded = run_config(tmp_path)
    before = bits(train(loaded))
    assert same(before, bits(train(loaded, resume=True)))
    assert len(RunStore(loaded.output_dir).metrics()) == 4


def test_time_ends_a_run(tmp_path: Path) -> None:
    reporter = Listening()
    root = train(run_config(tmp_path, training_args={"max_minutes": 1e-9}), reporter=reporter)
    minutes = RunStore(root).metrics()[-1]["time/minutes"]
    said = f"stopped after {minutes:.3g} minutes of training (training_args.max_minutes), step 1 of 4"
    assert reporter.said[-1] == said
    assert [n for n, _ in RunStore(root).checkpoints()] == [1]
    assert (root / "final").is_dir()


def test_wrong_names_are_bad_input_before_anything_is_loaded(tmp_path: Path) -> None:
    for args, words in (({"loss_type": "gropo"}, "unknown loss_type 'gropo'; did you mean 'grpo'"),
                        ({"advantage": "drgrpo"}, "unknown advantage 'drgrpo'; did you mean 'dr_grpo'"),
                        ({"num_generations": 3}, "must be a multiple of num_generations")):  # fmt: skip
        with pytest.raises(BadInput, match=words):
            Grpo().check(run_config(tmp_path, training_args=args))
    with pytest.raises(BadInput, match="GRPO needs at least one entry in reward_plugins"):
        Grpo().check(run_config(tmp_path, reward_plugins=[]))  # type: ignore[arg-type]


def test_credit_by_state_needs_states(tmp_path: Path) -> None:
    for key, value, instead in (("turn_baseline", "state", "group"), ("advantage", "gigpo", "grpo")):
        words = f"{key} is '{value}', but text/arithmetic reports no state_key; take '{instead}'"
        with pytest.raises(BadInput, match=words):
            Grpo().check(run_config(tmp_path, training_args={key: value}))


def test_gigpo_trains_on_turns(tmp_path: Path) -> None:
    args = {"advantage": "gigpo", "turn_discount": 0.95, "loss_type": "cispo", "max_steps": 1}
    loaded = run_config(tmp_path, environments=[{"id": "babyai/GoToLocal"}], training_args=args,
                        rollout={"max_new_tokens": 4, "max_turns": 3, "window": 1})  # fmt: skip
    (metrics,) = RunStore(train(loaded)).metrics()
    assert metrics["turns"] == 3.0
    assert metrics["grad_norm"] > 0
    assert metrics["update/not_finite"] == 0.0


def sft_config(tmp_path: Path, name: str, **args: Any) -> LoadedConfig:
    """Imitates the expert's sums."""
    if not (tmp_path / "expert").exists():
        sums = mmrl.rollout("text/arithmetic", policy="expert", seeds=range(6), rewards=[{"name": "env_reward"}])
        RunStore.create(tmp_path / "expert", "").write_rollouts(0, sums, [None] * 6)
    return run_config(tmp_path, name, train_type="SFT", sft={"rollouts": [str(tmp_path / "expert")]},
                      training_args={"learning_rate": 0.01, **args})  # type: ignore[arg-type]  # fmt: skip


@pytest.mark.parametrize("args", [{}, {"lora": {"r": 4, "dropout": 0.1}}], ids=["full", "lora"])
def test_imitation_lowers_the_loss_and_resumes_to_the_same_bits(tmp_path: Path, args: dict[str, Any]) -> None:
    whole = train(sft_config(tmp_path, "whole", **args), trainer=Sft())
    losses = [m["loss"] for m in RunStore(whole).metrics()]
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    cut = sft_config(tmp_path, "cut", **args)
    with pytest.raises(KeyboardInterrupt):
        train(cut, reporter=StopAfter(2), trainer=Sft())
    train(cut, resume=True, trainer=Sft())
    assert same(bits(whole), bits(cut.output_dir))


def test_imitation_learns_the_answers_by_heart(tmp_path: Path) -> None:
    root = train(sft_config(tmp_path, "run", max_steps=60, learning_rate=0.02, save_steps=100), trainer=Sft())
    losses = [m["loss"] for m in RunStore(root).metrics()]
    assert losses[0] > 3.0
    assert losses[-1] < 0.6


def test_rollouts_of_a_grpo_run_can_be_imitated(tmp_path: Path) -> None:
    collected = train(run_config(tmp_path, "collected", training_args={"max_steps": 1}))
    sft = {"rollouts": [str(collected)], "success_only": False}
    root = train(run_config(tmp_path, "sft", train_type="SFT", sft=sft), trainer=Sft())  # type: ignore[arg-type]
    assert len(RunStore(root).metrics()) == 4
    with pytest.raises(BadInput, match=r"none of the 8 stored episodes succeeded"):
        train(run_config(tmp_path, "none", train_type="SFT", sft={**sft, "success_only": True}), trainer=Sft())  # type: ignore[arg-type]


def test_pick_goes_through_all_segments_before_any_comes_twice(tmp_path: Path) -> None:
    segments = [s for i, t in enumerate(ragged(5)) for s in segments_of(t, i)]
    n = len(segments)
    drawn = [s for step in range(1, 2 * n + 1) for s in pick(segments, step, 3, 0)]
    for epoch in range(6):
        assert sorted(map(hash, drawn[epoch * n : epoch * n + n])) == sorted(map(hash, segments))
    assert drawn[:n] != drawn[n : 2 * n]
    assert pick(segments, 3, 3, 0) == drawn[6:9]


def test_training_makes_a_rewarded_answer_likelier(tmp_path: Path) -> None:
    """The whole loop against what it is for: the reward rises, clearly."""
    loaded = run_config(tmp_path, training_args={"max_steps": 40, "learning_rate": 0.01, "save_steps": 100,
                                                 "lr_scheduler_type": "constant", "num_generations": 8})  # fmt: skip
    rewards = [m["reward"] for m in RunStore(train(loaded)).metrics()]
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.1


def test_learner_is_told_of_every_optimiser_step_of_the_schedule(tmp_path: Path) -> None:
    root = train(run_config(tmp_path, training_args={"num_iterations": 2}))
    rates = [m["learning_rate"] for m in RunStore(root).metrics()]
    assert rates == pytest.approx([1e-3 * (1 - s / 8) for s in (1, 3, 5, 7)])
