"""Plugins that misbehave in every way that we know of, and what the runner makes of it."""

import asyncio
import math
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from reward_tools import batched, episode, plugin_of

from mmrl.plugin import RewardPlugin
from mmrl.run_state import START, RunState
from mmrl.runner import STRIKES, Limits, Runner
from mmrl.score import Score
from mmrl.score_cache import ScoreCache
from mmrl.trajectory import Trajectory

SOON = Limits(timeout_s=0.1)


def done(futures: Sequence["Future[Score]"]) -> list[Score]:
    return [f.result(timeout=30) for f in futures]


def score(plugin: RewardPlugin, n: int, limits: Limits | None = None, **kwargs: Any) -> list[Score]:
    runner = Runner(plugin, limits or Limits(timeout_s=30), **kwargs)
    return done(runner.submit([episode(str(i), seed=i) for i in range(n)], START))


def test_a_plugin_that_stumbles_over_every_7th_fails_there_alone() -> None:
    def by_batch(trajectories: Sequence[Trajectory]) -> list[Score]:
        if any(t.seed % 7 == 6 for t in trajectories):
            raise ValueError("seven")
        return [Score(float(t.seed)) for t in trajectories]

    class ByOne(RewardPlugin):
        def compute(self, trajectory: Trajectory) -> float:
            return by_batch([trajectory])[0].value

    expected = [Score.failed("ValueError: seven") if i % 7 == 6 else Score(float(i)) for i in range(20)]
    assert score(batched(by_batch), 20) == expected
    assert score(ByOne(), 20) == expected


def test_a_list_of_the_wrong_length_is_asked_for_again_one_by_one() -> None:
    calls: list[int] = []

    def short(trajectories: Sequence[Trajectory]) -> list[Score]:
        calls.append(len(trajectories))
        return [Score(1.0)]

    assert score(batched(short), 3) == [Score(1.0)] * 3
    assert calls == [3, 1, 1, 1]
    wrong = Score.failed("ValueError: score() returned 0 scores for 1 trajectories")
    assert score(batched(lambda ts: []), 2) == [wrong, wrong]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_fail(value: float) -> None:
    assert score(plugin_of(value), 1) == [Score.failed(f"the score is {value}, not a finite number")]


def test_out_of_range_fails_or_is_clipped() -> None:
    plugin = plugin_of({"reward": 3.0, "info": {"why": 1}}, 0, 1)
    assert score(plugin, 1) == [Score.failed("the score 3 is outside the declared range [0, 1]")]
    assert score(plugin, 1, Limits(clip=True)) == [Score(1.0, info={"why": 1, "before_clip": 3.0})]


def test_micro_batches() -> None:
    sizes: list[int] = []

    def measure(trajectories: Sequence[Trajectory]) -> list[Score]:
        sizes.append(len(trajectories))
        return [Score(0.0)] * len(trajectories)

    score(batched(measure), 10, Limits(batch_size=4))
    assert sizes == [4, 4, 2]


def test_a_plugin_that_hangs_fails_and_is_given_up_after_three_strikes() -> None:
    gate, calls = threading.Event(), []

    class Hangs(RewardPlugin):
        def compute(self, trajectory: Trajectory) -> float:
            calls.append(trajectory.seed)
            gate.wait()
            return 0.0

    runner = Runner(Hangs(), SOON)
    scores = done(runner.submit([episode("x", seed=i) for i in range(50)], START))
    assert calls == [0, 1, 2]
    assert scores[:STRIKES] == [Score.failed("Overdue: no answer after 0.1 s")] * STRIKES
    assert scores[STRIKES:] == [Score.failed("the plugin hangs: 3 calls in a row took longer than 0.1 s")] * 47
    runner.begin()
    assert [s.status for s in done(runner.submit([episode("x", seed=i) for i in (50, 51)], START))] == ["failed"] * 2
    assert calls == [0, 1, 2, 50]  # one more chance, of one call
    gate.set()
    runner.begin()
    assert done(runner.submit([episode("x", seed=9)], START)) == [Score(0.0)]


def test_an_async_plugin_that_hangs_fails() -> None:
    class Hangs(RewardPlugin):
        async def compute(self, trajectory: Trajectory) -> float:
            if trajectory.seed == 1:
                await asyncio.Event().wait()
            return 1.0

    assert score(Hangs(), 3, SOON) == [Score(1.0), Score.failed("Overdue: no answer after 0.1 s"), Score(1.0)]


@pytest.mark.parametrize(("limit", "most"), [(None, 16), (5, 5)])
def test_async_calls_run_at_once_up_to_the_limit(limit: int | None, most: int) -> None:
    class Meets(RewardPlugin):
        inside = 0
        most = 0

        async def compute(self) -> float:
            self.inside += 1
            self.most = max(self.most, self.inside)
            while self.most < most:  # would wait for ever if fewer ran at once
                await asyncio.sleep(0.001)
            self.inside -= 1
            return 1.0

    plugin = Meets()
    assert score(plugin, 40, Limits(timeout_s=30, concurrency=limit)) == [Score(1.0)] * 40
    assert plugin.most == most


def test_plain_calls_run_one_at_a_time_unless_asked() -> None:
    class Meets(RewardPlugin):
        def __init__(self, parties: int) -> None:
            self.barrier = threading.Barrier(parties)

        def compute(self) -> float:
            self.barrier.wait(timeout=20)
            return 1.0

    assert score(Meets(4), 8, Limits(timeout_s=30, concurrency=4)) == [Score(1.0)] * 8
    assert score(Meets(1), 4) == [Score(1.0)] * 4


