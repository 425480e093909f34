"""Collects the requests of many episodes into batches for one policy.

By default a logical clock decides: a batch is the set of requests of all live episodes, in the episodes'
order, so that a run repeats to the same bits.  Without it, a batch is whatever is ready when the policy is
free: no barrier, equal in distribution.  A policy that may be asked again before it has answered is always free.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from mmrl.policy import Completion, Policy, Remembering, Request


class Batcher:
    """Batches requests for ``policy``.

    Args:
        policy: answers the batches.
        live: how many episodes run at once from the start.
        deterministic: wait for every live episode before each round (see the module's text).
        max_batch: at most this many requests are with the policy at once.
        overlapping: without the clock, ask the policy again before it has answered.
    """

    def __init__(self, policy: Policy, live: int, deterministic: bool, max_batch: int,
                 overlapping: bool = False) -> None:
        self._policy = policy
        self._live = live
        self._deterministic = deterministic
        self._max_batch = max_batch
        self._overlapping = overlapping
        self._asked = 0
        self._ended: list[str] = []
        self._pending: list[tuple[Request, asyncio.Future[Completion]]] = []
        self._ready = asyncio.Event()

    async def submit(self, request: Request) -> Completion:
        """Wait for the policy's answer to ``request``."""
        future: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self._pending.append((request, future))
        self._check()
        return await future

    def ended(self, episode: str) -> None:
        """Say that an episode asks for nothing more; the policy hears of it when the next round begins.

        Not at once: by a logical clock even what a policy forgets must not depend on which thread was faster.
        """
        self._ended.append(episode)

    def leave(self) -> None:
        """Say that one of the live episodes has ended and no other takes its place."""
        self._live -= 1
        self._check()

    def _check(self) -> None:
        needed = self._live if self._deterministic else 1
        if self._pending and len(self._pending) >= needed and self._asked < self._max_batch:
            self._ready.set()

    async def serve(self) -> None:
        """Answer rounds of requests until cancelled; a policy's exception goes to every waiting episode."""
        async with asyncio.TaskGroup() as calls:
            while True:
                await self._ready.wait()
                self._ready.clear()
                ended, self._ended = self._ended, []
                if isinstance(self._policy, Remembering):
                    self._policy.ended(ended)
                waiting, self._pending = sorted(self._pending, key=lambda p: p[0].episode), []
                if self._deterministic:
                    for start in range(0, len(waiting), self._max_batch):
                        await self._call(waiting[start : start + self._max_batch])
                else:
                    room = self._max_batch - self._asked
                    self._pending = waiting[room:]
                    call = calls.create_task(self._call(waiting[:room]))
                    if not self._overlapping:
                        await call
                self._check()

    def _call(self, batch: list[tuple[Request, asyncio.Future[Completion]]]) -> Coroutine[Any, Any, None]:
        self._asked += len(batch)
        return self._answer(batch)

    async def _answer(self, batch: list[tuple[Request, asyncio.Future[Completion]]]) -> None:
        try:
            completions = await self._policy.generate([request for request, _ in batch])
            if len(completions) != len(batch):
                raise RuntimeError(f"the policy gave {len(completions)} completions for {len(batch)} requests")
        except asyncio.CancelledError:  # who waits would wait for ever
            for _, future in batch:
                future.cancel()
            raise
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(PolicyError(str(error) or type(error).__name__, error))
            return
        finally:
            self._asked -= len(batch)
            self._check()
        for (_, future), completion in zip(batch, completions, strict=True):
            if not future.done():
                future.set_result(completion)


class PolicyError(RuntimeError):
    """The policy failed; unlike an environment's failure this ends the run.

    Attributes:
        cause: the policy's own exception.
    """

    def __init__(self, message: str, cause: Exception) -> None:
        super().__init__(message)
        self.cause = cause
