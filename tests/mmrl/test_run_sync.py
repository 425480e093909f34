from __future__ import annotations

import asyncio
import threading
import time

import pytest

from mmrl.run_sync import Stoppable, run_sync


async def three() -> int:
    await asyncio.sleep(0)
    return 3


def test_run_sync_inside_a_running_loop_too() -> None:
    async def within() -> int:
        return run_sync(three())

    assert run_sync(three()) == asyncio.run(within()) == 3


def test_what_is_not_stopped_runs_to_its_end() -> None:
    loop = Stoppable()
    assert [loop.run(three()), loop.run(three())] == [3, 3]


def test_a_stop_cancels_what_runs_and_waits_for_its_threads() -> None:
    """A coroutine that is cancelled cleans up, and work on a thread of its own is waited for."""
    loop, begun, left = Stoppable(), threading.Event(), list[str]()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.to_thread(lambda: (time.sleep(0.1), left.append("thread")))
        finally:
            left.append("cleaned up")

    def stop() -> None:
        begun.wait()
        loop.stop()

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(asyncio.CancelledError):
        loop.run(work())
    stopper.join()
    assert sorted(left) == ["cleaned up", "thread"]


def test_after_a_stop_nothing_begins() -> None:
    loop, begun = Stoppable(), list[int]()

    async def work() -> None:
        begun.append(1)

    loop.stop()
    with pytest.raises(asyncio.CancelledError):
        loop.run(work())
    assert begun == []
