"""An expert that now and then does something else: its episodes show how to go on after a mistake."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from mmrl.policy import Completion, Request
from mmrl_agents.policies.expert import expert_answer
from mmrl_agents.policies.random import named_actions


class NoisyExpert:
    """The environment's expert, with a share of random actions, before which it says what the expert would.

    Args:
        noise: share of random actions, in [0, 1); 0 where the environment names no actions.

    Attributes:
        own: for each episode, which of its turns were the expert's own.
    """

    def __init__(self, noise: float) -> None:
        self.noise = noise
        self.own: dict[str, list[bool]] = {}

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer each request from its own seed, off the event loop's thread."""
        return [await asyncio.to_thread(self._act, r) for r in requests]

    def _act(self, request: Request) -> Completion:
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(request.seed)))
        actions = named_actions(request)
        own = not actions or rng.random() >= self.noise
        self.own.setdefault(request.episode, []).append(own)
        return expert_answer(request) if own else Completion(request.env.expert_reasoning() + str(rng.choice(actions)))
