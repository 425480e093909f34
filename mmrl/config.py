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
    """One environment of the mix."""

    id: str
    """A registered id, ``module:Class`` or ``path/file.py:Class``."""
    weight: float = Field(default=1.0, gt=0)
    """Share of the tasks, relative to the other environments."""
    kwargs: dict[str, Any] = Field(default={})
    """The environment's own arguments."""
    seeds: Seeds = Seeds()
    """Which tasks are trained on."""


class LoraArgs(Section):
    """A LoRA adapter (peft); the reference policy is the model with the adapter off."""

    r: PositiveInt = 16
    """Rank."""
    alpha: PositiveInt = 32
    """Scale: the adapter's product is multiplied by alpha / r."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout in front of the adapter."""
    target_modules: list[str] | Literal["all-linear"] = "all-linear"
    """Which linear layers get one."""
    vision: bool = False
    """Put it on the vision tower of a vision-language model too."""
    rslora: bool = False
    """Rank-stabilised LoRA ([2312.03732](https://arxiv.org/abs/2312.03732)): the scale is alpha / sqrt(r)."""
    dora: bool = False
    """DoRA ([2402.09353](https://arxiv.org/abs/2402.09353)): the adapter turns a weight's columns, their lengths are
    learned apart; slower."""


class GaloreArgs(Section):
    """GaLore ([2403.03507](https://arxiv.org/abs/2403.03507)): Adam on a low-rank projection of each gradient."""

    rank: PositiveInt = 128
    """Rank of the projection; a weight whose smaller side is no larger is not projected."""
    refresh: PositiveInt = 200
    """Optimiser steps between two projections from a new gradient."""
    scale: float = Field(default=0.25, gt=0)
    """The projected update is multiplied by this; alpha in the paper."""


