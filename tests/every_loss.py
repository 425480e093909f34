"""Every loss as one way to learn from trajectories, and episodes in every context mode, for tests that all must pass.

A way makes a learner and takes a step with it; each trajectory has a worth: its advantage, or its weight.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from learner_tools import trajectory, turn
from torch import Tensor
from trees import numbers

from mmrl.training_args import TrainingArgs
from mmrl.trajectory import Trajectory, Turn
from mmrl_agents.batch import Segment, segments_of, token_counts
from mmrl_agents.critic import Critic
from mmrl_agents.learner import Learner
from mmrl_agents.loss_type import LOSSES
from mmrl_agents.normaliser import Normaliser, per_token, per_trajectory
from mmrl_agents.reference import Reference
from mmrl_agents.sharing import Sharing

TEMPERATURE = 0.6
BUDGET = 20
MODES: dict[str, int | None] = {"transcript": None, "window": 2}
"""Context modes: the whole transcript, or the last two observations."""
WORTH = [1.5, -0.5, 0.3, 0.7, -1.2, 2.0]
"""Of each trajectory of :func:`episodes`; no two are equal and none is 0."""
Step = Callable[[Learner, Sequence[Trajectory], Sequence[float]], dict[str, float]]


def episodes(window: int | None) -> list[Trajectory]:
    """Two groups of three episodes of one to three turns, of ragged lengths.

    Under a window of 2 the third turn sees no more of the first: it is a segment of its own.
    """
    return [_episode(f"g{g}-{i}", numbers(g, 5 + g), _exchanges(g, i), window, WORTH[3 * g + i])
            for g in range(2) for i in range(3)]  # fmt: skip


Exchange = tuple[list[int], list[int]]
"""The ids of an observation and of the answer to it."""


def _exchanges(group: int, member: int) -> list[Exchange]:
    """A group's members meet the same first observation."""
    own = 10 * group + member
    later = [(numbers(50 + own + 100 * n, 2 + n), numbers(80 + own + 100 * n, 2 + group + n))
             for n in range((group + member) % 3)]  # fmt: skip
    return [(numbers(10 + group, 4), numbers(20 + own, 3 + member)), *later]


def _episode(name: str, head: list[int], said: Sequence[Exchange], window: int | None, reward: float) -> Trajectory:
    turns: list[Turn] = []
    for n, (observation, answer) in enumerate(said):
        seen = said[0 if window is None else max(0, n + 1 - window) : n]
        prompt = [*head, *(i for exchange in seen for part in exchange for i in part), *observation]
        turns.append(turn(prompt, answer, torch.linspace(-5, -3 - n, len(answer)).tolist()))
    return trajectory(name, turns, reward)


def segments(trajectories: Sequence[Trajectory]) -> list[Segment]:
    """All segments, numbered by trajectory."""
    return [s for i, t in enumerate(trajectories) for s in segments_of(t, i)]


def counts(trajectories: Sequence[Trajectory]) -> list[int]:
    """Sampled tokens of each trajectory."""
    return token_counts(segments(trajectories), len(trajectories)).tolist()


def policy(learner: Learner, trajectories: Sequence[Trajectory], worth: Sequence[float]) -> dict[str, float]:
    """An update by advantages of trajectories."""
    return learner.update(trajectories, worth)


def with_critic(learner: Learner, trajectories: Sequence[Trajectory], worth: Sequence[float]) -> dict[str, float]:
    """An update by advantages of tokens, and returns for a critic."""
    foreseen, lengths = learner.foresee(trajectories), counts(trajectories)
    rows = [[w] * n for w, n in zip(worth, lengths, strict=True)]
    returns: list[list[float | None]] = [[w + 0.1 * k for k in range(n)] for w, n in zip(worth, lengths, strict=True)]
    return learner.update(trajectories, worth, by_token=rows, returns=returns, foreseen=foreseen)


def logged(learner: Learner, trajectories: Sequence[Trajectory], worth: Sequence[float]) -> dict[str, float]:
    """A step of the weighted log-ratio."""
    return learner.weigh(segments(trajectories), worth)


def imitated(learner: Learner, trajectories: Sequence[Trajectory], worth: Sequence[float]) -> dict[str, float]:
    """A step of imitation, which knows no worth."""
    return learner.imitate(segments(trajectories))


@dataclass(frozen=True)
class Way:
    """One loss.

    Attributes:
        step: how it learns from a batch.
        normaliser: what a token weighs.
        args: settings that make it this loss.
        samples: it learns from the policy's own samples, with ratios and an importance correction.
    """

    step: Step
    normaliser: Normaliser
    args: dict[str, Any] = field(default_factory=dict[str, Any])
    samples: bool = True

    def learner(self, model: Any, reference: Reference | None = None, tell: Callable[[str], None] | None = None,
                **changes: Any) -> Learner:  # fmt: skip
        """A learner for ``model``; ``changes`` are of its arguments."""
        given: dict[str, Any] = {"learning_rate": 1e-3, "max_grad_norm": 1e9, "per_device_train_batch_size": 100}
        args = TrainingArgs(**given | self.args | changes)
        critic = Critic.of(model) if self.step is with_critic else None
        sharing = Sharing(args.prefix_sharing, tell or (lambda _: None))
        return Learner(model, args, TEMPERATURE, 10, reference, BUDGET, critic=critic, sharing=sharing)


WAYS: dict[str, Way] = {
    **{name: Way(policy, loss.normaliser, {"loss_type": name}) for name, loss in LOSSES.items()},
    "ppo": Way(with_critic, per_token, {"loss_type": "grpo", "normaliser": "dapo", "advantage": "gae"}),
    "weighted_log_ratio": Way(logged, per_trajectory, samples=False),
    "sft": Way(imitated, per_token, samples=False),
}
SAMPLING = [name for name, way in WAYS.items() if way.samples]
COMPARING = [name for name in WAYS if name != "sft"]
"""Those that compare with an older policy or a reference."""


def gradients(made: Learner) -> list[list[Tensor]]:
    """Filled with the gradients that each optimiser step sees, a critic's last."""
    seen: list[list[Tensor]] = []
    every = [p for group in made.optimizer.param_groups for p in group["params"]]
    made.optimizer.register_step_pre_hook(
        lambda *_: seen.append([torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in every])
    )
    return seen
