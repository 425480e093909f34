"""How long a run's episodes will be: played with random actions, every answer as long as it may be.

Comes in: a configuration and a tokenizer.  Goes out: trajectories with the token ids of a training step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmrl.config import Config, EnvironmentConfig
from mmrl.episode import EpisodeLimits, EpisodeSpec
from mmrl.errors import BadInput
from mmrl.policy import Completion, Request
from mmrl.rollout import Scheduler
from mmrl.run_sync import run_sync
from mmrl.trajectory import Trajectory
from mmrl_agents.models import ModelFiles, load_generation, text_context
from mmrl_agents.policies.hf import end_ids
from mmrl_agents.policies.random import RandomPolicy
from mmrl_agents.tasks import Plan, step_specs
from mmrl_agents.transcript import Transcript

STEPS = 4
"""Training steps whose episodes are played: one step's may be short by chance."""
HELD_OUT = 8
"""Held-out episodes of each environment that are played, to see how long they are."""
WORDS = "abcdefghijklmnopqrstuvwxyz0123456789"
"""What answers are made of: ids that stand for text alone."""


class ProbePolicy:
    """Acts at random, and says so at full length: ``max_new_tokens`` ids an answer, drawn from the request's seed.

    Args:
        transcript: makes prompts.
        max_new_tokens: ids of an answer.
        max_context: ids of prompt and answer, at most.
    """

    def __init__(self, transcript: Transcript, max_new_tokens: int, max_context: int) -> None:
        self._transcript = transcript
        self._length, self._context = max_new_tokens, max_context
        self._acts = RandomPolicy()
        self._ids = list(dict.fromkeys(transcript.tokenizer(" ".join(WORDS), add_special_tokens=False)["input_ids"]))

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer each request."""
        return [self._long(r, c) for r, c in zip(requests, await self._acts.generate(requests), strict=True)]

    def _long(self, request: Request, completion: Completion) -> Completion:
        prompt, images = self._transcript.prompt_of(request), self._transcript.images_of(request)
        if len(prompt) + self._length > self._context:
            return Completion("", prompt, finish_reason="context", images=images)
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(request.seed)))
        said = tuple(self._ids[i] for i in rng.integers(len(self._ids), size=self._length))
        return dataclasses.replace(completion, prompt_ids=prompt, token_ids=said, logprobs=(-1.0,) * self._length,
                                   finish_reason="length", images=images)  # fmt: skip


@dataclass(frozen=True)
class Played:
    """Episodes that show how long a run's will be: those of its first training steps, and some held-out ones."""

    steps: tuple[tuple[Trajectory, ...], ...]
    held_out: tuple[Trajectory, ...]


def play(config: Config, files: ModelFiles, processing: Any, sizes: Plan) -> Played:
    """Play a run's first episodes.

    Raises:
        BadInput: if none of a step's episodes can be played.
    """
    rollout = config.rollout
    transcript = Transcript(processing, end_ids(load_generation(files), processing))
    policy = ProbePolicy(transcript, rollout.max_new_tokens, rollout.max_context or text_context(files))
    cursor, steps = [0] * len(config.environments), list[tuple[Trajectory, ...]]()
    for step in range(1, STEPS + 1):
        specs, cursor = step_specs(config, sizes, step, cursor)
        steps.append(_played(specs, policy, EpisodeLimits(rollout.max_turns, rollout.window)))
    if not all(steps):
        raise BadInput("none of a training step's episodes can be played; see mmrl check env")
    environments: list[EnvironmentConfig] = config.eval.environments or config.environments
    held_out = [
        EpisodeSpec(f"p{e}-{i}", env.id, config.eval.final_seed + i, f"p{e}-{i}", (0, e, i), env.kwargs)
        for e, env in enumerate(environments)
        for i in range(HELD_OUT if max(config.eval.episodes, config.eval.final_episodes) else 0)
    ]
    return Played(tuple(steps), _played(held_out, policy, EpisodeLimits(config.eval.max_turns, rollout.window)))


def _played(specs: Sequence[EpisodeSpec], policy: ProbePolicy, limits: EpisodeLimits) -> tuple[Trajectory, ...]:
    return tuple(t for t in run_sync(Scheduler(limits).run(specs, policy)) if t.error is None and t.turns)
