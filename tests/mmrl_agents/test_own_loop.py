import asyncio
import threading
from concurrent.futures import CancelledError

import pytest

from mmrl_agents.own_loop import OwnLoop


async def where() -> tuple[str, asyncio.AbstractEventLoop]:
    return threading.current_thread().name, asyncio.get_running_loop()


def test_all_work_runs_in_one_loop_on_a_thread_of_its_own() -> None:
    loop = OwnLoop()
    first, second = loop.call(where()), loop.start(where()).result()
    assert first == second
    assert first[0] == "mmrl-servers"
    loop.close()
    loop.close()
    assert first[1].is_closed()


def test_what_work_raises_reaches_its_caller() -> None:
    async def fails() -> None:
        raise KeyError("x")

    loop = OwnLoop()
    with pytest.raises(KeyError, match="x"):
        loop.call(fails())
    loop.close()


def test_work_is_cancelled_with_its_future_and_with_the_loop() -> None:
    begun, ended = [threading.Event(), threading.Event()], list[int]()

    async def hangs(i: int) -> None:
        begun[i].set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(i)

    loop = OwnLoop()
    futures = [loop.start(hangs(i)) for i in range(2)]
    for event in begun:
        event.wait(30)
    futures[1].cancel()
    loop.call(asyncio.sleep(0))
    assert ended == [1]
    loop.close()
    assert ended == [1, 0]


def test_whoever_waits_is_let_go_by_a_stop_and_only_what_may_come_after_it_begins() -> None:
    loop, begun, said = OwnLoop(), threading.Event(), list[type[BaseException]]()

    async def hangs() -> None:
        begun.set()
        await asyncio.Event().wait()

    def wait() -> None:
        try:
            loop.call(hangs())
        except BaseException as error:
            said.append(type(error))

    waiting = threading.Thread(target=wait)
    waiting.start()
    begun.wait(30)
    loop.stop()
    waiting.join(30)
    assert said == [CancelledError]
    with pytest.raises(CancelledError):
        loop.start(where())
    assert loop.call(where(), after_stop=True)[0] == "mmrl-servers"
    loop.close()
