"""Batches drawn ahead, in whole runs: which policy samples what, the same bits whatever takes how long, ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
from learner_tools import StopAfter, repeatable, run_config
from safetensors.torch import load_file
from torch import Tensor

from mmrl.config_load import LoadedConfig
from mmrl.policy import Completion, Request
from mmrl.report import Quiet
from mmrl.store import RunStore, read_trajectories
from mmrl.trajectory import Trajectory
from mmrl_agents.ahead import Ahead, Handed, version_for
from mmrl_agents.batch import segments_of
from mmrl_agents.learner import Learner
from mmrl_agents.logprobs import Scorer
from mmrl_agents.models import find_model, load_model
from mmrl_agents.policies.hf import HFPolicy
from mmrl_agents.ppo import Ppo
from mmrl_agents.train import Grpo


def train(loaded: LoadedConfig, resume: bool = False, reporter: Any = None, trainer: Any = None) -> Path:
    made = trainer or Grpo()
    made.check(loaded)
    return made.train(loaded, resume, reporter or Quiet())


def bits(root: Path) -> dict[str, Tensor]:
    """The weights and the optimiser's state that a run ended with."""
    (file,) = (root / "final").glob("*.safetensors")
    (newest, folder) = RunStore(root).checkpoints()[-1]
    state = torch.load(folder / "learner.pt", weights_only=True)
    moments = {f"{i}/{n}": t for i, m in state["optimizer"]["state"].items() for n, t in m.items()}
    return {**load_file(file), **moments, "rng": state["rng"], "step": torch.tensor(newest)}


def same(one: Path, other: Path) -> bool:
    a, b = bits(one), bits(other)
    assert a.keys() == b.keys()
    assert len(a) > 20
    assert repeatable(RunStore(one).metrics()) == repeatable(RunStore(other).metrics())
    return all(torch.equal(a[k], b[k]) for k in a)


def ids(root: Path) -> list[str]:
    return [t.id for t in read_trajectories(root)]


def alive() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "mmrl-ahead"]


ENVS = '''
from mmrl import Env, Sample, SingleTurnEnv, Text

class Coin(SingleTurnEnv):
    """About every second answer wins."""
    def draw(self):
        return Sample.ask("say", "x")
    def grade(self, sample, response):
        return float(sum(map(ord, response)) % 2)

class Long(Env):
    """Goes on for ever; every turn is worth something else."""
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return (Text("go"),), {"sample": Sample.ask("go")}
    def step(self, action):
        return (Text("on"),), float(sum(map(ord, action)) % 2), False, False, {"success": False}
'''


def everything(folder: Path, name: str, ahead: int, **args: Any) -> LoadedConfig:
    """A run whose course hangs on all that batches leave behind: tasks, success, metrics, what was won."""
    (folder / "toys.py").write_text(ENVS)
    cap = {"schedule": "metric", "metric": "success", "from": 1, "to": 3, "start": 0.0, "end": 0.4}
    return run_config(
        folder, name, [{"id": f"{folder}/toys.py:{env}"} for env in ("Coin", "Long")],
        rollout={"async_steps": ahead, "max_new_tokens": 4, "max_turns": cap, "dynamic_sampling": 2},
        curriculum={"smoothing": 0.5, "floor": 0.2}, replay={"size": 3, "share": 0.4},
        reward_plugins=[{"name": "env_reward"}], training_args={"learning_rate": 0.02, "max_steps": 5, **args},
    )  # type: ignore[arg-type]  # fmt: skip


def test_the_policy_that_samples_the_batch_of_a_step() -> None:
    assert [version_for(step, 1) for step in range(1, 6)] == [0, 0, 1, 2, 3]
    assert [version_for(step, 3) for step in range(1, 7)] == [0, 0, 0, 0, 1, 2]


