"""A policy that does what the environment's own expert would do (MiniGrid's BabyAIBot in BabyAI)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from mmrl.policy import Completion, Request


class ExpertPolicy:
    """Speaks the environment's expert action."""

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Ask each request's environment, off the event loop's thread."""
        return [Completion(await asyncio.to_thread(r.env.expert_action)) for r in requests]


def load() -> ExpertPolicy:
    """Make the policy ``expert``."""
    return ExpertPolicy()
