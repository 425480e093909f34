"""The configuration of a run: one YAML, frozen pydantic models, dotted overrides.

Comes in: a YAML file and ``key.path=value`` words.  Goes out: a :class:`Config`, or one line that names the
file, the line, the key and what would be right.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, cast

from pydantic import Field, PositiveInt, field_validator, model_validator

from mmrl.plugin_config import PluginConfig
from mmrl.sampling_config import Curriculum, Replay
from mmrl.section import Section
from mmrl.training_args import RateCourse, TrainingArgs
from mmrl.turn_cap import TurnCap

TRAIN_SEEDS_START = 1_000_000
"""First training seed by default; evaluation takes the small seeds, so that the two never meet."""
EPOCH_TASKS = 1000
"""Tasks in one epoch of an environment without a ``seeds.count``."""


class Seeds(Section):
    """The tasks of an environment: seeds ``start``, ``start + 1``, ..."""

    start: int = Field(default=TRAIN_SEEDS_START, ge=0)
    """The first seed."""
    count: PositiveInt | None = None
    """How many tasks there are before they repeat; None: endless."""


class EnvironmentConfig(Section):
    """One environment of the mix; its id alone will do."""

    shorthand = "id"

    id: str
    """A registered id, ``module:Class`` or ``path/file.py:Class``."""
    weight: float = Field(default=1.0, gt=0)
    """Share of the tasks, relative to the other environments."""
    kwargs: dict[str, Any] = Field(default={})
    """The environment's own arguments."""
    seeds: Seeds = Seeds()
    """Which tasks are trained on."""


class RolloutConfig(Section):
    """How episodes are run for training."""

    max_turns: TurnCap | None = None
    """Turns before an episode is truncated: a number, or a schedule as of a plugin's weight, such as ``{schedule:
    linear, from: 8, to: 20, end: 0.5}``; None leaves it to the environment."""
    window: PositiveInt | None = None
    """None: the policy sees the whole transcript; k: the last k observations, each turn a segment of its own."""
    max_new_tokens: PositiveInt = 64
    """Token limit of one answer."""
    max_context: PositiveInt | None = None
    """Token limit of prompt and answer together; None: the model's own."""
    temperature: float = Field(default=1.0, gt=0)
    """Sampling temperature; the learner's log-probabilities use it too."""
    concurrency: PositiveInt = 256
    """Episodes at once."""
    max_batch: PositiveInt = 256
    """Requests that are with the policy at once."""
    deterministic: bool = True
    """Batch by a logical clock (the same bits twice) or as requests become ready (faster); vLLM and servers are then
    asked again before they have answered."""
    dynamic_sampling: int = Field(default=0, ge=0)
    """Groups that would teach nothing are replaced by fresh tasks, in at most so many further rounds a step; what is
    still without spread then is left out.  0: all groups are learned from.  See [algorithms.md](algorithms.md)."""
    async_steps: int = Field(default=0, ge=0)
    """Batches that are sampled ahead, in the background, while an earlier one is learned from; 0: none.  See
    [samplers.md](samplers.md)."""
    max_staleness: int | None = Field(default=None, ge=0)
    """Updates that the policy may have seen between sampling a rollout and learning from it; an older one is left out
    of its group.  None: ``async_steps``."""


class EvalConfig(Section):
    """Evaluation on held-out seeds; the best checkpoint is chosen by its success."""

    environments: list[EnvironmentConfig] | None = None
    """What is evaluated; None: the training environments.  Their ``seeds`` are not used."""
    episodes: int = Field(default=100, ge=0)
    """Episodes of each environment; 0: no evaluation."""
    seed: int = Field(default=500_000, ge=0)
    """First held-out seed of the evaluations during training, by which the best checkpoint is chosen."""
    final_episodes: int = Field(default=200, ge=0)
    """Episodes of each environment before the first step and, with the best checkpoint, after the last."""
    final_seed: int = Field(default=0, ge=0)
    """First seed of those; apart from ``seed``'s, so that choosing the best does not flatter the result."""
    every: PositiveInt = 20
    """Steps between evaluations; there is always one after the last step."""
    temperature: float = Field(default=1.0, ge=0)
    """Sampling temperature; 0: the likeliest token."""
    max_turns: PositiveInt | None = None
    """Turns before an episode is truncated; None leaves it to the environment."""
    blind: bool = False
    """Beside the final evaluations, one with every image replaced by grey: what is right without looking."""