class TrainingArgs(Section):
    """How the learner learns; names follow Hugging Face's TrainingArguments and TRL's GRPOConfig."""

    output_dir: Path | None = None
    """The run's folder; None: ``runs/<name of the config file>``."""
    seed: int = 0
    """Seed of everything random in the run."""
    per_device_train_batch_size: PositiveInt = 8
    """Rows of one forward and backward pass (trajectories, or single turns under a window)."""
    gradient_accumulation_steps: PositiveInt = 1
    """The product with the batch size is the number of trajectories an optimiser step learns from, over all
    processes."""
    num_generations: PositiveInt = 8
    """Episodes of one task that are compared with each other (group size); 1 only with ``advantage: reinforce_pp``,
    ``gae`` or ``gae_turn``."""
    num_train_epochs: float = Field(default=1.0, gt=0)
    """Passes over the tasks; an endless environment counts 1000 tasks an epoch.  Unused if max_steps is set."""
    max_steps: int = -1
    """Optimiser batches to train for; -1: as many as num_train_epochs takes."""
    max_minutes: float | None = Field(default=None, gt=0)
    """Stop after the step in which this many minutes of training are over; None: no limit."""
    num_iterations: PositiveInt = 1
    """Optimiser steps on each batch of trajectories."""
    learning_rate: float = Field(default=1e-6, gt=0)
    """Peak learning rate of AdamW."""
    lr_scheduler_type: Literal["constant", "linear", "cosine"] = "constant"
    """Course of the learning rate after the warm-up."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps of linear warm-up."""
    warmup_ratio: float = Field(default=0.0, ge=0, le=1)
    """Warm-up as a share of all steps, used if warmup_steps is 0."""
    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW's decoupled weight decay."""
    adam_beta1: float = Field(default=0.9, ge=0, lt=1)
    """AdamW's first beta."""
    adam_beta2: float = Field(default=0.999, ge=0, lt=1)
    """AdamW's second beta."""
    adam_epsilon: float = Field(default=1e-8, gt=0)
    """AdamW's epsilon."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients are clipped to this norm."""
    optim: Literal["adamw", "adamw_8bit", "paged_adamw_8bit", "galore_adamw"] = "adamw"
    """``adamw``; ``adamw_8bit`` (its state in 8 bits, by bitsandbytes); ``paged_adamw_8bit`` (and in the host's memory
    where a GPU's runs out); ``galore_adamw`` (its state in a subspace).  See [memory.md](memory.md)."""
    galore: GaloreArgs | None = None
    """For ``optim: galore_adamw``; None: as its paper has it."""
    loss_type: str = "grpo"
    """``grpo``, ``dapo``, ``dr_grpo``, ``gspo``, ``cispo``, ``sapo``, ``reinforce``, an entry point of group
    mmrl.losses, or a function of your own: ``path/file.py:function``.  See [algorithms.md](algorithms.md)."""
    normaliser: Literal["grpo", "dapo", "dr_grpo"] | None = None
    """What a token weighs: ``grpo`` (mean over each trajectory), ``dapo`` (mean over all tokens) or ``dr_grpo``
    (constant budget); None: the loss's own."""
    advantage: str = "grpo"
    """``grpo``, ``dr_grpo``, ``rloo``, ``batch_std``, ``reinforce_pp``, ``gigpo``, ``gae``, ``gae_turn``, an entry
    point of group mmrl.advantages, or a function of your own: ``path/file.py:function``.  See
    [algorithms.md](algorithms.md)."""
    turn_discount: float = Field(default=1.0, gt=0, le=1)
    """1: every turn shares its trajectory's advantage; less: a turn's own discounted return-to-go, in its group.  With
    ``advantage: gigpo`` the discount of a step's return; the paper's is 0.95.  With ``gae_turn`` that from one turn to
    the next."""
    turn_baseline: Literal["group", "state"] = "group"
    """What a turn's return-to-go is compared with: all turns of its group, or the turns of its group that stood in the
    same state (for environments that report ``state_key``)."""
    token_discount: float = Field(default=1.0, gt=0, le=1)
    """Discount of the return from one sampled token to the next, for ``advantage: reinforce_pp`` and ``gae``."""
    gigpo_omega: float = Field(default=1.0, ge=0)
    """Weight of the step's part of the advantage, for ``advantage: gigpo``."""
    gae_lambda: float = Field(default=0.95, ge=0, le=1)
    """Decay of later surprises in ``advantage: gae`` and ``gae_turn``: 0 trusts the critic after one step, 1 takes the
    whole return."""
    critic_learning_rate: float = Field(default=1e-4, gt=0)
    """Peak learning rate of the critic's head; its course is that of ``learning_rate``."""
    value_coef: float = Field(default=0.1, gt=0)
    """Weight of the critic's loss beside the policy's: how much the weights that the two share serve the critic."""
    value_clip: float | None = Field(default=0.2, gt=0)
    """A value that has moved by more than this on a batch learns no more from it; None: no such bound."""
    epsilon: float = Field(default=0.2, gt=0)
    """Lower clip of the ratio: 1 - epsilon; ``gspo`` wants far less (3e-4 in its paper)."""
    epsilon_high: float | None = Field(default=0.28, gt=0)
    """Upper clip of the ratio: 1 + epsilon_high; None: as epsilon; ``gspo`` wants far less (4e-4 in its paper)."""
    dual_clip: float | None = Field(default=None, gt=1)
    """Where the advantage A is negative, the clipped losses are at most -dual_clip * A (3 is usual); None: no such
    bound."""
    kl_coef: float = Field(default=0.0, ge=0)
    """Weight of the KL term to the reference policy; 0 loads no reference."""
    kl_in: Literal["loss", "reward"] = "loss"
    """Where that term is: a part of the loss, or taken off the reward of each sampled token (by ``k1``) before rewards
    become advantages."""
    kl_estimator: Literal["k1", "k2", "k3", "rho_k3"] = "k3"
    """Estimator of the term in the loss."""
    entropy_coef: float = Field(default=0.0, ge=0)
    """Weight of the entropy bonus: the loss loses this times the entropy at each sampled token."""
    entropy_target: float | None = Field(default=None, gt=0)
    """The bonus acts only in steps before which the mean entropy (metric ``entropy``) was below this; None: always."""
    importance_correction: Literal["token", "icepop", "geometric", "none"] = "token"
    """Correction for a sampler mu unlike the learner, by w = pi_old/mu: ``token`` (w, capped), ``icepop`` (w inside
    importance_range, 0 outside), ``geometric`` (capped w in rows whose geometric mean is inside, 0 in others) or
    ``none``."""
    importance_cap: float = Field(default=2.0, gt=0)
    """Cap of w, for ``token`` and ``geometric``."""
    importance_range: tuple[float, float] = (0.5, 5.0)
    """Lowest and highest w that is kept, for ``icepop`` and ``geometric``."""
    lora: LoraArgs | None = None
    """Train a LoRA adapter; None trains all weights."""
    load_in_4bit: bool = False
    """QLoRA ([2305.14314](https://arxiv.org/abs/2305.14314)): the weights under a LoRA adapter in 4 bits (nf4), by
    bitsandbytes."""
    freeze_vision: bool = True
    """Leave a vision tower, and what leads from it to the language model, as they are; false trains them too (without
    LoRA)."""
    bf16: bool = False
    """Weights and products in bfloat16 (optimiser state too); False: float32."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass to save memory."""
    prefix_sharing: bool = True
    """Compute what rows begin with in common once; left to the plain path where the model cannot (the run says so)."""
    max_tokens_per_micro_batch: PositiveInt = 16_384
    """Tokens of one forward and backward pass, padding included, at most (one row always goes)."""
    save_steps: PositiveInt = 20
    """A checkpoint every so many steps (and at the end)."""
    save_total_limit: PositiveInt = 2
    """Checkpoints kept."""
    use_vllm_sampler: bool = False
    """Ask for sampling with vLLM.  There is no vLLM sampler yet: the run says so and samples with Hugging Face."""
    vllm_config: dict[str, Any] = Field(default={})
    """The engine's own arguments; unused until there is a vLLM sampler."""

    @field_validator("importance_range")
    @classmethod
    def _around_one(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= value[0] < 1 < value[1]:
            raise ValueError(f"the lowest w ({value[0]:g}) must be in [0, 1) and the highest ({value[1]:g}) above 1")
        return value


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
    """Requests that the policy answers at once."""
    deterministic: bool = True
    """Batch by a logical clock (the same bits twice) or as requests become ready (faster)."""
    dynamic_sampling: int = Field(default=0, ge=0)
    """Groups that would teach nothing are replaced by fresh tasks, in at most so many further rounds a step; what is
    still without spread then is left out.  0: all groups are learned from.  See [algorithms.md](algorithms.md)."""


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
    """Expert episodes of each training environment."""
    steps: PositiveInt = 50
    """Optimiser steps of imitation."""
    batch_size: PositiveInt = 32
    """Episodes (single turns under a window) of one of them."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Their peak learning rate; it rises over the first tenth and falls to 0."""
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
