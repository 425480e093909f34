"""Run coroutines from plain code: inside a running event loop too (a notebook), or until another thread says stop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any


def run_sync(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end, also from inside a running loop (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    box: dict[str, Any] = {}

    def target() -> None:
        try:
            box["value"] = asyncio.run(coroutine)
        except BaseException as error:
            box["error"] = error

    thread = threading.Thread(target=target, name="mmrl-rollout")
    thread.start()
    thread.join()
    if "error" in box:
        raise box["error"]
    return box["value"]


class Stoppable:
    """Runs coroutines for one thread, one after the other, until another thread stops it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped = False
        self._cancel: Callable[[], object] | None = None

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine to its end.

        Raises:
            asyncio.CancelledError: if it was stopped, before or meanwhile.
        """
        return asyncio.run(self._watched(coroutine))

    def stop(self) -> None:
        """Cancel the coroutine that runs, and all that come after it."""
        with self._lock:
            self._stopped = True
            if self._cancel is not None:
                self._cancel()

    async def _watched(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        with self._lock:
            if self._stopped:
                coroutine.close()
                raise asyncio.CancelledError
            self._cancel = lambda: loop.call_soon_threadsafe(task.cancel)
        try:
            return await coroutine
        finally:
            with self._lock:
                self._cancel = None
