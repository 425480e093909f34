"""Where the time of a batch of episodes goes: asking the policy, the environments, the plugins.

Comes in: work of named kinds, on any thread.  Goes out: for each kind the seconds in which some of it was under way.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from mmrl.policy import Completion, Policy, Remembering, Request

P = ParamSpec("P")
T = TypeVar("T")


class Stopwatch:
    """Measures kinds of work.

    Work of one kind that goes on at the same time counts once, so that no kind takes longer than the clock on the
    wall; kinds overlap, so that they may add up to more.

    Args:
        now: a clock, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._active: dict[str, int] = {}
        self._since: dict[str, float] = {}
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, kind: str) -> Generator[None]:
        """Count the body as work of ``kind``."""
        with self._lock:
            self._active[kind] = self._active.get(kind, 0) + 1
            if self._active[kind] == 1:
                self._since[kind] = self._now()
        try:
            yield
        finally:
            with self._lock:
                self._active[kind] -= 1
                if self._active[kind] == 0:
                    self.seconds[kind] = self.seconds.get(kind, 0.0) + self._now() - self._since[kind]


class TimedPool(ThreadPoolExecutor):
    """A thread pool whose work is of kind ``env``."""

    def __init__(self, workers: int, name: str, watch: Stopwatch) -> None:
        super().__init__(workers, name)
        self._watch = watch

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run ``fn`` on a thread; waiting for one does not count."""

        def timed() -> T:
            with self._watch.measure("env"):
                return fn(*args, **kwargs)

        return super().submit(timed)


@dataclass(frozen=True)
class TimedPolicy:
    """A policy whose answers are work of kind ``generate``."""

    policy: Policy
    watch: Stopwatch

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer each request."""
        with self.watch.measure("generate"):
            return await self.policy.generate(requests)

    def ended(self, episodes: Sequence[str]) -> None:
        """Tell a policy that remembers."""
        if isinstance(self.policy, Remembering):
            self.policy.ended(episodes)
