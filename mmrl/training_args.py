"""How a learner learns: the section ``training_args`` of a run's configuration.

Comes in: the section as written.  Goes out: a frozen :class:`TrainingArgs`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt, field_validator

from mmrl.section import Section

RateCourse = Literal["constant", "linear", "cosine"]
"""Courses of a learning rate after its warm-up."""


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
    lr_scheduler_type: RateCourse = "constant"
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
    optim: Literal["adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit", "galore_adamw"] = "adamw"
    """``adamw``; ``adamw_8bit`` (its state in 8 bits, by bitsandbytes); ``paged_adamw`` and ``paged_adamw_8bit`` (their
    state moves to the host's memory where a GPU's runs out); ``galore_adamw`` (its state in a subspace).  See
    [memory.md](memory.md)."""
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
    mask_truncated_completions: bool = False
    """Learn nothing from episodes whose last answer was cut by ``rollout.max_new_tokens`` (DAPO's overlong filtering):
    what they got still counts in the comparison of their group."""
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
    mixed_precision: bool | Literal["auto"] = False
    """Products alone in bfloat16, in the update and in sampling; ``auto``: in each of them if a measurement at the
    start of the run finds it faster here.  See [speed.md](speed.md)."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass to save memory."""
    offload_activations: bool = False
    """What a GPU keeps for the backward pass waits in the host's memory."""
    torch_compile: bool = False
    """Compile the forward and backward pass of updates, which takes time in the first ones.  See
    [speed.md](speed.md)."""
    prefix_sharing: bool = True
    """Compute what rows begin with in common once; left to the plain path where the model cannot (the run says so)."""
    max_tokens_per_micro_batch: PositiveInt = 16_384
    """Tokens of one forward and backward pass, padding included, at most (one row always goes)."""
    save_steps: PositiveInt = 20
    """A checkpoint every so many steps (and at the end)."""
    save_total_limit: PositiveInt = 2
    """Checkpoints kept."""
    use_vllm_sampler: bool = False
    """Sample training's episodes with vLLM; false: with the learner's own model.  See [samplers.md](samplers.md)."""
    vllm_config: dict[str, Any] = Field(default={})
    """Arguments of vLLM's engine (`max_num_seqs`, `gpu_memory_utilization`, `enable_lora`, ...), by its own names; or
    `server: URL` (or a list of them) and what belongs to servers.  Read with `use_vllm_sampler` alone."""

    @field_validator("importance_range")
    @classmethod
    def _around_one(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= value[0] < 1 < value[1]:
            raise ValueError(f"the lowest w ({value[0]:g}) must be in [0, 1) and the highest ({value[1]:g}) above 1")
        return value