def test_retries_wait_longer_each_time_and_help() -> None:
    waits: list[float] = []

    class Shaky(RewardPlugin):
        tries = 0

        def compute(self) -> float:
            self.tries += 1
            if self.tries < 4:
                raise ConnectionError("busy")
            return 1.0

    assert score(Shaky(), 1, Limits(retries=3), sleep=waits.append) == [Score(1.0)]
    assert waits == [0.5, 1.0, 2.0]
    assert score(Shaky(), 1, Limits(retries=2), sleep=waits.append) == [Score.failed("ConnectionError: busy")]


def test_scores_are_remembered_by_content(tmp_path: Path) -> None:
    seen: list[str] = []

    class Costly(RewardPlugin):
        def compute(self, response: str) -> dict[str, Any] | None:
            seen.append(response)
            if response == "raise":
                raise ValueError
            return None if response == "none" else {"reward": len(response), "info": {"r": response}}

    def once(*responses: str, folder: Path = tmp_path) -> list[Score]:
        runner = Runner(Costly(), Limits(), ScoreCache(folder, "costly", {}))
        return done(runner.submit([episode(r, id=f"{i}", seed=i) for i, r in enumerate(responses)], START))

    first = once("ab", "none", "raise")
    assert once("raise", "none", "ab") == first[::-1]
    assert seen == ["ab", "none", "raise", "raise"]  # a failure is tried again
    runner = Runner(Costly(), Limits(), ScoreCache(tmp_path, "costly", {"other": 1}))
    assert done(runner.submit([episode("ab")], START)) == first[:1]
    assert seen[4:] == ["ab"]


def test_a_cache_that_breaks_fails_scores_and_hangs_nothing(tmp_path: Path) -> None:
    cache = ScoreCache(tmp_path, "p", {})
    cache.close()
    (broken,) = score(plugin_of(1.0), 1, cache=cache)
    assert broken.status == "failed"
    assert "closed database" in broken.info["error"]


def test_loading_comes_once_before_the_first_score_and_has_its_own_limit() -> None:
    class Heavy(RewardPlugin):
        loads = 0

        def load(self) -> None:
            time.sleep(0.3)
            self.loads += 1

        def compute(self) -> float:
            return float(self.loads)

    assert score(Heavy(), 5, Limits(timeout_s=0.1, concurrency=3)) == [Score(1.0)] * 5


@pytest.mark.parametrize("error", [SystemExit("out"), asyncio.CancelledError(), KeyboardInterrupt()])
def test_nothing_that_a_plugin_raises_hangs_the_run(error: BaseException) -> None:
    class Plain(RewardPlugin):
        def compute(self, trajectory: Trajectory) -> float:
            if trajectory.seed == 0:
                raise error
            return 1.0

    class Async(RewardPlugin):
        async def compute(self, trajectory: Trajectory) -> float:
            if trajectory.seed == 0:
                raise error
            return 1.0

    for plugin, limits in ((Plain(), Limits()), (Plain(), Limits(timeout_s=5)), (Async(), Limits(timeout_s=5))):
        runner = Runner(plugin, limits)
        got = [done(runner.submit([episode("x", seed=i)], START))[0] for i in (0, 1)]
        assert [s.status for s in got] == ["failed", "ok"]


def test_a_generator_is_within_the_time_limit() -> None:
    gate = threading.Event()

    def slow(trajectories: Sequence[Trajectory]) -> Any:
        for _ in trajectories:
            gate.wait()
            yield Score(1.0)

    assert score(batched(slow), 1, SOON) == [Score.failed("Overdue: no answer after 0.1 s")]
    gate.set()


def test_cancelled_scores_are_not_computed() -> None:
    gate, calls = threading.Event(), list[int]()

    class Slow(RewardPlugin):
        def compute(self, trajectory: Trajectory) -> float:
            calls.append(trajectory.seed)
            gate.wait()
            return 0.0

    runner = Runner(Slow(), Limits())
    futures = runner.submit([episode("x", seed=i) for i in range(5)], START)
    while not calls:
        time.sleep(0.001)
    assert [f.cancel() for f in futures] == [False, True, True, True, True]
    gate.set()
    assert done(futures[:1]) == [Score(0.0)]
    assert done(runner.submit([episode("x", seed=9)], START)) == [Score(0.0)]
    assert calls == [0, 9]


def test_loading_that_fails_is_tried_again() -> None:
    class Flaky(RewardPlugin):
        loads = 0

        def load(self) -> None:
            self.loads += 1
            if self.loads == 1:
                raise OSError("no disk")

        def compute(self) -> float:
            return 1.0

    assert score(Flaky(), 2) == [Score.failed("OSError: no disk"), Score(1.0)]


def test_state_reaches_those_that_ask() -> None:
    class Eager(RewardPlugin):
        def compute(self, step: int, progress: float) -> float:
            return step + progress

    class Batched(RewardPlugin):
        def score(self, trajectories: Sequence[Trajectory], state: RunState = START) -> list[Score]:
            return [Score(state.step + state.progress)] * len(trajectories)

    for plugin in (Eager(), Batched()):
        assert done(Runner(plugin, Limits()).submit([episode("x")], RunState(7, 0.25))) == [Score(7.25)]


def test_a_score_may_not_claim_shares_that_do_not_add_up() -> None:
    plugin = plugin_of(Score(1.0, turns=(0.25, 0.5)))
    got = done(Runner(plugin, Limits()).submit([episode("a", "b")], START))
    assert got == [Score.failed("the shares of the turns add up to 0.75, not to 1")]
