"""Scores trajectories while others still run: one thread of its own, batches of what has ended meanwhile.

A plugin is never called from two threads at once, so it may hold a model or a cache without locks.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from concurrent.futures import Executor

from mmrl.reward import RewardSuite
from mmrl.trajectory import Trajectory

Done = Callable[[int, Trajectory], None]


class Scoring:
    """Takes finished episodes, hands them on scored.

    Args:
        suite: the rewards; None hands every episode on as it is.
        thread: an executor of one thread.
        done: called on the event loop with an episode's index and the scored trajectory.
    """

    def __init__(self, suite: RewardSuite | None, thread: Executor, done: Done) -> None:
        self._suite = suite
        self._thread = thread
        self._done = done
        self._waiting: asyncio.Queue[tuple[int, Trajectory]] = asyncio.Queue()

    def put(self, index: int, trajectory: Trajectory) -> None:
        """Take a finished episode; one that ended in an error is not scored."""
        if self._suite is None or trajectory.error is not None:
            self._done(index, trajectory)
        else:
            self._waiting.put_nowait((index, trajectory))

    async def serve(self) -> None:
        """Score whatever waits, until cancelled."""
        while True:
            batch = [await self._waiting.get()]
            while not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            batch.sort(key=lambda pair: pair[0])
            assert self._suite is not None
            loop = asyncio.get_running_loop()
            records = await loop.run_in_executor(self._thread, self._suite.score, [t for _, t in batch])
            for (index, trajectory), record in zip(batch, records, strict=True):
                self._done(index, dataclasses.replace(trajectory, record=record))
                self._waiting.task_done()

    async def drain(self) -> None:
        """Wait until everything taken has been handed on."""
        await self._waiting.join()