@pytest.mark.parametrize("ahead", [1, 3])
def test_every_turn_carries_its_version_and_steps_say_how_old(tmp_path: Path, ahead: int) -> None:
    root = train(run_config(tmp_path, training_args={"max_steps": 5}, rollout={"async_steps": ahead}))
    for m in RunStore(root).metrics():
        step = int(m["step"])
        version = max(0, step - 1 - ahead)
        stored = read_trajectories(RunStore(root).rollouts_of(step))
        assert {turn.version for t in stored for turn in t.turns} == {version}
        assert m["staleness/mean"] == m["staleness/max"] == step - 1 - version
        assert m["staleness/dropped"] == m["invalid"] == 0.0
        assert (m["mismatch_kl"] > 1e-7) == (version < step - 1), "the update corrects for older samplers"
        assert m["mismatch/kl"] < 1e-9, "the sampler and its own version agree"
    assert set(pandas.read_parquet(root / "rollouts")["policy_version"]) == set(range(5 - ahead))
    assert alive() == []


def test_stored_log_probabilities_are_those_of_the_version(tmp_path: Path) -> None:
    """Rollouts of step 3 were sampled by the weights of checkpoint 1, while step 2 wrote those of checkpoint 2."""
    root = train(run_config(tmp_path, environments=[{"id": "babyai/GoToLocal"}],
                            training_args={"learning_rate": 0.02, "max_steps": 3},
                            rollout={"max_turns": 3, "max_new_tokens": 4, "async_steps": 1}))  # fmt: skip
    far: dict[int, float] = {}
    for step in (1, 2):
        model = load_model(find_model(str(root / "checkpoints" / f"step-{step}")))
        gaps: list[float] = []
        for s in [s for t in read_trajectories(RunStore(root).rollouts_of(3)) for s in segments_of(t, 0)]:
            mask = torch.tensor([s.mask[1:]])
            expected = Scorer(model.eval(), 1.0)(torch.tensor([s.ids]), mask)[0][mask].detach()
            gaps.append(float((expected - torch.tensor(s.mu[1:])[mask[0]]).abs().max()))
        far[step] = max(gaps)
    assert far[1] < 1e-5
    assert far[2] > 1e-3


def test_the_same_bits_whatever_takes_how_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roots = [train(everything(tmp_path, "plain", 2))]
    update, answer = Learner.update, HFPolicy.generate

    def slow_update(self: Learner, *args: Any) -> dict[str, float]:
        time.sleep(0.3)
        return update(self, *args)

    async def slow_answer(self: HFPolicy, requests: Sequence[Request]) -> list[Completion]:
        time.sleep(0.1)
        return await answer(self, requests)

    with monkeypatch.context() as m:
        m.setattr(Learner, "update", slow_update)
        roots.append(train(everything(tmp_path, "slow update", 2)))
    with monkeypatch.context() as m:
        m.setattr(HFPolicy, "generate", slow_answer)
        roots.append(train(everything(tmp_path, "slow sampler", 2)))
    assert same(roots[0], roots[1])
    assert same(roots[0], roots[2])


@pytest.mark.parametrize(("ahead", "lora"), [(1, None), (2, {"r": 2})], ids=["full", "lora"])
def test_a_resumed_run_draws_the_same_batches_again(tmp_path: Path, ahead: int, lora: dict[str, int] | None) -> None:
    whole, cut = train(everything(tmp_path, "whole", ahead, lora=lora)), everything(tmp_path, "cut", ahead, lora=lora)
    for steps in (1, 2):  # the second time with batches in the making that the first checkpoint knew nothing of
        with pytest.raises(KeyboardInterrupt):
            train(cut, resume=steps > 1, reporter=StopAfter(steps))
    assert [n for n, _ in RunStore(cut.output_dir).checkpoints()][-1] == 3
    train(cut, resume=True)
    assert same(whole, cut.output_dir)
    assert ids(whole) == ids(cut.output_dir)
    assert len(set(ids(whole))) == len(ids(whole))
    metrics = RunStore(whole).metrics()
    assert any(m["replay/used"] > 0 for m in metrics)
    assert len({m["max_turns"] for m in metrics}) > 1, "a schedule by a metric has moved"
    assert alive() == []


