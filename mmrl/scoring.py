"""Scores trajectories while others still run: each from the moment its episode ends, on the plugins' own threads."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable

from mmrl.reward import RewardSuite
from mmrl.run_state import START, RunState
from mmrl.stopwatch import Stopwatch
from mmrl.trajectory import Trajectory

Done = Callable[[int, Trajectory], None]


class Scoring:
    """Takes finished episodes, hands them on scored.

    Args:
        suite: the rewards; None hands every episode on as it is.
        done: called on the event loop with an episode's index and the scored trajectory.
        state: where the run stands.
        watch: told how long it takes to ``score``.
    """

    def __init__(self, suite: RewardSuite | None, done: Done, state: RunState = START,
                 watch: Stopwatch | None = None) -> None:
        self._suite, self._done, self._state, self._watch = suite, done, state, watch or Stopwatch()
        self._tasks: set[asyncio.Task[None]] = set()
        if suite is not None:
            suite.begin()

    def put(self, index: int, trajectory: Trajectory) -> None:
        """Take a finished episode; one that ended in an error is not scored."""
        if self._suite is None or trajectory.error is not None:
            self._done(index, trajectory)
        else:
            self._tasks.add(asyncio.get_running_loop().create_task(self._score(self._suite, index, trajectory)))

    async def _score(self, suite: RewardSuite, index: int, trajectory: Trajectory) -> None:
        with self._watch.measure("score"):
            futures = suite.submit(trajectory, self._state)
            scores = await asyncio.gather(*map(asyncio.wrap_future, futures.values()))
        record = suite.joined(dict(zip(futures, scores, strict=True)), self._state)
        self._done(index, dataclasses.replace(trajectory, record=record))

    async def drain(self) -> None:
        """Wait until everything taken has been handed on."""
        try:
            await asyncio.gather(*self._tasks)
        finally:
            for task in self._tasks:
                task.cancel()
