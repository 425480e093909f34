import asyncio
import threading
from collections.abc import Sequence

import pytest
from reward_tools import suite_of

from mmrl.episode import EpisodeLimits, EpisodeSpec
from mmrl.plugin import RewardPlugin
from mmrl.policy import Completion, Request
from mmrl.rollout import Scheduler
from mmrl.run_sync import run_sync
from mmrl.score import Score
from mmrl.stopwatch import Stopwatch, TimedPolicy, TimedPool
from mmrl.trajectory import Trajectory


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def test_kinds_are_summed_and_kept_apart() -> None:
    clock = Clock()
    watch = Stopwatch(clock)
    for kind, seconds in (("a", 2.0), ("b", 1.0), ("a", 0.5)):
        with watch.measure(kind):
            clock.at += seconds
        clock.at += 10.0
    assert watch.seconds == {"a": 2.5, "b": 1.0}


def test_what_goes_on_at_the_same_time_counts_once() -> None:
    clock = Clock()
    watch = Stopwatch(clock)
    with watch.measure("a"):
        clock.at = 1.0
        with watch.measure("a"), watch.measure("b"):
            clock.at = 4.0
        clock.at = 5.0
    assert watch.seconds == {"a": 5.0, "b": 3.0}


def test_an_exception_ends_the_measurement() -> None:
    clock = Clock()
    watch = Stopwatch(clock)

    def breaks() -> None:
        with watch.measure("a"):
            clock.at = 3.0
            raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        breaks()
    assert watch.seconds == {"a": 3.0}
    with watch.measure("a"):
        clock.at = 4.0
    assert watch.seconds == {"a": 4.0}


def test_a_pool_counts_its_work_and_not_the_wait_for_a_thread() -> None:
    clock = Clock()
    watch = Stopwatch(clock)
    begun, go = threading.Event(), threading.Event()

    def first(out: str) -> str:
        begun.set()
        go.wait(timeout=30)
        clock.at += 2.0
        return out

    def second() -> None:
        clock.at += 3.0
        raise OSError("broken")

    with TimedPool(1, "t", watch) as pool:
        one, two = pool.submit(first, "x"), pool.submit(second)
        assert begun.wait(timeout=30)
        go.set()
        assert one.result(timeout=30) == "x"
        with pytest.raises(OSError, match="broken"):
            two.result(timeout=30)
    assert watch.seconds == {"env": 5.0}


class Slow:
    """A policy and its clock: an answer takes two seconds."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.clock.at += 2.0
        return [Completion("0") for _ in requests]


def test_a_policy_counts_its_answers() -> None:
    clock = Clock()
    policy = TimedPolicy(Slow(clock), Stopwatch(clock))
    assert asyncio.run(policy.generate([])) == []
    assert policy.watch.seconds == {"generate": 2.0}


def test_a_batch_of_episodes_says_where_its_time_went() -> None:
    clock = Clock()
    watch = Stopwatch(clock)

    class Thoughtful(RewardPlugin):
        def score(self, trajectories: Sequence[Trajectory]) -> list[Score]:
            clock.at += 4.0
            return [Score(1.0) for _ in trajectories]

    specs = [EpisodeSpec("a", "text/arithmetic", 3, "g", (0,))]
    scheduler = Scheduler(EpisodeLimits(max_turns=1))
    run_sync(scheduler.run(specs, Slow(clock), suite_of({"p": Thoughtful()}), watch=watch))
    assert watch.seconds == {"generate": 2.0, "env": 0.0, "score": 4.0}