def test_ctrl_c_ends_while_the_background_is_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sampler is in the middle of an answer, with turns and batches still to come."""
    asked, answer = threading.Event(), HFPolicy.generate

    async def slow(self: HFPolicy, requests: Sequence[Request]) -> list[Completion]:
        if self.version > 0:
            asked.set()
            time.sleep(0.2)
        return await answer(self, requests)

    class Stop(StopAfter):
        def step(self, *args: Any) -> None:
            super().step(*args)
            assert not self.stopping or asked.wait(60)

    monkeypatch.setattr(HFPolicy, "generate", slow)
    loaded = run_config(tmp_path, environments=[{"id": "babyai/GoToLocal"}],
                        rollout={"async_steps": 2, "max_turns": 50, "max_new_tokens": 1})  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        train(loaded, reporter=Stop(2))
    assert alive() == []
    assert [m["step"] for m in RunStore(loaded.output_dir).metrics()] == [1, 2]
    assert len(ids(loaded.output_dir)) == 16


def test_what_the_sampler_raises_comes_with_its_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = HFPolicy.generate

    async def broken(self: HFPolicy, requests: Sequence[Request]) -> list[Completion]:
        if requests[0].episode.startswith("s000003"):
            raise RuntimeError("the sampler is gone")
        return await answer(self, requests)

    monkeypatch.setattr(HFPolicy, "generate", broken)
    loaded = run_config(tmp_path, rollout={"async_steps": 2})
    with pytest.raises(RuntimeError, match="the sampler is gone"):
        train(loaded)
    assert [m["step"] for m in RunStore(loaded.output_dir).metrics()] == [1, 2]
    assert alive() == []


def test_without_determinism_the_newest_policy_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sampler that the learner waits for has weights of the step before, and not of three steps before."""
    given, answer, hand = threading.Condition(), HFPolicy.generate, Ahead._hand
    versions: list[int] = []

    def handing(self: Ahead, handed: Handed) -> None:
        hand(self, handed)
        with given:
            versions.append(handed.version)
            given.notify_all()

    async def slow(self: HFPolicy, requests: Sequence[Request]) -> list[Completion]:
        step = int(requests[0].episode[1:7])
        with given:
            given.wait_for(lambda: versions and versions[-1] >= step - 1, 60)  # the learner waits for this batch
        return await answer(self, requests)

    monkeypatch.setattr(Ahead, "_hand", handing)
    monkeypatch.setattr(HFPolicy, "generate", slow)
    root = train(run_config(tmp_path, rollout={"async_steps": 3, "max_staleness": 1, "deterministic": False}))
    metrics = RunStore(root).metrics()
    assert [m["staleness/max"] for m in metrics] == [0.0, 1.0, 1.0, 1.0]
    assert [m["staleness/dropped"] for m in metrics] == [0.0] * 4
    assert not list(root.glob("checkpoints/*/earlier.pt"))


class Bars(Quiet):
    """Remembers what was shown, and on which thread."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, int]] = []
        self.episodes: list[str] = []
        self.threads = set[str]()

    def begin(self, what: str, total: int) -> None:
        self.begun.append((what, total))
        self.threads.add(threading.current_thread().name)

    def episode(self, trajectory: Trajectory) -> None:
        self.episodes.append(trajectory.id)


def test_bars_are_shown_by_the_thread_that_waits(tmp_path: Path) -> None:
    bars = Bars()
    root = train(run_config(tmp_path, rollout={"async_steps": 1}), reporter=bars)
    assert bars.begun == [(f"step {n}: episodes", 8) for n in (1, 2, 3, 4)]
    assert sorted(bars.episodes) == ids(root)
    assert bars.threads == {threading.current_thread().name}


def test_ppo_and_kl_in_the_reward_learn_from_what_an_older_policy_sampled(tmp_path: Path) -> None:
    loaded = run_config(tmp_path, train_type="PPO", rollout={"async_steps": 1},  # type: ignore[arg-type]
                        training_args={"num_generations": 1, "kl_coef": 0.1, "kl_in": "reward"})  # fmt: skip
    metrics = RunStore(train(loaded, trainer=Ppo())).metrics()
    assert [m["staleness/max"] for m in metrics] == [0.0, 1.0, 1.0, 1.0]
    assert all(m["kl_charge"] != 0 for m in metrics[2:])


def test_a_rewarded_answer_becomes_likelier(tmp_path: Path) -> None:
    """As it does without ``async_steps`` in test_train.py, with the same bounds and fewer steps."""
    loaded = run_config(tmp_path, training_args={"max_steps": 30, "learning_rate": 0.01, "save_steps": 100,
                                                 "lr_scheduler_type": "constant", "num_generations": 8},
                        rollout={"async_steps": 1})  # fmt: skip
    rewards = [m["reward"] for m in RunStore(train(loaded)).metrics()]
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.1
