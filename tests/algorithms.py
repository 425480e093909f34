"""Every algorithm as the settings that make it, for tests of learning; and the runs that they go through.

A run is one base configuration, with what differs for the algorithm and for the task laid over it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Algorithm:
    """What differs from GRPO as the base has it.

    Attributes:
        sections: of the configuration, laid over the base key by key; lists take the place of the base's.
        stored_by: whose stored rollouts it learns from: ``expert``, or ``""`` for the policy that it starts from; None:
            it samples its own.
        bandit: more of them, on the bandit alone.
        red_ball: more of them, on GoToRedBallNoDists alone.
        marks: success that counts as learned, by ``bandit`` or ``red_ball``, where it is not the task's.
    """

    sections: Settings = field(default_factory=dict[str, Any])
    stored_by: str | None = None
    bandit: Settings = field(default_factory=dict[str, Any])
    red_ball: Settings = field(default_factory=dict[str, Any])
    marks: Mapping[str, float] = field(default_factory=dict[str, float])


def args(**settings: Any) -> Settings:
    """Settings of the section ``training_args``."""
    return {"training_args": settings}


def loss(name: str, **settings: Any) -> Algorithm:
    """A loss under which the second of two steps on a batch has ratios to clip."""
    return Algorithm(args(loss_type=name, num_iterations=2, **settings))


def ppo(**settings: Any) -> Algorithm:
    """A critic in place of groups; it has to learn before it is of use, and the policy moves by smaller steps."""
    both = {"train_type": "PPO", **args(num_generations=1, critic_learning_rate=1e-3, **settings)}
    return Algorithm(both, red_ball=args(num_iterations=2, learning_rate=3e-4))


ALGORITHMS: dict[str, Algorithm] = {
    "advantage grpo": Algorithm(),
    "advantage dr_grpo": Algorithm(args(advantage="dr_grpo")),
    "advantage rloo": Algorithm(args(advantage="rloo")),
    "advantage batch_std": Algorithm(args(advantage="batch_std")),
    "advantage reinforce_pp": Algorithm(args(advantage="reinforce_pp")),
    "advantage gigpo": Algorithm(args(advantage="gigpo", turn_discount=0.95)),
    "returns of turns": Algorithm(args(turn_discount=0.95)),
    "gdpo": Algorithm(
        {"rewards": {"normalise": "normalise_then_sum"}},
        bandit={"reward_plugins": [{"name": "env_reward"}, {"name": "task_completion"}]},
    ),
    "ppo, gae over tokens": ppo(),
    "ppo, gae over turns": ppo(advantage="gae_turn"),
    "loss grpo": loss("grpo"),
    "loss dapo": loss("dapo"),
    "loss dr_grpo": loss("dr_grpo"),
    "loss gspo": loss("gspo", epsilon=3e-4, epsilon_high=4e-4),
    "loss cispo": loss("cispo"),
    "loss sapo": loss("sapo"),
    "loss reinforce": Algorithm(args(loss_type="reinforce", advantage="dr_grpo")),
    "kl in the loss, k2": Algorithm(args(kl_coef=0.01, kl_estimator="k2")),
    "kl in the loss, k3": Algorithm(args(kl_coef=0.01)),
    "kl in the loss, rho_k3": Algorithm(args(kl_coef=0.01, kl_estimator="rho_k3", num_iterations=2)),
    "kl in the reward": Algorithm(args(kl_coef=0.01, kl_in="reward")),
    "entropy bonus": Algorithm(args(entropy_coef=0.003)),
    "weighted_log_ratio": Algorithm(
        {"train_type": "WEIGHTED_LOG_RATIO", "logged": {"weight": "dr_grpo"}, **args(kl_coef=0.01, kl_estimator="k2")},
        stored_by="", bandit={"reward_plugins": [{"name": "task_completion"}]},
        red_ball={"reward_plugins": [{"name": "task_completion"}], "logged": {"weight": "reward"}},
        marks={"bandit": 0.6, "red_ball": 0.45},  # what the policy that it starts from can do bounds it
    ),
    "sft": Algorithm({"train_type": "SFT"}, stored_by="expert"),
}
"""By the name that the table in docs/learning.md gives them."""