class RewardsConfig(Section):
    """How the scores of all plugins become one reward, and rewards become advantages."""

    normalise: Literal["sum_then_normalise", "normalise_then_sum"] = "sum_then_normalise"
    """Compare the weighted sums in a group; or compare each plugin's scores by themselves first (GDPO), so that a
    plugin of small spread is not drowned by one of large spread."""
    clip: tuple[float, float] | None = None
    """Lowest and highest reward of a rollout; None: no limit."""

    @field_validator("clip")
    @classmethod
    def _ordered(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not value[0] < value[1]:
            raise ValueError(f"the lowest reward ({value[0]:g}) must be below the highest ({value[1]:g})")
        return value


class WarmStart(Section):
    """Imitating the environments' own experts before learning by reward; for environments that have one."""

    episodes: PositiveInt = 500
    """Expert episodes of each training environment, times its ``weight``."""
    steps: PositiveInt = 50
    """Optimiser steps of imitation."""
    batch_size: PositiveInt = 32
    """Episodes (single turns under a window) of one of them."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Their peak learning rate; it rises over the first tenth."""
    lr_scheduler_type: RateCourse = "linear"
    """Course of the learning rate after that."""
    noise: float = Field(default=0.25, ge=0, lt=1)
    """Share of random actions in the episodes: shown, so that the policy learns to go on after a mistake, and not
    imitated."""
    first_seed: int = Field(default=5_000_000, ge=0)
    """First seed of the episodes; apart from those of training and of the evaluations."""


class SftConfig(Section):
    """What ``train_type: SFT`` imitates: stored rollouts."""

    rollouts: list[Path]
    """Runs, rollout folders or parquet files, made by ``mmrl collect`` for instance."""
    success_only: bool = True
    """Imitate only episodes that succeeded."""


class LoggedConfig(Section):
    """What ``train_type: WEIGHTED_LOG_RATIO`` learns from: stored rollouts, scored by the run's ``reward_plugins``."""

    rollouts: list[Path]
    """Runs, rollout folders or parquet files, of any policy; or ``.jsonl`` files of preference pairs, one
    ``{"prompt": ..., "chosen": ..., "rejected": ...}`` a line."""
    weight: Literal["reward", "dr_grpo", "grpo", "rloo"] = "reward"
    """What a rollout weighs: its reward as it is, or compared with those of its group (its pair) as the advantage of
    that name does."""


PRESETS: dict[str, dict[str, Any]] = {
    "PPO": {"advantage": "gae", "num_generations": 1, "num_iterations": 4, "normaliser": "dapo", "epsilon_high": 0.2},
}
"""By ``train_type``: defaults of ``training_args`` that differ from those of :class:`TrainingArgs`."""


def default_of(train_type: str, key: str) -> Any:
    """What ``training_args.key`` is where a run of that ``train_type`` does not set it."""
    return PRESETS.get(train_type, {}).get(key, TrainingArgs.model_fields[key].default)


class Config(Section):
    """One run."""

    train_type: str
    """``GRPO``, ``PPO`` (by default ``advantage: gae``, ``num_generations: 1``, ``num_iterations: 4``, ``normaliser:
    dapo`` and ``epsilon_high: 0.2``), ``SFT``, ``WEIGHTED_LOG_RATIO``, or a learner of your own (entry point group
    mmrl.learners)."""
    model_id: str
    """The policy to train: ``mmrl/tiny``, a Hugging Face id or a folder."""
    environments: list[EnvironmentConfig] = Field(min_length=1)
    """Where it acts."""
    reward_plugins: list[PluginConfig] = Field(default=[])
    """What is good."""
    rewards: RewardsConfig = RewardsConfig()
    """How scores become one reward."""
    plugin_files: list[Path] = Field(default=[])
    """Python files that are run first, so that what they register goes by its name; looked for from the folder that
    the command runs in.  They are code: use files that you trust."""
    training_args: TrainingArgs = TrainingArgs()
    """How it learns."""
    rollout: RolloutConfig = RolloutConfig()
    """How episodes are run."""
    curriculum: Curriculum | None = None
    """Weigh the environments by their success; null leaves their weights as they are."""
    replay: Replay | None = None
    """Learn from earlier successes again; null learns from each step's own episodes alone."""
    eval: EvalConfig = EvalConfig()
    """How it is evaluated."""
    warm_start: WarmStart | None = None
    """Imitate the experts first (GRPO); null starts from the model as it is."""
    sft: SftConfig | None = None
    """What SFT imitates."""
    logged: LoggedConfig | None = None
    """What WEIGHTED_LOG_RATIO learns from."""

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, tree: Any) -> Any:
        """The defaults of the ``train_type``, where nothing else is said."""
        if not isinstance(tree, dict):
            return tree
        given = cast("dict[str, Any]", tree)
        args = given.get("training_args", {})
        preset = PRESETS.get(str(given.get("train_type")))
        return {**given, "training_args": {**preset, **args}} if preset and isinstance(args, dict) else given
