import asyncio
import gc
import threading
import time

import pytest

from mmrl.caller import LoopCaller, Overdue, ThreadCaller


def test_calls_run_on_one_thread_apart_and_give_what_they_give() -> None:
    caller = ThreadCaller()
    names = {caller.call(lambda: threading.current_thread().ident, 5.0) for _ in range(3)}
    assert len(names) == 1
    assert threading.get_ident() not in names
    assert caller.call(threading.get_ident, None) == threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        caller.call(lambda: 1 / 0, 5.0)
    caller.close()


def test_a_call_that_is_overdue_is_left_behind() -> None:
    caller, gate = ThreadCaller(), threading.Event()
    with pytest.raises(Overdue, match=r"no answer after 0\.05 s"):
        caller.call(gate.wait, 0.05)
    assert caller.call(lambda: "alive", 5.0) == "alive"
    gate.set()
    caller.close()


def test_a_timeout_error_of_the_functions_own_is_not_overdue() -> None:
    def fails() -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        ThreadCaller().call(fails, 5.0)


def test_coroutines_share_one_loop() -> None:
    async def which() -> int:
        return id(asyncio.get_running_loop())

    caller = LoopCaller()
    assert caller.call(which, 5.0) == caller.call(which, 5.0)


def test_an_overdue_coroutine_is_cancelled() -> None:
    cancelled = threading.Event()

    async def waits() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    caller = LoopCaller()
    with pytest.raises(Overdue):
        caller.call(waits, 0.05)
    assert cancelled.wait(5)


def test_a_loop_in_which_a_coroutine_blocks_is_given_up() -> None:
    gate = threading.Event()

    async def blocks() -> None:
        gate.wait()

    async def fine() -> str:
        return "fine"

    caller = LoopCaller()
    with pytest.raises(Overdue):
        caller.call(blocks, 0.05)
    assert caller.call(fine, 5.0) == "fine"
    gate.set()


def test_a_loop_ends_with_its_caller() -> None:
    async def who() -> threading.Thread:
        return threading.current_thread()

    caller = LoopCaller()
    thread = caller.call(who, 5.0)
    del caller
    gc.collect()
    deadline = time.monotonic() + 10
    while thread.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not thread.is_alive()
