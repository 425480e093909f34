"""Servers that do the same work, as one: requests go to the least busy, and away from one that fails.

Comes in: pieces of work.  Goes out: one result for each, however many servers it took; or the end of the run, in one
line, when none has come back in time.

A server is used once it is *ready*: made to hold what it must (the newest weights).  One that fails is not used until
it has been made ready again, which is tried until it succeeds.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from mmrl.errors import RunStopped
from mmrl.json_client import ServerError
from mmrl_agents.replica import BROKEN, BUSY, Replica, healthy

T = TypeVar("T")
TRIES = 5
"""How often a request may fail on servers that are there, or lose its server, before it is taken for its own fault."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 10.0
"""Pauses between tries double from the first to the longest; each is cut by up to a half, by chance."""
LOYALTY = 4
"""Requests by which the server that knows a conversation may be busier than the least busy, and still be chosen."""


_CHANCE = random.SystemRandom()


class Lost(Exception):
    """A server lacks what it was given: it has been started anew."""


Prepare = Callable[[Replica], Awaitable[None]]
"""Makes a server ready; a ServerError says that it is not there, RunStopped that it never will be."""


def _nobody(line: str) -> None:
    """Hear of nothing."""


@dataclass(eq=False)
class Fleet:
    """Servers that do the same work.  All of its methods run in one event loop, inside :meth:`opened`.

    Attributes:
        replicas: the servers.
        prepare: makes one ready.
        concurrency: requests under way at once, over all servers.
        wait_s: how long requests wait for a server when there is none.
        lost: what to add where it ends the run.
        say: told in a line of a server that is used no more, and of one that is used again; on the loop's thread.
    """

    replicas: Sequence[Replica]
    prepare: Prepare
    concurrency: int
    wait_s: float
    lost: str = ""
    say: Callable[[str], None] = _nobody
    _homes: dict[Hashable, Replica] = field(default_factory=dict["Hashable", Replica])
    _revivals: dict[Replica, asyncio.Task[None]] = field(default_factory=dict[Replica, "asyncio.Task[None]"])
    _fatal: BaseException | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        """The servers' connections, kept for as long as the block runs."""
        self._slots = asyncio.Semaphore(self.concurrency)
        self._changed = asyncio.Condition()
        async with AsyncExitStack() as stack:
            for replica in self.replicas:
                await stack.enter_async_context(replica.client.open())
            watches = [asyncio.create_task(self._watch(replica)) for replica in self.replicas]
            try:
                yield
            finally:
                await _ended([*watches, *self._revivals.values()])

    async def renew(self, prepare: Prepare | None = None) -> None:
        """Make all servers ready anew; returns when each is, or has failed, and at least one is.

        Args:
            prepare: used this once, and not for a server that must be tried again.

        Raises:
            RunStopped: if none is in time, or ``prepare`` gives up.
        """
        self._homes.clear()
        await self.halt()
        for replica in self.replicas:
            replica.ready = False
        await asyncio.gather(*(self._try(r, prepare or self.prepare) for r in self.replicas))
        for replica in self.replicas:
            if not replica.ready:
                self._revive(replica)
        await self._least_busy(None)

    async def halt(self) -> None:
        """Try no more to make servers ready, until :meth:`renew`."""
        await _ended(list(self._revivals.values()))

    async def do(self, work: Callable[[Replica], Awaitable[T]], home: Hashable = None) -> T:
        """Have a piece of work done by whichever server can.

        Args:
            work: asks one server; it may be called several times, and its last result alone counts.
            home: whose work it is; what has the same name goes to the same server while that is not much busier.

        Raises:
            RunStopped: if it is refused, keeps failing, or no server is there in time.
        """
        async with self._slots:
            failed, busy, until = 0, 0, math.inf
            while True:
                replica = await self._least_busy(home)
                try:
                    return await replica.do(work)
                except Lost as error:
                    self.lose(replica, why := str(error))
                    failed += 1
                except ServerError as error:
                    why = await self._judged(replica, error)
                    waits = replica.ready and error.status in BUSY
                    if waits and not busy:
                        until = asyncio.get_running_loop().time() + self.wait_s
                    failed, busy = failed + (not waits), busy + waits
                    wanted = pause_s(busy + failed - 1) if error.retry_after is None else error.retry_after
                    await asyncio.sleep(min(wanted, self.wait_s) if replica.ready else 0.0)
                if failed == TRIES or asyncio.get_running_loop().time() > until:
                    raise RunStopped(f"a request failed {failed + busy} times, at last: {why}{self.lost}")

    async def _judged(self, replica: Replica, error: ServerError) -> str:
        """What a failure means for its server; returns it in words.

        Raises:
            RunStopped: if the request itself is refused.
        """
        if error.status is not None and error.status not in BUSY | BROKEN:
            raise RunStopped(f"{error}{self.lost}") from error
        if error.status is None or (error.status != 429 and not await healthy(replica.client)):
            self.lose(replica, str(error))
        return str(error)

    async def _watch(self, replica: Replica) -> None:
        """Take its work from a server that falls silent."""
        while True:
            await replica.falls_silent()
            self.lose(replica, f"{replica.client.url} no longer says that it is well")
            replica.give_up()

    def lose(self, replica: Replica, why: str) -> None:
        """Use a server no more until it has been made ready again."""
        replica.why = why
        if replica.ready:
            replica.ready = False
            self.say(f"{why}; without it until it is back, at most {self.wait_s:g} s if there is no other")
            self._revive(replica)

    def _revive(self, replica: Replica) -> None:
        task = asyncio.get_running_loop().create_task(self._again_and_again(replica))
        self._revivals[replica] = task
        task.add_done_callback(lambda done: self._revivals.pop(replica, None) if self._revivals.get(replica) is done
                               else None)  # fmt: skip

    async def _again_and_again(self, replica: Replica) -> None:
        n = 0
        while not await self._try(replica, self.prepare):
            await asyncio.sleep(pause_s(n))
            n += 1
        if replica.ready:
            self.say(f"{replica.client.url} is used again")

    async def _try(self, replica: Replica, prepare: Prepare) -> bool:
        """Make a server ready; returns whether there is no more to do."""
        try:
            await prepare(replica)
        except ServerError as error:
            replica.why = str(error)
            return False
        except RunStopped as error:
            self._fatal = error
        else:
            replica.ready = True
        async with self._changed:
            self._changed.notify_all()
        return True

    async def _least_busy(self, home: Hashable) -> Replica:
        """The server to ask, as soon as there is one."""

        def found() -> bool:
            return self._fatal is not None or any(r.ready for r in self.replicas)

        try:
            async with asyncio.timeout(self.wait_s), self._changed:
                await self._changed.wait_for(found)
        except TimeoutError:
            said = "; ".join(dict.fromkeys(r.why for r in self.replicas))
            raise RunStopped(f"no server for {self.wait_s:g} s: {said}{self.lost}") from None
        if self._fatal is not None:
            raise self._fatal
        known = self._homes.get(home)
        chosen = min((r for r in self.replicas if r.ready), key=lambda r: r.load - LOYALTY * (r is known))
        if home is not None:
            self._homes[home] = chosen
        return chosen


async def _ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def pause_s(n: int) -> float:
    """Seconds to wait after the ``n``-th failure in a row, from 0; never quite the same, so that clients part."""
    return min(FIRST_PAUSE_S * 2 ** min(n, 16), LONGEST_PAUSE_S) * _CHANCE.uniform(0.5, 1.0)
