"""Our side: whole steps as ``mmrl train`` takes them, from the episodes to the update."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import mmrl
import mmrl_agents  # noqa: F401 - before torch: it says how waiting threads wait
from mmrl.config import TRAIN_SEEDS_START
from mmrl.episode import EpisodeLimits, EpisodeSpec
from mmrl.reward import RewardSuite
from mmrl.rollout import Scheduler
from mmrl.run_sync import run_sync
from mmrl.training_args import TrainingArgs
from mmrl_agents.advantage import grpo
from mmrl_agents.image_tokens import image_tokens
from mmrl_agents.learner import Learner
from mmrl_agents.models import find_model, load_model, load_processing
from mmrl_agents.policies.hf import HFPolicy
from mmrl_agents.run import freeze_vision
from mmrl_agents.sharing import Sharing
from mmrl_agents.vision import Vision
from sides.steps import Step

GROUP = 8


@dataclass(frozen=True)
class Work:
    """What both sides do in a step.

    Attributes:
        model: the policy's id.
        env: the environment's id, and its arguments.
        reward: the one plugin that scores, by name.
        tasks: of a step, each with ``GROUP`` tries.
        turns: of an episode, at most.
        answer: tokens of a turn, at most.
        rate: learning rate, constant.
    """

    model: str
    env: str
    reward: str
    tasks: int
    turns: int
    answer: int
    rate: float
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def seeds(self, step: int) -> range:
        """The tasks of a step, numbered from 0."""
        first = TRAIN_SEEDS_START + step * self.tasks
        return range(first, first + self.tasks)


def model_and_processing(work: Work) -> tuple[Any, Any]:
    """A fresh model, float32, its vision tower frozen, and its tokenizer or processor."""
    files = find_model(work.model)
    model, processing = load_model(files, device="cpu", trainable=True), load_processing(files)
    if image_tokens(processing) is not None:
        freeze_vision(model)
    return model, processing


class Ours:
    """The scheduler, the sampler, the suite, the advantages and the learner of mmrl."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.model, processing = model_and_processing(work)
        tokens = image_tokens(processing)
        vision = None if tokens is None else Vision(self.model, tokens)
        args = TrainingArgs(learning_rate=work.rate, num_generations=GROUP, max_tokens_per_micro_batch=4096,
                            per_device_train_batch_size=work.tasks * GROUP)  # fmt: skip
        self.policy = HFPolicy(self.model, processing, 1.0, work.answer, vision=vision)
        self.learner = Learner(self.model, args, 1.0, 1000, vision=vision, sharing=Sharing(True, print))
        self.suite = RewardSuite.from_config([{"name": work.reward}])
        self.scheduler = Scheduler(EpisodeLimits(work.turns), concurrency=256)
        self.episodes: list[mmrl.Trajectory] = []
        self.grad_norm = 0.0

    def step(self, number: int) -> Step:
        """Run the episodes of a step, compare them in their groups, update; ``episodes`` are the step's."""
        start = time.perf_counter()
        self.episodes = run_sync(self.scheduler.run(specs(self.work, number), self.policy, self.suite))
        self.policy.generator.rest()
        advantages = compared(self.episodes)
        began = time.perf_counter()
        metrics = self.learner.update(self.episodes, advantages)
        self.policy.updated(number + 1)
        end = time.perf_counter()
        if "update/skipped" in metrics:
            raise SystemExit("the rewards have no spread: nothing was learned")
        self.grad_norm = metrics["grad_norm"]
        return Step(end - start, end - began)

    def steps(self, count: int) -> None:
        """Take the first steps."""
        for number in range(count):
            self.step(number)


def specs(work: Work, number: int) -> list[EpisodeSpec]:
    """The episodes of a step, group after group."""
    return [
        EpisodeSpec(f"{number}-{seed}-{i}", work.env, seed, f"{number}-{seed}", (number, seed, i), work.kwargs)
        for seed in work.seeds(number)
        for i in range(GROUP)
    ]


def compared(episodes: Sequence[mmrl.Trajectory]) -> list[float]:
    """Advantages of episodes that were all scored, group after group."""
    import torch

    if not all(t.valid and t.record is not None for t in episodes):
        raise SystemExit("an episode failed")
    rewards = torch.tensor([t.record.value for t in episodes if t.record is not None])
    return torch.cat([grpo(r, torch.ones(GROUP, dtype=torch.bool)) for r in rewards.split(GROUP)]).tolist()
