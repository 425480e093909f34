"""Scoring beside generation: batches, results in place."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from reward_tools import suite_of

import mmrl
from mmrl import Completion, Request, RewardPlugin, Score, Trajectory


class Watchful(RewardPlugin):
    """Notes who calls it, and never answers before the policy has spoken for the last time."""

    def __init__(self, last: threading.Event) -> None:
        self.last = last
        self.inside = 0
        self.most = 0
        self.batches: list[int] = []

    def score(self, trajectories: Sequence[Trajectory]) -> list[Score]:
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.batches.append(len(trajectories))
        waited = self.last.wait(timeout=30)
        self.inside -= 1
        return [Score(float(t.seed) if waited else -1.0) for t in trajectories]


class Spoken:
    """Answers sums wrongly; says when it has answered ``total`` of them."""

    def __init__(self, total: int, last: threading.Event) -> None:
        self.left = total
        self.last = last

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.left -= len(requests)
        if self.left == 0:
            self.last.set()
        return [Completion("none") for _ in requests]


def test_a_slow_plugin_holds_up_neither_generation_nor_the_order() -> None:
    last = threading.Event()
    plugin = Watchful(last)
    seeds = list(range(12))
    trajectories = mmrl.rollout(
        "text/arithmetic", Spoken(len(seeds), last), seeds, suite_of({"watchful": plugin}), concurrency=3
    )
    # The first scores wait for the last answer: had generation waited for them, they would have been -1.
    assert [t.record.value for t in trajectories if t.record is not None] == [float(s) for s in seeds]
    assert plugin.most == 1
    assert sum(plugin.batches) == len(seeds)
    assert max(plugin.batches) > 1


def test_an_episode_that_ended_in_an_error_is_not_scored() -> None:
    plugin = Watchful(threading.Event())
    (broken,) = mmrl.rollout("minigrid/Empty-5x5", "expert", [0], suite_of({"watchful": plugin}))
    assert broken.error is not None
    assert broken.error.startswith("NoExpert: ")
    assert broken.record is None
    assert plugin.batches == []
