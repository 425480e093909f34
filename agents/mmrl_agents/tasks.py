"""Which episodes a training step runs: a function of the config, the step's seed and the seed cursor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmrl.config import EPOCH_TASKS, Config, EnvironmentConfig
from mmrl.episode import EpisodeSpec
from mmrl.errors import BadInput

NOISE_TRAIN, NOISE_MIX, NOISE_SFT, NOISE_WARM = 1, 2, 3, 4
"""First numbers of noise keys, so that no two uses ever share noise; 0 is evaluation's."""


@dataclass(frozen=True)
class Plan:
    """How much a run does.

    Attributes:
        groups: tasks of one step.
        size: episodes of one task.
        steps: steps in all.
    """

    groups: int
    size: int
    steps: int


def plan(config: Config) -> Plan:
    """Work out the sizes of a GRPO run.

    Raises:
        BadInput: if the batch does not hold whole groups.
    """
    args = config.training_args
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps
    if batch % args.num_generations:
        raise BadInput(
            f"training_args: per_device_train_batch_size * gradient_accumulation_steps is {batch}, which must be a "
            f"multiple of num_generations ({args.num_generations})"
        )
    groups = batch // args.num_generations
    if args.max_steps > 0:
        return Plan(groups, args.num_generations, args.max_steps)
    tasks = sum(e.seeds.count or EPOCH_TASKS for e in config.environments)
    return Plan(groups, args.num_generations, max(1, round(args.num_train_epochs * tasks / groups)))


def step_specs(config: Config, sizes: Plan, step: int, cursor: Sequence[int]) -> tuple[list[EpisodeSpec], list[int]]:
    """The episodes of one step, and the cursor after it.

    Args:
        config: the run's.
        sizes: from :func:`plan`.
        step: from 1.
        cursor: tasks used so far, for each environment.
    """
    seed = config.training_args.seed
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence((NOISE_MIX, seed, step))))
    weights = np.array([e.weight for e in config.environments])
    moved = list(cursor)
    specs: list[EpisodeSpec] = []
    for g in range(sizes.groups):
        which = int(rng.choice(len(weights), p=weights / weights.sum()))
        env = config.environments[which]
        task = task_seed(env, moved[which])
        moved[which] += 1
        for i in range(sizes.size):
            n = g * sizes.size + i
            specs.append(EpisodeSpec(f"s{step:06d}-{n:05d}", env.id, task, f"s{step:06d}-g{g:04d}",
                                     (NOISE_TRAIN, seed, step, n), env.kwargs))  # fmt: skip
    return specs, moved


def task_seed(env: EnvironmentConfig, index: int) -> int:
    """The seed of the environment's ``index``-th task."""
    return env.seeds.start + (index % env.seeds.count if env.seeds.count else index)
