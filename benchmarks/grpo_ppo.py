"""GRPO with reward plugins against PPO with a trained reward model: the time to the same success on the same machine.

Both sides start from mmrl/tiny on babyai/balrog-goto, in one code base (TRL has no PPO since 1.0), with the same
sampler, learner, batch (64 episodes a step) and token limits.  Both are done when 85 of 100 held-out seeds succeed, as
the environment says, looked at after every step; these evaluations are not on the clock.

GRPO has 8 tasks with 8 episodes each, what the environment knows as plugins, and returns by turn.  PPO is RLHF's
recipe: labelled rollouts of the policy, a reward model of the policy's own weights trained on them (both on the clock;
labelling is free), and then PPO with a critic on the reward model's scores, without the KL term, which would only take
time.  Both take four optimiser steps on each batch, at the same constant learning rate.  A side that is not done after
8 minutes counts with the minutes that it took, and the row says so.  Peak memory is that of a process of its own for
each side, after three steps.  Prints medians, and appends them to RESULTS.md.

    python benchmarks/grpo_ppo.py [--repeats 2] [--minutes 8] [--dry-run]
"""

from __future__ import annotations

import copy
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from results import append
from sides.peak import STEPS, alone, compare_peaks
from sides.reward_model import learn
from sides.steps import arguments

import mmrl
from mmrl.config_load import load_config
from mmrl.report import Quiet
from mmrl_agents.ppo import Ppo
from mmrl_agents.train import Grpo

TARGET, SUCCESS, EPISODES, EVERY = 3.0, 0.85, 100, 1
MODEL, ENV, TURNS, ANSWER = "mmrl/tiny", "babyai/balrog-goto", 20, 8
LABELLED, LABELLED_FROM = 512, 6_000_000
"""Rollouts for the reward model, and their first seed: neither trained nor evaluated on."""
DAY = 24 * 60.0
"""In minutes: no limit, for a side that runs for its peak memory."""
BASE: dict[str, Any] = {
    "model_id": MODEL,
    "environments": [{"id": ENV}],
    "training_args": {
        "per_device_train_batch_size": 32, "gradient_accumulation_steps": 2, "warmup_steps": 2,
        "max_tokens_per_micro_batch": 4096, "save_steps": 1000,
    },
    "rollout": {"max_turns": TURNS, "max_new_tokens": ANSWER},
    "eval": {"episodes": EPISODES, "every": EVERY, "final_episodes": 0},
}  # fmt: skip
GRPO: dict[str, Any] = {
    "train_type": "GRPO",
    "reward_plugins": [
        {"name": "task_completion"},
        {"name": "action_cost", "weight": 0.3, "kwargs": {"scale": "fraction", "budget": TURNS}},
    ],
    "training_args": {
        "num_generations": 8, "num_iterations": 4, "learning_rate": 2e-4, "loss_type": "grpo", "turn_discount": 0.95,
    },
}  # fmt: skip
PPO: dict[str, Any] = {
    "train_type": "PPO",
    "training_args": {"learning_rate": 2e-4, "critic_learning_rate": 1e-3},
}


@dataclass(frozen=True)
class Way:
    """How a side came to the success: minutes on the clock, and whether it did."""

    minutes: float
    done: bool

    def __str__(self) -> str:
        return f"{'' if self.done else 'not done after '}{self.minutes:.2f} min"


class Watch(Quiet):
    """Follows a run's evaluations and stops it at the success."""

    def __init__(self, side: str) -> None:
        self.side, self.stopping, self.minutes = side, False, 0.0

    def step(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        """Note the time; say what was evaluated."""
        self.minutes = metrics["time/minutes"]
        if "eval/success" in metrics:
            print(f"  {self.side}: step {step}, {self.minutes:.2f} min of training, success {metrics['success']:.2f}, "
                  f"held out {metrics['eval/success']:.2f}, reward {metrics['reward']:.2f}", flush=True)  # fmt: skip
            self.stopping = metrics["eval/success"] >= SUCCESS


def run(side: Mapping[str, Any], learner: Grpo | Ppo, folder: Path, seed: int, minutes: float, steps: int) -> Way:
    """Train until the success, or for so many minutes or steps."""
    tree = copy.deepcopy(BASE)
    tree |= {k: v for k, v in side.items() if k != "training_args"}
    limits = {"seed": seed, "max_minutes": minutes, "max_steps": steps, "output_dir": str(folder / "run")}
    tree["training_args"] |= {**side["training_args"], **limits}
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(tree))
    loaded, watch = load_config(config), Watch(str(side["train_type"]))
    learner.check(loaded)
    try:
        learner.train(loaded, False, watch)
    except KeyboardInterrupt:  # what a run that was asked to stop ends with
        if not watch.stopping:
            raise
    return Way(watch.minutes, watch.stopping)


