import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from local_server import Asked, Reply, serving

from mmrl.errors import RunStopped
from mmrl.json_client import JsonClient, ServerError
from mmrl_agents import fleet as fleets
from mmrl_agents import replica as replicas
from mmrl_agents.fleet import LOYALTY, TRIES, Fleet, Lost
from mmrl_agents.replica import Replica

NOWHERE = ("http://127.0.0.1:9", "http://127.0.0.2:9", "http://127.0.0.3:9")
GONE = ServerError("http://127.0.0.1:9 cannot be asked: ConnectError")


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleets, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(fleets, "LONGEST_PAUSE_S", 0.002)


async def at_once(replica: Replica) -> None:
    """Every server is ready at once."""


def fleet_of(*urls: str, prepare: Callable[[Replica], Awaitable[None]] = at_once, concurrency: int = 64,
             wait_s: float = 30.0) -> Fleet:
    return Fleet([Replica(JsonClient(url, {})) for url in urls], prepare, concurrency, wait_s,
                 "; go on with --resume")  # fmt: skip


def run(fleet: Fleet, test: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    async def inside() -> Any:
        async with fleet.opened():
            await fleet.renew()
            return await test()

    return asyncio.run(inside())


def test_requests_go_to_the_least_busy_server() -> None:
    fleet, over = fleet_of(*NOWHERE), asyncio.Event()
    went = Counter[str]()

    async def work(replica: Replica) -> str:
        went[replica.client.url] += 1
        await over.wait()
        return replica.client.url

    async def test() -> None:
        fleet.replicas[0].load = 2  # busy with others' requests
        tasks = [asyncio.create_task(fleet.do(work)) for _ in range(7)]
        await asyncio.sleep(0)
        while went.total() < 7:
            await asyncio.sleep(0)
        assert [went[url] for url in NOWHERE] == [1, 3, 3]
        over.set()
        await asyncio.gather(*tasks)

    run(fleet, test)
    assert [r.load for r in fleet.replicas] == [2, 0, 0]


def test_a_conversation_stays_with_its_server_until_that_is_much_busier() -> None:
    fleet = fleet_of(*NOWHERE[:2])

    async def where(replica: Replica) -> str:
        return replica.client.url

    async def test() -> list[str]:
        seen = [await fleet.do(where, "e1")]
        fleet.replicas[0].load = LOYALTY - 1
        seen.append(await fleet.do(where, "e1"))
        seen.append(await fleet.do(where, "e2"))
        fleet.replicas[0].load = LOYALTY + 1
        seen.append(await fleet.do(where, "e1"))
        return seen

    assert run(fleet, test) == [NOWHERE[0], NOWHERE[0], NOWHERE[1], NOWHERE[1]]


def test_no_more_requests_are_under_way_than_allowed() -> None:
    fleet, now, most = fleet_of(*NOWHERE, concurrency=4), 0, 0

    async def work(replica: Replica) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1

    async def test() -> None:
        await asyncio.gather(*(fleet.do(work) for _ in range(20)))

    run(fleet, test)
    assert most == 4


def test_a_server_that_is_gone_is_made_ready_before_it_is_used_again() -> None:
    prepared, back = Counter[str](), asyncio.Event()
    events, said = list[str](), list[str]()

    async def prepare(replica: Replica) -> None:
        prepared[replica.client.url] += 1
        if prepared[replica.client.url] > 1 and not back.is_set():
            raise GONE
        events.append(f"ready {replica.client.url}")

    fleet = fleet_of(*NOWHERE[:2], prepare=prepare)
    fleet.say = said.append

    async def work(replica: Replica) -> str:
        if replica is fleet.replicas[0] and not back.is_set():
            raise GONE
        events.append(f"asked {replica.client.url}")
        return replica.client.url

    async def test() -> list[str]:
        first = [await fleet.do(work) for _ in range(2)]
        assert not fleet.replicas[0].ready
        assert fleet.replicas[0].why == str(GONE)
        back.set()
        while not fleet.replicas[0].ready:
            await asyncio.sleep(0.001)
        return [*first, await fleet.do(work)]

    assert run(fleet, test) == [NOWHERE[1], NOWHERE[1], NOWHERE[0]]
    one, two = NOWHERE[:2]
    assert events == [f"ready {one}", f"ready {two}", f"asked {two}", f"asked {two}", f"ready {one}", f"asked {one}"]
    assert prepared[one] > 2
    gone, again = said
    assert gone.startswith(str(GONE))
    assert again == f"{one} is used again"


def test_a_server_that_falls_silent_loses_its_work_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas, "EVERY_S", 0.01)
    monkeypatch.setattr(replicas, "HEALTH_S", 0.05)
    hung, over = threading.Event(), threading.Event()

    def silent(asked: Asked) -> Reply:
        if hung.is_set() or asked.path == "/work":
            hung.set()
            over.wait(30)
        return Reply(asked.path)

    async def prepare(replica: Replica) -> None:
        await replica.client.ask("GET", "/health")

    with serving(silent) as first, serving(lambda asked: Reply(asked.path)) as second:
        fleet = fleet_of(first.url, second.url, prepare=prepare)

        async def work(replica: Replica) -> tuple[str, str]:
            return replica.client.url, await replica.client.get("/work")

        async def test() -> tuple[str, str]:
            fleet.replicas[1].load = 1
            said = await fleet.do(work)
            assert fleet.replicas[0].why == f"{first.url} no longer says that it is well"
            return said

        assert run(fleet, test) == (second.url, "/work")
        over.set()
    assert [a.path for a in first.asked].count("/work") == 1


