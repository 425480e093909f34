"""Keys that were set and that nothing would read: refused, so that nobody believes that they act.

Comes in: a configuration, and who reads what.  Goes out: nothing, or one line that names the key and its readers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmrl.config import RolloutConfig, default_of
from mmrl.config_load import LoadedConfig
from mmrl.errors import BadInput
from mmrl_agents.correction import KEYS as CORRECTION_KEYS
from mmrl_agents.loss_type import LOSSES, find_loss

OWN = (
    "num_iterations", "loss_type", "normaliser", "advantage", "turn_baseline", "token_discount",
    "mask_truncated_completions",
    "gigpo_omega", "gae_lambda", "critic_learning_rate", "value_coef", "value_clip", "epsilon", "epsilon_high",
    "dual_clip", "kl_coef", "kl_in", "kl_estimator", "entropy_coef", "entropy_target", "importance_correction",
    "importance_cap", "importance_range", "use_vllm_sampler", "vllm_config",
)  # fmt: skip
"""What has a meaning for answers that the policy sampled itself, and not for stored ones."""
TRAINERS: dict[str, tuple[str, ...]] = {
    "GRPO": OWN, "PPO": OWN, "SFT": (), "WEIGHTED_LOG_RATIO": ("normaliser", "kl_coef", "kl_in", "kl_estimator"),
}  # fmt: skip
"""By ``train_type``: which of them it reads (:mod:`mmrl_agents.weighted` says itself what it does not take)."""


AHEAD = ("async_steps", "max_staleness")
"""Keys of ``rollout`` for what the policy samples itself, too."""


def refuse_unread(loaded: LoadedConfig, kind: str, chosen: str, read: Sequence[str],
                  readers: Mapping[str, Sequence[str]]) -> None:
    """Refuse what was set in ``training_args`` and is read by other variants alone.

    Args:
        loaded: the run's configuration.
        kind: the key that chooses the variant.
        chosen: the variant.
        read: the keys that it reads.
        readers: the same of every variant that has a name.

    Raises:
        BadInput: naming the key, its place and the variants that read it.
    """
    config = loaded.config
    for key in dict.fromkeys(k for keys in readers.values() for k in keys):
        if key not in read and getattr(config.training_args, key) != default_of(config.train_type, key):
            names = ", ".join(name for name, keys in readers.items() if key in keys)
            raise BadInput(f"{loaded.where('training_args', key)}: {kind} '{chosen}' does not read '{key}'; leave it "
                           f"out, or take one that does: {names}")  # fmt: skip


def refuse_ahead(loaded: LoadedConfig) -> None:
    """Refuse to sample ahead where what is learned from is stored.

    Raises:
        BadInput: naming the key, its place and the learners that read it.
    """
    config = loaded.config
    readers = [name for name, keys in TRAINERS.items() if "importance_correction" in keys]
    for key in AHEAD if config.train_type in TRAINERS and config.train_type not in readers else ():
        if getattr(config.rollout, key) != RolloutConfig.model_fields[key].default:
            raise BadInput(f"{loaded.where('rollout', key)}: train_type '{config.train_type}' does not read "
                           f"'rollout.{key}'; leave it out, or take one that does: {', '.join(readers)}")  # fmt: skip


def check_unread(loaded: LoadedConfig) -> None:
    """Refuse keys that the learner, the loss or the importance correction does not read.

    Raises:
        BadInput: naming the key, its place and what would be right.
    """
    args, train_type = loaded.config.training_args, loaded.config.train_type
    refuse_unread(loaded, "train_type", train_type, TRAINERS.get(train_type, OWN), TRAINERS)
    refuse_ahead(loaded)
    keys = find_loss(args.loss_type, where=loaded.where("training_args", "loss_type")).keys
    if args.epsilon_high is None and "epsilon_high" in keys:  # which is then epsilon
        keys = (*keys, "epsilon")
    refuse_unread(loaded, "loss_type", args.loss_type, keys, {name: loss.keys for name, loss in LOSSES.items()})
    correction = args.importance_correction
    refuse_unread(loaded, "importance_correction", correction, CORRECTION_KEYS[correction], CORRECTION_KEYS)
    if args.entropy_target is not None and args.entropy_coef == 0:
        where = loaded.where("training_args", "entropy_target")
        raise BadInput(f"{where}: entropy_target switches the entropy bonus, and entropy_coef is 0; set "
                       "training_args.entropy_coef, or leave entropy_target out")  # fmt: skip
