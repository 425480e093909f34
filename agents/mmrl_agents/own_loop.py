"""An event loop on a thread of its own: connections that it opens live as long as it does.

Episodes run in a loop for each step; what asks servers must not begin anew with each.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

T = TypeVar("T")


class OwnLoop:
    """Runs coroutines on a thread of its own, which holds up no process that ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[Future[Any]] = set()
        self._stopped = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="mmrl-servers", daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, T], after_stop: bool = False) -> Future[T]:
        """Begin a coroutine; cancelling the future cancels it.

        Raises:
            CancelledError: after :meth:`stop`, but for work that is said to come after it.
        """
        with self._lock:
            if self._stopped and not after_stop:
                work.close()
                raise CancelledError
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
            self._open.add(future)
        future.add_done_callback(self._open.discard)
        return future

    def call(self, work: Coroutine[Any, Any, T], after_stop: bool = False) -> T:
        """Run a coroutine to its end; an interrupt of the caller, or :meth:`stop`, cancels it."""
        future = self.start(work, after_stop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """Cancel what runs, whichever thread waits for it."""
        with self._lock:
            self._stopped = True
            running = list(self._open)
        for future in running:
            future.cancel()

    def close(self) -> None:
        """Cancel what still runs, and end the thread."""
        if self._loop.is_closed():
            return
        self.call(_cancel_others(), after_stop=True)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_others() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
