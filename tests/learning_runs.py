"""One algorithm through one task: a YAML, ``mmrl train``, and what its own evaluations say.

Comes in: an algorithm, a task.  Goes out: success on held-out seeds before and after, steps, minutes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import ten_arms
import yaml
from algorithms import Algorithm, Settings
from tiny_model import save_tiny_model

from mmrl.cli.main import main
from mmrl.episode import EpisodeLimits, EpisodeSpec
from mmrl.load import load_policy
from mmrl.rollout import Scheduler
from mmrl.run_sync import run_sync
from mmrl.store import RunStore

TRIES = 8
"""Episodes of one seed among stored rollouts, and in a group."""
MINUTES = 60
"""Of training after which a run is given up; no run comes near it, so that a slow machine changes nothing."""
STORED_SEED = 3_000_000
"""First seed of stored rollouts; apart from those of training and of the evaluations."""


@dataclass(frozen=True)
class Task:
    """What is to be learned.

    Attributes:
        env: the environment's id.
        base: the configuration of everything else; an algorithm's own settings are laid over it.
        own: the field of :class:`Algorithm` with its settings for this task alone.
        model: makes the policy to start from, in a folder if it has to be made.
        stored: seeds of which an offline algorithm gets :data:`TRIES` episodes each.
        reached: success that counts as learned.
    """

    env: str
    base: Settings
    own: str
    model: Callable[[Path], str]
    stored: int
    reached: float


@dataclass(frozen=True)
class Outcome:
    """What became of it: figures of ``mmrl train`` itself.

    Attributes:
        before: share of successes on held-out seeds before the first step.
        after: the same after the last.
        before_ci95: 95% interval (Wilson) of ``before``; ``after_ci95``: of ``after``.
        episodes: of each of the two.
        steps: batches learned from.
        minutes: of training, evaluations left out.
    """

    before: float
    before_ci95: tuple[float, float]
    after: float
    after_ci95: tuple[float, float]
    episodes: int
    steps: int
    minutes: float


TEN_ARMS = Task(
    env=f"{ten_arms.__file__}:TenArms",
    base={
        "train_type": "GRPO",
        "reward_plugins": [{"name": "env_reward"}],
        "training_args": {"per_device_train_batch_size": 64, "num_generations": TRIES, "learning_rate": 1e-2,
                          "max_steps": 40, "save_steps": 1000},
        "rollout": {"max_new_tokens": 2},
        "eval": {"episodes": 0, "final_episodes": 200},
    },
    own="bandit", model=lambda folder: str(save_tiny_model(folder / "model")), stored=64, reached=0.9,
)  # fmt: skip

RED_BALL = Task(
    env="babyai/GoToRedBallNoDists",
    base={
        "train_type": "GRPO",
        "reward_plugins": [
            {"name": "task_completion"},
            {"name": "action_cost", "weight": 0.3, "kwargs": {"scale": "fraction", "budget": 20}},
        ],
        "training_args": {"per_device_train_batch_size": 64, "num_generations": TRIES, "learning_rate": 5e-4,
                          "lr_scheduler_type": "linear", "warmup_steps": 2, "max_steps": 20,
                          "max_tokens_per_micro_batch": 4096, "save_steps": 1000},
        "rollout": {"max_turns": 20, "max_new_tokens": 8},
        "eval": {"episodes": 0, "final_episodes": 200, "max_turns": 20},
    },
    own="red_ball", model=lambda folder: "mmrl/tiny", stored=64, reached=0.8,
)  # fmt: skip


def laid_over(base: Settings, *changes: Settings) -> dict[str, Any]:
    """``base`` with ``changes``, the later over the earlier; mappings are merged key by key."""
    out = dict(base)
    for change in changes:
        for key, value in change.items():
            old = out.get(key)
            both = isinstance(old, Mapping) and isinstance(value, Mapping)
            out[key] = laid_over(cast("Settings", old), cast("Settings", value)) if both else value
    return out


def settings(algorithm: Algorithm, task: Task) -> dict[str, Any]:
    """What differs from the task's base configuration."""
    return laid_over(algorithm.sections, getattr(algorithm, task.own))


def reached_by(algorithm: Algorithm, task: Task) -> float:
    """The success that counts as learned: the task's, or the algorithm's own."""
    return algorithm.marks.get(task.own, task.reached)


def config_of(algorithm: Algorithm, task: Task) -> dict[str, Any]:
    """The configuration, without the paths that differ from one machine to the next."""
    return laid_over(task.base, settings(algorithm, task))


TASKS = {"ten arms": TEN_ARMS, "GoToRedBallNoDists": RED_BALL}
"""By the name that the table gives them."""


def learn(algorithm: Algorithm, task: Task, folder: Path) -> Outcome:
    """Train, and read what the run wrote.

    Args:
        algorithm: how to learn.
        task: what to learn.
        folder: for the configuration, the run and what they need; made if it does not exist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = task.model(folder)
    paths = {"model_id": model, "environments": [{"id": task.env}],
             "training_args": {"output_dir": str(folder / "run"), "max_minutes": MINUTES}}  # fmt: skip
    config = laid_over(config_of(algorithm, task), paths)
    if algorithm.stored_by is not None:
        store_rollouts(folder / "stored", algorithm.stored_by or model, task, config["rollout"])
        section = "sft" if config["train_type"] == "SFT" else "logged"
        config = laid_over(config, {section: {"rollouts": [str(folder / "stored")]}})
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert main(["train", str(folder / "config.yaml")]) == 0
    return outcome(RunStore(folder / "run"))


def store_rollouts(folder: Path, policy: str, task: Task, rollout: Settings) -> None:
    """Episodes to learn from offline, in groups: :data:`TRIES` of a seed."""
    store = RunStore.create(folder, "")
    specs = [
        EpisodeSpec(f"{n:06d}", task.env, STORED_SEED + n // TRIES, f"g{n // TRIES}", (0, n))
        for n in range(task.stored * TRIES)
    ]
    limits = EpisodeLimits(rollout.get("max_turns"))
    acting = load_policy(policy, **({} if policy == "expert" else {"max_new_tokens": rollout["max_new_tokens"]}))
    episodes = run_sync(Scheduler(limits).run(specs, acting))
    store.write_rollouts(0, episodes, [None] * len(episodes))
    store.close()


def outcome(store: RunStore) -> Outcome:
    """The figures of a finished run."""
    read: dict[str, dict[str, Any]] = {}
    for when in ("before", "after"):
        (path,) = (store.root / "eval").glob(f"{when}-*.json")
        read[when] = json.loads(path.read_text())
    last = store.metrics()[-1]
    before, after = read["before"], read["after"]
    return Outcome(before["success"], tuple(before["ci95"]), after["success"], tuple(after["ci95"]),
                   after["episodes"], int(last["step"]), round(last["time/minutes"], 2))  # fmt: skip