def grpo(folder: Path, seed: int, minutes: float, steps: int = 1000) -> Way:
    """Plugins, and no model of the reward."""
    return run(GRPO, Grpo(), folder, seed, minutes, steps)


def ppo(folder: Path, seed: int, minutes: float, steps: int = 1000) -> Way:
    """A reward model first."""
    began = time.perf_counter()
    policy = mmrl.load_policy(MODEL, max_new_tokens=ANSWER)
    seeds = range(LABELLED_FROM + seed * LABELLED, LABELLED_FROM + (seed + 1) * LABELLED)
    labelled = mmrl.rollout(ENV, policy, seeds, max_turns=TURNS, seed=seed)
    sampled = time.perf_counter()
    right = learn(MODEL, labelled, folder / "reward_model", seed)
    spent = (time.perf_counter() - began) / 60
    print(f"  reward model: {LABELLED} rollouts in {sampled - began:.0f} s, learned in "
          f"{spent * 60 - sampled + began:.0f} s, right on {right:.0%} of those held out", flush=True)  # fmt: skip
    plugin = {"name": "sides.reward_model:RewardModel",
              "kwargs": {"policy": MODEL, "folder": str(folder / "reward_model")}}  # fmt: skip
    way = run({**PPO, "reward_plugins": [plugin]}, Ppo(), folder, seed, minutes - spent, steps)
    return Way(way.minutes + spent, way.done)


def side_alone(side: Callable[[Path, int, float, int], Way]) -> None:
    """A few steps of a side, and what it does before them, however long that takes."""
    with tempfile.TemporaryDirectory() as folder:
        side(Path(folder), 0, DAY, STEPS)


def main() -> int:
    """Measure; exit code 1 below the target, or if GRPO is not done in time."""
    parser = arguments(__doc__, 2, ["grpo", "ppo"])
    parser.add_argument("--minutes", type=float, default=8.0, help="limit of a side")
    args = parser.parse_args()
    if args.memory:
        return alone(lambda: side_alone({"grpo": grpo, "ppo": ppo}[args.memory]))
    sides: dict[str, Callable[[Path, int, float], Way]] = {"GRPO": grpo, "PPO": ppo}
    ways: dict[str, list[Way]] = {name: [] for name in sides}
    for seed in range(args.repeats):
        for name, go in sides.items():
            with tempfile.TemporaryDirectory() as folder:
                ways[name].append(go(Path(folder), seed, args.minutes))
            print(f"{name}, seed {seed}: {ways[name][-1]}", flush=True)
    ratio = statistics.median(p.minutes / g.minutes for g, p in zip(*ways.values(), strict=True))
    what = f"time to {SUCCESS:.0%} of {EPISODES} held-out seeds, {ENV}, GRPO, vs PPO with a trained reward model"
    figures = [f"{statistics.median(w.minutes for w in side):.2f} min" for side in ways.values()]
    late = sum(not w.done for w in ways["PPO"])
    if late:
        figures[1] += f" ({late} of {args.repeats} runs not done by then)"
    print(f"{what}: {figures[0]} against {figures[1]}, {ratio:.2f} times as fast")
    if not args.dry_run:
        append(what, *figures, ratio)
    compare_peaks(f"{MODEL}, 64 episodes of {ENV}", __file__, not args.dry_run, sides=("grpo", "ppo"),
                  than="PPO with a trained reward model")  # fmt: skip
    return 0 if ratio >= TARGET and all(w.done for w in ways["GRPO"]) else 1


if __name__ == "__main__":
    sys.exit(main())
