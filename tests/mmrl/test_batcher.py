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


async def serve(policy: Any, live: int, deterministic: bool, max_batch: int, *work: Any) -> list[Any]:
    batcher = Batcher(policy, live, deterministic, max_batch)
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


class Broken:
    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        raise ZeroDivisionError("no weights")


class Short:
    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        return []


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_policys_exception_reaches_every_waiting_episode(deterministic: bool) -> None:
    for error in asyncio.run(serve(Broken(), 2, deterministic, 99, ask("a"), ask("b"))):
        assert isinstance(error, PolicyError)
        assert isinstance(error.cause, ZeroDivisionError)
        assert str(error) == "no weights"


def test_a_wrong_number_of_completions_is_an_error() -> None:
    (error,) = asyncio.run(serve(Short(), 1, True, 99, ask("a")))
    assert str(error) == "the policy gave 0 completions for 1 requests"
