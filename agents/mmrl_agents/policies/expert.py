"""A policy that does what the environment's own expert would do (MiniGrid's BabyAIBot in BabyAI)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from mmrl.env import NoExpert
from mmrl.policy import Completion, Request


class ExpertPolicy:
    """Speaks the environment's expert action."""

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Ask each request's environment, off the event loop's thread."""
        return [await asyncio.to_thread(expert_answer, r) for r in requests]


def expert_answer(request: Request) -> Completion:
    """What the expert of the request's environment would do; without one, an error of this episode."""
    try:
        return Completion(request.env.expert_action())
    except NoExpert as error:  # this episode's trouble, not the run's
        return Completion("", error=f"NoExpert: {error}")


def load() -> ExpertPolicy:
    """Make the policy ``expert``."""
    return ExpertPolicy()
