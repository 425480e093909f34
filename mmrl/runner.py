"""Runs one plugin: micro-batches, calls at once, time limits, retries, cache.

Comes in: trajectories, as they end.  Goes out: one future each with a checked score; whatever the plugin does, the
future is resolved, and never with an exception of the plugin's.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from mmrl.caller import LoopCaller, Overdue, ThreadCaller
from mmrl.plugin import ASYNC_CONCURRENCY, RewardPlugin, by_compute, is_async, score_one, score_one_async, takes_state
from mmrl.run_state import RunState
from mmrl.score import Score
from mmrl.score_cache import ScoreCache
from mmrl.score_check import CLIPPED, checked
from mmrl.trajectory import Trajectory

LOAD_LIMIT_S = 600.0  # for a plugin with a time limit; its calls have their own
STRIKES = 3  # calls overdue in a row after which a plugin counts as hung
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0


@dataclass(frozen=True)
class Limits:
    """How a plugin is run; see :class:`~mmrl.plugin_config.PluginConfig`."""

    timeout_s: float | None = None
    retries: int = 0
    batch_size: int | None = None
    concurrency: int | None = None
    clip: bool = False


@dataclass(frozen=True)
class Job:
    """One trajectory to score."""

    trajectory: Trajectory
    state: RunState
    future: Future[Score] = field(default_factory=Future)


class Runner:
    """One plugin at work.

    A plugin that is overdue three times in a row counts as hung: its scores fail at once until :meth:`begin` gives it
    another chance, of one call.

    Args:
        plugin: the plugin.
        limits: how it is run.
        cache: where its scores are remembered, or None.
        sleep: waits between tries, in seconds.
    """

    def __init__(self, plugin: RewardPlugin, limits: Limits, cache: ScoreCache | None = None,
                 sleep: Callable[[float], None] = time.sleep) -> None:
        self.plugin, self.limits, self.cache, self._sleep = plugin, limits, cache, sleep
        single = by_compute(plugin)
        self._batch = 1 if single else limits.batch_size or plugin.batch_size
        self._slots = limits.concurrency or plugin.concurrency or (ASYNC_CONCURRENCY if is_async(plugin) else 1)
        self._loop = LoopCaller() if is_async(plugin) else None
        self._waiting: deque[Job] = deque()
        self._busy = 0
        self._strikes = 0
        self._loaded = False
        self._lock, self._loading = threading.Lock(), threading.Lock()

    def begin(self) -> None:
        """A new batch of episodes begins: a plugin that counts as hung gets one more call."""
        with self._lock:
            self._strikes = min(self._strikes, STRIKES - 1)

    def load(self) -> None:
        """Let the plugin load what it needs now, once, on a thread of its own.

        Raises:
            Overdue: if it takes longer than the limit for loading.
            Exception: whatever the plugin raises.
        """
        caller = ThreadCaller()
        try:
            self._load(caller)
        finally:
            caller.close()

    def submit(self, trajectories: Sequence[Trajectory], state: RunState) -> list[Future[Score]]:
        """Score trajectories, on threads of the runner's own."""
        jobs = [Job(t, state) for t in trajectories]
        with self._lock:
            self._waiting.extend(jobs)
            wanted = -(-len(self._waiting) // self._batch)
            start = min(self._slots - self._busy, wanted)
            self._busy += max(0, start)
        for _ in range(start):
            threading.Thread(target=self._work, name="mmrl-score", daemon=True).start()
        return [job.future for job in jobs]

    def _work(self) -> None:
        caller = ThreadCaller()
        while True:
            with self._lock:
                taken = [self._waiting.popleft() for _ in range(min(self._batch, len(self._waiting)))]
                if not taken:
                    self._busy -= 1
                    break
            jobs = [job for job in taken if job.future.set_running_or_notify_cancel()]
            if not jobs:
                continue
            try:
                self._answer(jobs, caller)
            except BaseException as error:  # a failed score, not a rollout that waits for ever
                _resolve(jobs, [Score.failed(f"{type(error).__name__}: {error}")] * len(jobs))
        caller.close()

    def _answer(self, jobs: Sequence[Job], caller: ThreadCaller) -> None:
        """Resolve jobs: from the cache where it knows, else from the plugin."""
        keys = [self.cache.key(self.plugin, j.trajectory, j.state) if self.cache else None for j in jobs]
        known = [self.cache.get(k) if self.cache and k else None for k in keys]
        open_jobs = [j for j, score in zip(jobs, known, strict=True) if score is None]
        fresh = iter(self._scores(open_jobs, caller) if open_jobs else [])
        scores = [next(fresh) if score is None else score for score in known]
        if self.cache is not None:
            for key, old, score in zip(keys, known, scores, strict=True):
                if key is not None and old is None and score.status != "failed" and CLIPPED not in score.info:
                    with suppress(sqlite3.Error):  # a full disk costs the memory of a score, not the score
                        self.cache.put(key, score)
        _resolve(jobs, scores)

    def _scores(self, jobs: Sequence[Job], caller: ThreadCaller) -> list[Score]:
        returned = self._tried(jobs, caller)
        if isinstance(returned, str) and len(jobs) > 1 and not self._hung:
            # One by one, so that a trajectory that the plugin stumbles over fails alone.
            return [score for job in jobs for score in self._scores([job], caller)]
        if isinstance(returned, str):
            return [Score.failed(returned)] * len(jobs)
        clip = self.limits.clip
        return [checked(r, self.plugin, len(j.trajectory.turns), clip) for r, j in zip(returned, jobs, strict=True)]

    def _tried(self, jobs: Sequence[Job], caller: ThreadCaller) -> list[Any] | str:
        """What the plugin returned, or what went wrong at the last try."""
        wrong = ""
        for attempt in range(self.limits.retries + 1):
            if self._hung:
                return f"the plugin hangs: {STRIKES} calls in a row took longer than {self.limits.timeout_s:g} s"
            if attempt:
                self._sleep(min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (attempt - 1)))
            try:
                self._load(caller)
                returned = self._call(jobs, caller)
                self._strikes = 0
                return returned
            except Overdue as error:
                wrong = f"Overdue: {error}"
                with self._lock:
                    self._strikes += 1
            except BaseException as error:  # a plugin's SystemExit too: this thread is not the user's
                wrong = f"{type(error).__name__}: {error}"
        return wrong

    @property
    def _hung(self) -> bool:
        return self._strikes >= STRIKES

    def _load(self, caller: ThreadCaller) -> None:
        """Let the plugin load what it needs, once."""
        with self._loading:
            if not self._loaded:
                try:
                    caller.call(self.plugin.load, None if self.limits.timeout_s is None else LOAD_LIMIT_S)
                except Overdue:
                    self._strikes = STRIKES  # no second wait of that length before the next step
                    raise
                self._loaded = True

    def _call(self, jobs: Sequence[Job], caller: ThreadCaller) -> list[Any]:
        plugin, timeout, first = self.plugin, self.limits.timeout_s, jobs[0]
        if self._loop is not None:
            return [self._loop.call(lambda: score_one_async(plugin, first.trajectory, first.state), timeout)]
        if by_compute(plugin):
            return [caller.call(lambda: score_one(plugin, first.trajectory, first.state), timeout)]
        trajectories = [j.trajectory for j in jobs]
        state = {"state": first.state} if takes_state(plugin) else {}
        scores: list[Any] = caller.call(lambda: list(plugin.score(trajectories, **state)), timeout)
        if len(scores) != len(jobs):
            raise ValueError(f"score() returned {len(scores)} scores for {len(jobs)} trajectories")
        return scores


def _resolve(jobs: Sequence[Job], scores: Sequence[Score]) -> None:
    for job, score in zip(jobs, scores, strict=True):
        if not job.future.done():
            job.future.set_result(score)
