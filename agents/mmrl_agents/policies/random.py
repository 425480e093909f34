"""A policy that picks one of the environment's named actions, or random words where it names none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmrl.policy import Completion, Request


class RandomPolicy:
    """Uniform over the words that the system message lists after ``Actions:``; else random characters."""

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer each request from its own seed."""
        return [Completion(self._act(r)) for r in requests]

    def _act(self, request: Request) -> str:
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(request.seed)))
        actions = named_actions(request)
        if actions:
            return actions[int(rng.integers(len(actions)))]
        space = request.env.action_space
        space.seed(int(rng.integers(2**31)))
        return space.sample()


def named_actions(request: Request) -> list[str]:
    """The actions that the conversation's system message lists on a line ``Actions: a, b, c``."""
    for message in request.messages:
        for line in message.text.splitlines():
            if message.role == "system" and line.startswith("Actions:"):
                return [a.strip() for a in line.removeprefix("Actions:").split(",") if a.strip()]
    return []


def load() -> RandomPolicy:
    """Make the policy ``random``."""
    return RandomPolicy()
