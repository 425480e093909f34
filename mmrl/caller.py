"""Calls with a time limit: of plain functions on a daemon thread, of coroutines on a loop of their own.

Python cannot stop a thread.  A call that outlasts its limit is left behind with its thread, which holds nothing up:
daemon threads end with the process.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

ALIVE_S = 1.0  # an event loop that does not answer for so long is blocked


class Overdue(Exception):
    """A call outlasted its time limit."""


Task = tuple[Callable[[], Any], "Future[Any]"]


class ThreadCaller:
    """Makes one call at a time on a thread of its own, until closed."""

    def __init__(self) -> None:
        self._inbox: queue.SimpleQueue[Task | None] | None = None

    def call(self, function: Callable[[], Any], timeout_s: float | None) -> Any:
        """Call ``function``.

        Raises:
            Overdue: after ``timeout_s`` seconds.
            Exception: whatever it raises.
        """
        if timeout_s is None:
            return function()
        if self._inbox is None:
            self._inbox = queue.SimpleQueue()
            threading.Thread(target=_serve, args=(self._inbox,), name="mmrl-plugin", daemon=True).start()
        future: Future[Any] = Future()
        self._inbox.put((function, future))
        try:
            return future.result(timeout_s)
        except TimeoutError:
            if future.done():  # the function's own
                raise
            self.close()
            raise Overdue(f"no answer after {timeout_s:g} s") from None

    def close(self) -> None:
        """Let the thread go, at once or when its call ends."""
        if self._inbox is not None:
            self._inbox.put(None)
            self._inbox = None


def _serve(inbox: queue.SimpleQueue[Task | None]) -> None:
    while (task := inbox.get()) is not None:
        function, future = task
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)


class LoopCaller:
    """Runs coroutines on one event loop, many at a time, from any thread."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()

    def call(self, coroutine: Callable[[], Coroutine[Any, Any, Any]], timeout_s: float | None) -> Any:
        """Run what ``coroutine`` makes.

        Raises:
            Overdue: after ``timeout_s`` seconds.
            Exception: whatever it raises.
        """
        loop = self._running()
        future = asyncio.run_coroutine_threadsafe(_contained(coroutine), loop)
        try:
            return future.result(timeout_s)
        except TimeoutError:
            if future.done():
                raise
            future.cancel()
            self._leave_if_blocked(loop)
            raise Overdue(f"no answer after {timeout_s:g} s") from None

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._loop.is_closed():
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=_turn, args=(self._loop,), name="mmrl-plugin-loop", daemon=True).start()
                weakref.finalize(self, _stop, self._loop)
            return self._loop

    def _leave_if_blocked(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give up a loop in which a coroutine blocks, lest every later call wait for it."""
        answered = threading.Event()
        loop.call_soon_threadsafe(answered.set)
        if not answered.wait(ALIVE_S):
            with self._lock:
                if self._loop is loop:
                    self._loop = None


async def _contained(coroutine: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """What the coroutine gives; its SystemExit would end the loop for all."""
    try:
        return await coroutine()
    except (SystemExit, KeyboardInterrupt) as error:
        raise RuntimeError(f"{type(error).__name__}: {error}") from error


def _stop(loop: asyncio.AbstractEventLoop) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(loop.stop)


def _turn(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()
