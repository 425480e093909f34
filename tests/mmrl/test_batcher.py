import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from mmrl.batcher import Batcher, PolicyError
from mmrl.policy import Completion, Request


class Echo:
    """Answers with the episode's name and writes down its batches."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.batches.append([r.episode for r in requests])
        await asyncio.sleep(0)
        return [Completion(r.episode) for r in requests]


def request(episode: str) -> Request:
    return Request(episode, 0, (), None, 0, (0,), None)  # type: ignore[arg-type]


async def serve(policy: Any, live: int, deterministic: bool, max_batch: int, *work: Any,
                overlapping: bool = False) -> list[Any]:  # fmt: skip
    batcher = Batcher(policy, live, deterministic, max_batch, overlapping)
    serving = asyncio.create_task(batcher.serve())
    try:
        return await asyncio.wait_for(asyncio.gather(*(w(batcher) for w in work), return_exceptions=True), 20)
    finally:
        serving.cancel()


def ask(*episodes: str, pause: int = 0) -> Any:
    async def work(batcher: Batcher) -> list[str]:
        said = []
        for e in episodes:
            for _ in range(pause):
                await asyncio.sleep(0)
            said.append((await batcher.submit(request(e))).text)
        batcher.leave()
        return said

    return work


def test_a_round_waits_for_every_live_episode_and_is_in_their_order() -> None:
    policy = Echo()
    said = asyncio.run(serve(policy, 3, True, 99, ask("c", "c"), ask("a", "a", "a", pause=9), ask("b", pause=3)))
    assert policy.batches == [["a", "b", "c"], ["a", "c"], ["a"]]
    assert said == [["c", "c"], ["a", "a", "a"], ["b"]]


def test_a_round_is_cut_at_max_batch() -> None:
    policy = Echo()
    asyncio.run(serve(policy, 5, True, 2, *(ask(e) for e in "edcba")))
    assert policy.batches == [["a", "b"], ["c", "d"], ["e"]]


def test_without_the_clock_nothing_waits() -> None:
    policy = Echo()
    said = asyncio.run(serve(policy, 2, False, 99, ask("a", "a"), ask("b", pause=50)))
    assert policy.batches[0] == ["a"]
    assert sorted(e for b in policy.batches for e in b) == ["a", "a", "b"]
    assert said == [["a", "a"], ["b"]]


def test_without_the_clock_max_batch_holds_and_nothing_is_lost() -> None:
    policy = Echo()
    said = asyncio.run(serve(policy, 7, False, 3, *(ask(e, e) for e in "abcdefg")))
    assert max(map(len, policy.batches)) <= 3
    assert said == [[e, e] for e in "abcdefg"]


class Slow:
    """Answers the first episode when the last one has been asked often enough; counts what it is asked at once."""

    def __init__(self, first: str, last: str, often: int) -> None:
        self.first, self.last, self.left = first, last, often
        self.enough = asyncio.Event()
        self.now = self.most = 0

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        asked = [r.episode for r in requests]
        self.now += len(asked)
        self.most = max(self.most, self.now)
        self.left -= asked.count(self.last)
        if self.left <= 0:
            self.enough.set()
        await (self.enough.wait() if self.first in asked else asyncio.sleep(0))
        self.now -= len(asked)
        return [Completion(e) for e in asked]


def test_a_slow_answer_holds_up_no_other_episode_where_the_policy_may_be_asked_again() -> None:
    policy = Slow("a", "b", often=3)
    said = asyncio.run(serve(policy, 2, False, 99, ask("a"), ask("b", "b", "b", pause=2), overlapping=True))
    assert said == [["a"], ["b", "b", "b"]]


def test_no_more_than_max_batch_is_with_the_policy_at_once() -> None:
    policy = Slow("a", "g", often=2)
    work = [ask(e, e, pause=2 * (e > "a")) for e in "abcdefg"]
    said = asyncio.run(serve(policy, 7, False, 3, *work, overlapping=True))
    assert said == [[e, e] for e in "abcdefg"]
    assert policy.most == 3


def test_the_clock_asks_once_at_a_time_whatever_the_policy_can() -> None:
    policy = Echo()
    asyncio.run(serve(policy, 2, True, 1, ask("a", "a"), ask("b"), overlapping=True))
    assert policy.batches == [["a"], ["b"], ["a"]]


class Broken:
    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        raise ZeroDivisionError("no weights")


class Short:
    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        return []


@pytest.mark.parametrize(("deterministic", "overlapping"), [(True, False), (False, False), (False, True)])
def test_a_policys_exception_reaches_every_waiting_episode(deterministic: bool, overlapping: bool) -> None:
    for error in asyncio.run(serve(Broken(), 2, deterministic, 99, ask("a"), ask("b"), overlapping=overlapping)):
        assert isinstance(error, PolicyError)
        assert isinstance(error.cause, ZeroDivisionError)
        assert str(error) == "no weights"


class Cancelled:
    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        raise asyncio.CancelledError


@pytest.mark.parametrize(("deterministic", "overlapping"), [(True, False), (False, False), (False, True)])
def test_who_waits_for_a_policy_that_is_cancelled_is_let_go(deterministic: bool, overlapping: bool) -> None:
    async def waits() -> str:
        batcher = Batcher(Cancelled(), 1, deterministic, 99, overlapping)
        serving = asyncio.create_task(batcher.serve())
        try:
            await asyncio.wait_for(batcher.submit(request("a")), 20)
        except asyncio.CancelledError:
            return "let go"
        finally:
            serving.cancel()
        return "answered"

    assert asyncio.run(waits()) == "let go"


def test_a_wrong_number_of_completions_is_an_error() -> None:
    (error,) = asyncio.run(serve(Short(), 1, True, 99, ask("a")))
    assert str(error) == "the policy gave 0 completions for 1 requests"


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_policy_that_remembers_hears_who_has_ended_when_a_round_begins(deterministic: bool) -> None:
    class Remembers(Echo):
        def ended(self, episodes: Sequence[str]) -> None:
            self.batches.append([f"-{e}" for e in episodes])

    async def twice(batcher: Batcher) -> None:
        for name in ("a", "b"):
            await batcher.submit(request(name))
            batcher.ended(name)
        batcher.leave()

    policy = Remembers()
    asyncio.run(serve(policy, 1, deterministic, 9, twice))
    assert policy.batches == [[], ["a"], ["-a"], ["b"]]
