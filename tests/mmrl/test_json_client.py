import asyncio
import gc
import threading
import warnings
from typing import Any

from local_server import Asked, Reply, serving

from mmrl.json_client import JsonClient


def echo(asked: Asked) -> Reply:
    return Reply(asked.body)


def test_one_client_in_many_event_loops_leaves_nothing_open() -> None:
    with serving(echo) as server, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        client = JsonClient(server.url, {})

        async def many(n: int) -> list[Any]:
            return await asyncio.gather(*(client.post(i) for i in range(n)))

        for _ in range(3):
            assert asyncio.run(many(4)) == [0, 1, 2, 3]
        results: list[list[Any]] = []
        threads = [threading.Thread(target=lambda: results.append(asyncio.run(many(8)))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [list(range(8))] * 4
        assert client._open == {}
        gc.collect()
        assert [m for w in warned if "unclosed" in (m := str(w.message)) and ("transport" in m or "socket" in m)] == []
    assert len(server.asked) == 3 * 4 + 4 * 8


def test_requests_under_way_share_connections() -> None:
    gate = threading.Event()

    def answer(asked: Asked) -> Reply:
        if asked.body == "wait":
            gate.wait(30)
        return Reply(asked.body)

    with serving(answer) as server:
        client = JsonClient(server.url, {})

        async def run() -> None:
            long = asyncio.create_task(client.post("wait"))
            for _ in range(10):
                await client.post("4")
            gate.set()
            await long

        asyncio.run(run())
    assert (len(server.asked), server.connections) == (11, 2)


def test_a_request_that_is_cancelled_disturbs_no_other() -> None:
    over = threading.Event()

    def answer(asked: Asked) -> Reply:
        if asked.body == "hang":
            over.wait(30)
        return Reply(asked.body)

    with serving(answer) as server:
        client = JsonClient(server.url, {})

        async def run() -> list[Any]:
            hanging = [asyncio.wait_for(client.post("hang"), 0.3) for _ in range(3)]
            return await asyncio.gather(*hanging, client.post("4"), return_exceptions=True)

        *cut, answered = asyncio.run(run())
        assert [type(e) for e in cut] == [TimeoutError] * 3
        assert answered == "4"
        assert client._open == {}
        assert asyncio.run(client.post("4")) == "4"
        over.set()


def test_a_loop_that_was_dropped_in_the_middle_disturbs_no_later_one() -> None:
    over = threading.Event()

    def answer(asked: Asked) -> Reply:
        if asked.body == "hang":
            over.wait(30)
        return Reply(asked.body)

    with serving(answer) as server:
        client = JsonClient(server.url, {})
        loop = asyncio.new_event_loop()
        task = loop.create_task(client.post("hang"))
        loop.run_until_complete(asyncio.sleep(0.3))
        assert not task.done()
        assert asyncio.run(client.post("4")) == "4"
        task.cancel()
        loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        loop.close()
        over.set()
