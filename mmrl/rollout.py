"""The asynchronous multi-turn scheduler: many episodes at once against one policy.

Comes in: episode specs, a policy, a reward suite.  Goes out: scored trajectories, in the specs' order.
Episodes advance on their own; environments run on a thread pool, plugins on threads of their own, off the model's
thread; an environment's exception ends its own episode as an error.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any

from mmrl.batcher import Batcher, PolicyError
from mmrl.env import Env
from mmrl.episode import EpisodeLimits, EpisodeSpec, run_episode
from mmrl.errors import BadInput
from mmrl.load import load_policy
from mmrl.make import make
from mmrl.policy import Policy, overlaps
from mmrl.reward import PluginConfig, RewardSuite
from mmrl.run_state import START, RunState
from mmrl.run_sync import run_sync
from mmrl.sample import Sample
from mmrl.scoring import Scoring
from mmrl.stopwatch import Stopwatch, TimedPolicy, TimedPool
from mmrl.trajectory import Trajectory

OnDone = Callable[[Trajectory], None]


@dataclasses.dataclass(frozen=True)
class Scheduler:
    """How to run episodes.

    Attributes:
        limits: turns and context of each episode.
        concurrency: episodes at once.
        max_batch: requests that are with the policy at once.
        deterministic: batch by a logical clock (the same bits twice) or as requests become ready; then a policy that
            can (an engine, servers) is asked again before it has answered.
    """

    limits: EpisodeLimits = dataclasses.field(default_factory=EpisodeLimits)
    concurrency: int = 64
    max_batch: int = 256
    deterministic: bool = True

    async def run(self, specs: Sequence[EpisodeSpec], policy: Policy, suite: RewardSuite | None = None,
                  on_done: OnDone | None = None, state: RunState = START,
                  watch: Stopwatch | None = None) -> list[Trajectory]:
        """Run and score the episodes; scores that depend on where the run stands see ``state``.

        ``watch`` is told how long it took to ``generate``, in the ``env`` and to ``score``.

        Raises:
            Exception: whatever the policy raised; an environment's or plugin's exception never ends the run.
        """
        queue = deque(enumerate(specs))
        finished: dict[int, Trajectory] = {}
        workers = min(self.concurrency, len(specs))
        watch = watch or Stopwatch()
        batcher = Batcher(TimedPolicy(policy, watch), workers, self.deterministic, self.max_batch, overlaps(policy))

        def done(index: int, trajectory: Trajectory) -> None:
            finished[index] = trajectory
            if on_done is not None:
                on_done(trajectory)

        with TimedPool(max(1, min(16, workers)), "mmrl-env", watch) as pool:
            scoring = Scoring(suite, done, state, watch)

            async def work() -> None:
                envs = _Envs(pool)
                try:
                    while queue:
                        index, spec = queue.popleft()
                        trajectory = await self._one(spec, envs, batcher, pool)
                        batcher.ended(spec.id)
                        scoring.put(index, trajectory)
                finally:
                    batcher.leave()
                    await envs.close()

            await _all([work() for _ in range(workers)], [batcher.serve()], scoring.drain())
        return [finished[i] for i in range(len(specs))]

    async def _one(self, spec: EpisodeSpec, envs: _Envs, batcher: Batcher, pool: Executor) -> Trajectory:
        try:
            env = await envs.get(spec)
        except Exception as error:
            return Trajectory(spec.id, spec.env_id, spec.seed, spec.group, Sample(spec.id, ()), (), False, False,
                              error=f"{type(error).__name__}: {error}")  # fmt: skip
        trajectory = await run_episode(spec, env, batcher.submit, self.limits, pool)
        if trajectory.error is not None:
            await envs.drop(spec)
        return trajectory


class _Envs:
    """One worker's environments, kept between episodes."""

    def __init__(self, pool: Executor) -> None:
        self._pool = pool
        self._made: dict[str, Env] = {}

    async def get(self, spec: EpisodeSpec) -> Env:
        key = _env_key(spec)
        if key not in self._made:
            loop = asyncio.get_running_loop()
            self._made[key] = await loop.run_in_executor(self._pool, lambda: make(spec.env_id, **spec.kwargs))
        return self._made[key]

    async def drop(self, spec: EpisodeSpec) -> None:
        env = self._made.pop(_env_key(spec), None)
        if env is not None:
            with suppress(Exception):
                await asyncio.get_running_loop().run_in_executor(self._pool, env.close)

    async def close(self) -> None:
        for env in self._made.values():
            with suppress(Exception):
                await asyncio.get_running_loop().run_in_executor(self._pool, env.close)


def _env_key(spec: EpisodeSpec) -> str:
    return json.dumps([spec.env_id, dict(spec.kwargs)], sort_keys=True, default=repr)


async def _all(workers: Sequence[Coroutine[Any, Any, None]], servers: Sequence[Coroutine[Any, Any, None]],
               last: Coroutine[Any, Any, None]) -> None:
    """Run the workers and then ``last`` to their end beside the servers; the first failure of any cancels the rest."""
    try:
        async with asyncio.TaskGroup() as group:
            serving = [group.create_task(server) for server in servers]
            working = [group.create_task(worker) for worker in workers]
            await asyncio.gather(*working)
            await last
            for task in serving:
                task.cancel()
    except BaseExceptionGroup as failures:
        first = failures.exceptions[0]
        raise (first.cause if isinstance(first, PolicyError) else first) from None
    finally:
        last.close()


def rollout(env_id: str, policy: str | Policy, seeds: Sequence[int],
            rewards: RewardSuite | Sequence[Mapping[str, Any] | PluginConfig] | None = None, *,
            env_kwargs: Mapping[str, Any] | None = None, max_turns: int | None = None, window: int | None = None,
            concurrency: int = 64, deterministic: bool = True, seed: int = 0,
            on_done: OnDone | None = None) -> list[Trajectory]:
    """Run one episode a seed and score it.

    Args:
        env_id: the environment (see :func:`mmrl.make`).
        policy: a policy, or a name that :func:`mmrl.load_policy` takes ("random", "expert", a model id).
        seeds: one episode each, in order.
        rewards: a suite, or entries as in the YAML's ``reward_plugins``; None scores nothing.
        env_kwargs: the environment's arguments.
        max_turns: turns before an episode is truncated; None leaves it to the environment.
        window: show the policy only the last ``window`` observations; None shows the whole transcript.
        concurrency: episodes at once.
        deterministic: the same arguments give the same trajectories twice.
        seed: the seed of the policy's sampling noise.
        on_done: called with each trajectory as its episode ends.

    Returns:
        The trajectories, in the order of ``seeds``.

    Raises:
        BadInput: for an unknown environment, policy or plugin, or a window or concurrency below 1.
    """
    if window is not None and window < 1:
        raise BadInput(f"window is at least 1 turn, not {window}")
    if concurrency < 1:
        raise BadInput(f"concurrency is at least 1 episode, not {concurrency}")
    kwargs = dict(env_kwargs or {})
    make(env_id, **kwargs).close()
    suite = rewards if isinstance(rewards, RewardSuite) or rewards is None else RewardSuite.from_config(rewards)
    speaker = load_policy(policy) if isinstance(policy, str) else policy
    specs = [EpisodeSpec(f"{i:06d}", env_id, s, f"{env_id}#{s}", (seed, i), kwargs) for i, s in enumerate(seeds)]
    scheduler = Scheduler(EpisodeLimits(max_turns, window), concurrency, deterministic=deterministic)
    return run_sync(scheduler.run(specs, speaker, suite, on_done))
