"""Weighted log-ratio (``train_type: WEIGHTED_LOG_RATIO``): learning by reward from rollouts that are there already.

Comes in: stored rollouts or preference pairs, and reward plugins.  Goes out: a policy under which what the plugins
value has become likelier; nothing is sampled.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch

from mmrl.check_config import check_config
from mmrl.config import Config
from mmrl.config_load import LoadedConfig
from mmrl.errors import BadInput
from mmrl.ready import make_ready
from mmrl.report import Reporter
from mmrl.reward import RewardSuite
from mmrl.store import read_trajectories
from mmrl.trajectory import Trajectory
from mmrl_agents.advantage import ESTIMATORS, BatchEstimator, in_groups
from mmrl_agents.check_context import check_context
from mmrl_agents.check_images import check_images
from mmrl_agents.failures import warn_of_failures
from mmrl_agents.memory import MemoryPlanner, from_stored
from mmrl_agents.preferences import read_preferences
from mmrl_agents.processes import ALONE, Processes, in_step, joined
from mmrl_agents.run import check_names
from mmrl_agents.same_run import check_same_config
from mmrl_agents.sft import learn_offline

PAIRS = ".jsonl"
WEIGHTS: dict[str, BatchEstimator] = {
    "reward": lambda rewards, valid, group: torch.where(valid, rewards, 0.0),
    **{name: in_groups(estimator) for name, estimator in ESTIMATORS.items()},
}
"""By ``logged.weight``: w(x, y) from the rewards of all rollouts, compared in their groups or as they are."""


class WeightedLogRatio:
    """Maximises the mean of w(x, y) log(pi/pi_ref) over stored rollouts, w being what the reward plugins say."""

    def check(self, loaded: LoadedConfig) -> None:
        """Check names and files; see :class:`mmrl.trainer.Trainer`."""
        check_names(loaded)
        check_images(loaded)
        check_context(loaded)
        check_logged(loaded)

    def planner(self) -> MemoryPlanner:
        """Plan its memory; see :class:`mmrl.memory_plan.Plans`."""
        return MemoryPlanner(from_stored(load_logged), refers=True)

    @in_step
    def train(self, loaded: LoadedConfig, resume: bool, reporter: Reporter) -> Path:
        """Train; see :class:`mmrl.trainer.Trainer`."""
        suite = check_config(loaded)[1]
        if resume:
            check_same_config(loaded)
        make_ready(loaded, suite, reporter)
        trajectories = scored(load_logged(loaded.config), suite, joined())
        warn_of_failures(reporter, trajectories)
        kept = [t for t in trajectories if t.valid]
        if not kept:
            raise BadInput(f"{loaded.where('reward_plugins')}: none of the {len(trajectories)} rollouts has a reward: "
                           "some plugin failed on each, or none applies")  # fmt: skip
        worth = worths(kept, loaded)
        return learn_offline(loaded, resume, reporter, kept, f"learning from {len(kept)} scored rollouts",
                             lambda run, segments: run.learner.weigh(segments, worth), refers=True)  # fmt: skip


def check_logged(loaded: LoadedConfig) -> None:
    """Check what it learns from, and keys that only fit a policy that samples.

    Raises:
        BadInput: naming the key, its place and what would be right.
    """
    config = loaded.config
    if config.logged is None:
        raise BadInput(f"{loaded.path}: WEIGHTED_LOG_RATIO needs a section 'logged' with 'rollouts: [folder, ...]'; "
                       "make some with: mmrl collect")  # fmt: skip
    for i, path in enumerate(config.logged.rollouts):
        if not path.exists():
            where = loaded.where("logged", "rollouts", i)
            raise BadInput(f"{where}: no rollouts at {path}; make some with: mmrl collect")
    if not config.reward_plugins:
        raise BadInput(f"{loaded.path}: WEIGHTED_LOG_RATIO needs at least one entry in reward_plugins; env_reward "
                       "passes on what the rollouts' environment said")  # fmt: skip
    for key, why in unread(config).items():
        raise BadInput(f"{loaded.where(*key)}: WEIGHTED_LOG_RATIO does not take '{'.'.join(map(str, key))}' so: {why}")


def unread(config: Config) -> dict[tuple[str | int, ...], str]:
    """The keys that were set and have no meaning for stored rollouts, and why."""
    args = config.training_args
    once = "stored rollouts are scored once, before the first step; give a number in place of a schedule"
    own = "it is for tokens that the policy sampled itself, and stored rollouts have none; leave it out"
    named = "it learns from what 'logged' names; leave it out"
    wrong: dict[tuple[str | int, ...], tuple[bool, str]] = {
        **{(key,): (getattr(config, key) is not None, named) for key in ("warm_start", "curriculum", "replay", "sft")},
        ("rewards", "normalise"): (config.rewards.normalise == "normalise_then_sum",
                                   "rewards are compared by logged.weight; leave it out"),
        ("training_args", "kl_in"): (args.kl_in == "reward", own),
        ("training_args", "kl_estimator"): (args.kl_estimator == "rho_k3", own),
        **{("reward_plugins", i, "weight"): (not isinstance(plugin.weight, int | float), once)
           for i, plugin in enumerate(config.reward_plugins)},
    }  # fmt: skip
    return {key: why for key, (given, why) in wrong.items() if given}


def load_logged(config: Config) -> list[Trajectory]:
    """The rollouts that a config's ``logged`` section names; a group of one file is none of another's.

    Raises:
        BadInput: naming the file and row that is wrong, or if there is nothing.
    """
    assert config.logged is not None
    found: list[Trajectory] = []
    for i, path in enumerate(config.logged.rollouts):
        read = read_preferences(path) if path.suffix == PAIRS else read_trajectories(path)
        found += [dataclasses.replace(t, group=f"{i}/{t.group}") for t in read if t.turns and t.error is None]
    if not found:
        raise BadInput("logged.rollouts: no whole episode in them")
    return found


def scored(trajectories: Sequence[Trajectory], suite: RewardSuite, processes: Processes = ALONE) -> list[Trajectory]:
    """The trajectories with what the suite says of them now; each process asks it about its share of them."""
    records = [r for part in processes.exchange(suite.score(processes.share(trajectories))) for r in part]
    return [dataclasses.replace(t, record=record) for t, record in zip(trajectories, records, strict=True)]


def worths(trajectories: Sequence[Trajectory], loaded: LoadedConfig) -> list[float]:
    """w(x, y) of each rollout.

    Raises:
        BadInput: if all are 0: there is nothing to learn.
    """
    assert loaded.config.logged is not None
    name = loaded.config.logged.weight
    numbers = {group: n for n, group in enumerate(dict.fromkeys(t.group for t in trajectories))}
    rewards = torch.tensor([t.record.value if t.record else 0.0 for t in trajectories], dtype=torch.float64)
    group = torch.tensor([numbers[t.group] for t in trajectories], dtype=torch.long)
    worth = WEIGHTS[name](rewards, torch.ones(len(rewards), dtype=torch.bool), group)
    if not worth.any():
        why = "no reward differs from 0" if name == "reward" else "no two episodes of a group have different rewards"
        raise BadInput(f"{loaded.where('logged', 'weight')}: nothing to learn from {len(trajectories)} scored "
                       f"rollouts: with logged.weight '{name}' all weights are 0, since {why}")  # fmt: skip
    return worth.tolist()
