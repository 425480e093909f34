"""Which episodes a training step runs: a function of the config, the step's seed, the seed cursor and the mix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmrl.config import EPOCH_TASKS, Config, EnvironmentConfig
from mmrl.config_load import LoadedConfig
from mmrl.episode import EpisodeSpec
from mmrl.errors import BadInput

NOISE_TRAIN, NOISE_MIX, NOISE_SFT, NOISE_WARM, NOISE_REPLAY = 1, 2, 3, 4, 5
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


BATCH = ("per_device_train_batch_size", "gradient_accumulation_steps", "num_generations")


def check_batch(loaded: LoadedConfig) -> None:
    """Check that a step's batch holds whole groups.

    Raises:
        BadInput: naming the keys, the places of those that are set, and the sizes.
    """
    try:
        plan(loaded.config)
    except BadInput as error:
        given = [loaded.where("training_args", k) for k in BATCH if ("training_args", k) in loaded.lines]
        raise BadInput(f"{' and '.join(given) or loaded.where('training_args')}: {error}") from None


def plan(config: Config) -> Plan:
    """Work out the sizes of a GRPO run.

    Raises:
        BadInput: if the batch does not hold whole groups.
    """
    args = config.training_args
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps
    if batch % args.num_generations:
        raise BadInput(
            f"training_args: per_device_train_batch_size ({args.per_device_train_batch_size}) * "
            f"gradient_accumulation_steps ({args.gradient_accumulation_steps}) is {batch}, which must be a multiple of "
            f"num_generations ({args.num_generations})"
        )
    groups = batch // args.num_generations
    if args.max_steps > 0:
        return Plan(groups, args.num_generations, args.max_steps)
    tasks = sum(e.seeds.count or EPOCH_TASKS for e in config.environments)
    return Plan(groups, args.num_generations, max(1, round(args.num_train_epochs * tasks / groups)))


def step_specs(config: Config, sizes: Plan, step: int, cursor: Sequence[int], first: int = 0,
               weights: Sequence[float] | None = None) -> tuple[list[EpisodeSpec], list[int]]:
    """The episodes of one step, or of a further round of it, and the cursor after them.

    Args:
        config: the run's.
        sizes: from :func:`plan`; ``groups`` of them are wanted.
        step: from 1.
        cursor: tasks used so far, for each environment.
        first: tasks of this step that earlier rounds had; numbers of groups and episodes go on from there.
        weights: of the environments in the mix; None: those of the config.
    """
    seed = config.training_args.seed
    moved = list(cursor)
    specs: list[EpisodeSpec] = []
    for g, which in enumerate(step_entries(config, step, first + sizes.groups, weights)[first:], first):
        env = config.environments[which]
        task = task_seed(env, moved[which])
        moved[which] += 1
        for i in range(sizes.size):
            n = g * sizes.size + i
            specs.append(EpisodeSpec(f"s{step:06d}-{n:05d}", env.id, task, f"s{step:06d}-g{g:04d}",
                                     (NOISE_TRAIN, seed, step, n), env.kwargs))  # fmt: skip
    return specs, moved


def step_entries(config: Config, step: int, tasks: int, weights: Sequence[float] | None = None) -> list[int]:
    """Which environment, by its place in the config, each of a step's first ``tasks`` tasks is from."""
    key = (NOISE_MIX, config.training_args.seed, step)
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
    mix = np.array([e.weight for e in config.environments] if weights is None else weights)
    return [int(rng.choice(len(mix), p=mix / mix.sum())) for _ in range(tasks)]


def task_seed(env: EnvironmentConfig, index: int) -> int:
    """The seed of the environment's ``index``-th task."""
    return env.seeds.start + (index % env.seeds.count if env.seeds.count else index)