def test_requests_wait_for_the_one_server_and_then_fail_in_one_line() -> None:
    gone = False

    async def prepare(replica: Replica) -> None:
        if gone:
            raise GONE

    fleet = fleet_of(NOWHERE[0], prepare=prepare, wait_s=0.2)

    async def work(replica: Replica) -> None:
        raise GONE

    async def test() -> None:
        nonlocal gone
        gone = True
        await fleet.do(work)

    with pytest.raises(RunStopped) as raised:
        run(fleet, test)
    assert str(raised.value) == (f"no server for 0.2 s: {GONE}; go on with --resume")


def test_a_server_that_asks_for_patience_is_asked_again_and_again() -> None:
    fleet, tries = fleet_of(NOWHERE[0]), 0

    async def work(replica: Replica) -> int:
        nonlocal tries
        tries += 1
        if tries <= 2 * TRIES:
            raise ServerError("busy", 429, retry_after=0.001)
        return tries

    assert run(fleet, lambda: fleet.do(work)) == 2 * TRIES + 1
    assert fleet.replicas[0].ready


@pytest.mark.parametrize(("health", "ready"), [(200, True), (404, True), (503, False)])
def test_a_request_that_breaks_servers_is_given_up(health: int, ready: bool) -> None:
    asked, prepared = 0, 0

    async def prepare(replica: Replica) -> None:
        nonlocal prepared
        prepared += 1

    async def work(replica: Replica) -> None:
        nonlocal asked
        asked += 1
        raise ServerError("it answered 500: out of memory", 500)

    with serving(lambda _: Reply({}, health)) as server:
        fleet = fleet_of(server.url, prepare=prepare)
        with pytest.raises(RunStopped, match=rf"failed {TRIES} times, at last: it answered 500: out of memory; go on"):
            run(fleet, lambda: fleet.do(work))
    assert asked == TRIES
    assert prepared == (1 if ready else 1 + TRIES), "a server that is ill is made ready anew, and its requests move"


def test_what_a_server_refuses_is_not_tried_again() -> None:
    fleet, asked = fleet_of(*NOWHERE), 0

    async def work(replica: Replica) -> None:
        nonlocal asked
        asked += 1
        raise ServerError("it answered 400 Bad Request: too long", 400)

    with pytest.raises(RunStopped, match="it answered 400 Bad Request: too long; go on with --resume"):
        run(fleet, lambda: fleet.do(work))
    assert asked == 1


def test_a_server_that_can_never_be_made_ready_ends_the_wait() -> None:
    async def prepare(replica: Replica) -> None:
        raise RunStopped("it does not take the weights")

    with pytest.raises(RunStopped, match="it does not take the weights"):
        run(fleet_of(NOWHERE[0], prepare=prepare), lambda: asyncio.sleep(0))


FAILURES: dict[str, Callable[[], Exception]] = {
    "gone": lambda: GONE, "anew": lambda: Lost("knows nothing"), "busy": lambda: ServerError("busy", 429, 0.0),
}  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.sampled_from(sorted(FAILURES)), max_size=TRIES - 1), min_size=1, max_size=12),
       st.integers(1, 3), st.integers(1, 5))  # fmt: skip
def test_each_request_has_one_result_whatever_befalls_the_servers(fates: list[list[str]], servers: int,
                                                                  concurrency: int) -> None:
    fleet = fleet_of(*NOWHERE[:servers], concurrency=concurrency)
    results = Counter[int]()

    def work_of(i: int) -> Callable[[Replica], Awaitable[int]]:
        left = list(fates[i])

        async def work(replica: Replica) -> int:
            await asyncio.sleep(0)
            if left:
                raise FAILURES[left.pop()]()
            results[i] += 1
            return i

        return work

    async def test() -> list[int]:
        return await asyncio.gather(*(fleet.do(work_of(i), i) for i in range(len(fates))))

    assert run(fleet, test) == list(range(len(fates)))
    assert results == Counter(range(len(fates)))
    assert [r.load for r in fleet.replicas] == [0] * servers


def test_what_is_halted_is_made_ready_no_more_until_it_is_renewed() -> None:
    began, ended = asyncio.Event(), list[str]()

    async def prepare(replica: Replica) -> None:
        if ended == ["first"]:
            began.set()
            try:
                await asyncio.sleep(30)
            finally:
                ended.append("broken off")
        ended.append("first")

    fleet = fleet_of(NOWHERE[0], prepare=prepare)

    async def test() -> None:
        (replica,) = fleet.replicas
        fleet.lose(replica, "gone")
        await began.wait()
        await fleet.halt()
        assert (ended, replica.ready) == (["first", "broken off"], False)
        await fleet.renew(at_once)
        assert replica.ready

    run(fleet, test)
