"""One of several servers that do the same work: how it is asked, how busy it is, and whether it is well.

Comes in: requests for one server.  Goes out: its answers, or an error when it fails or falls silent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mmrl.json_client import JsonClient, ServerError

T = TypeVar("T")
BUSY = frozenset({429, 503})
"""What servers answer that want to be asked again later."""
BROKEN = frozenset({500, 502, 504})
"""What servers and gateways answer that may do better next time."""
UNASKED = "not yet asked"
HEALTH_S = 10.0
"""How long a server may take to say that it is well."""
EVERY_S = 10.0
"""How often one that has work is asked."""
MISSES = 3
"""How often in a row it may fail to say so before its work goes to others."""
SPARE = 4
"""Connections of its client beside those of the work: the question whether it is well must not wait behind that."""


@dataclass(eq=False)
class Replica:
    """One server.

    Attributes:
        client: asks it.
        load: requests that it is answering.
        ready: whether it may be used.
        why: why not, in words.
        birth: what it was when it was made ready; another value: it has been started anew.
    """

    client: JsonClient
    load: int = 0
    ready: bool = False
    why: str = UNASKED
    birth: str = ""
    _work: set[asyncio.Task[Any]] = field(default_factory=set["asyncio.Task[Any]"])

    async def do(self, work: Callable[[Replica], Awaitable[T]]) -> T:
        """Have a piece of work done here.

        Raises:
            ServerError: if the server fails, or is given up meanwhile.
        """

        async def inside() -> T:
            return await work(self)

        task = asyncio.create_task(inside())
        self._work.add(task)
        self.load += 1
        try:
            return await task
        except asyncio.CancelledError:
            task.cancel()
            here = asyncio.current_task()
            if here is None or here.cancelling():
                raise
            raise ServerError(self.why) from None
        finally:
            self.load -= 1
            self._work.discard(task)

    def give_up(self) -> None:
        """End all work here; who waits for it gets a ServerError that says :attr:`why`."""
        for task in self._work:
            task.cancel()

    async def falls_silent(self) -> None:
        """Wait until the server, having work, no longer says that it is well."""
        misses = 0
        while misses < MISSES:
            await asyncio.sleep(EVERY_S)
            misses = 0 if not self._work or await healthy(self.client) else misses + 1


async def check_health(client: JsonClient) -> None:
    """Ask a server whether it is well; one that has no page for it is, if it says anything.

    Raises:
        ServerError: if it is not there, not well, or silent.
    """
    try:
        async with asyncio.timeout(HEALTH_S):
            await client.ask("GET", "/health")
    except TimeoutError:
        raise client.error(f"does not say in {HEALTH_S:g} s that it is well") from None
    except ServerError as error:
        if error.status is None or error.status in BUSY | BROKEN:
            raise


async def healthy(client: JsonClient) -> bool:
    """Whether a server says that it is well."""
    try:
        await check_health(client)
    except ServerError:
        return False
    return True
