"""A policy that samples with servers, on this machine or others, which follow a learner.

Comes in: a run whose ``vllm_config`` names servers.  Goes out: token ids with their log-probabilities, as every policy
with tokens gives.  A server that fails loses nothing: its requests go to another, or wait until it is back, and it is
given the newest weights before it is used again.
"""

from __future__ import annotations

import asyncio
import functools
import shutil
import uuid
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any

from mmrl.errors import RunStopped
from mmrl.json_client import ServerError
from mmrl.policy import Completion, Request
from mmrl_agents.adapter_files import adapter_of
from mmrl_agents.check_server import check_servers, gives_adapter
from mmrl_agents.engine_api import Asking, EngineApi
from mmrl_agents.fleet import Fleet, Lost
from mmrl_agents.generate import Row, Sampled
from mmrl_agents.handover import Handover, Version
from mmrl_agents.models import find_model, text_context
from mmrl_agents.own_loop import OwnLoop
from mmrl_agents.processes import Processes
from mmrl_agents.replica import HEALTH_S, Replica, check_health, healthy
from mmrl_agents.run import Run
from mmrl_agents.server_args import ServerArgs, server_args
from mmrl_agents.server_facts import facts_of
from mmrl_agents.shards import whole_weights
from mmrl_agents.turns import Turns, end_ids
from mmrl_agents.vllm_engine import seed_of

check = check_servers
INTACT = "; what was written is intact, and --resume goes on"


@dataclass(frozen=True)
class _Answer:
    """An answer, the server that gave it, and which start of that server was asked.

    It may hold old weights if another start is found there afterwards.
    """

    sampled: Sampled
    replica: Replica
    birth: str


class ServerSampler:
    """Speaks with servers that are given a learner's weights.

    Args:
        args: the servers.
        api: how they are asked.
        model_name: what they call the model without an adapter.
        turns: prompts and answers of the model.
        temperature: of the sampling distribution.
        ends: ids that end an answer.
        model: the learner's.
        handover: how its weights come to the servers.
        processes: of the run; the first writes weights and gives them to the servers.
        say: told in a line when a server goes, and when it is back.
    """

    overlapping = True

    def __init__(self, args: ServerArgs, api: EngineApi, model_name: str, turns: Turns, temperature: float,
                 ends: Sequence[int], model: Any, handover: Handover, processes: Processes,
                 say: Callable[[str], None]) -> None:
        self.turns = turns
        self.version = 0
        self._api, self._base = api, model_name
        self._temperature, self._ends = temperature, tuple(ends)
        self._model, self._handover, self._processes = model, handover, processes
        self._newest: Version | None = None
        self._before: Version | None = None
        self.replicas = [Replica(client) for client in args.clients()]
        self._fleet = Fleet(self.replicas, self._prepare, args.concurrency, args.wait_s, INTACT, say)
        self._loop, self._open = OwnLoop(), AsyncExitStack()
        self._loop.call(self._open.enter_async_context(self._fleet.opened()))

    def updated(self, version: int) -> None:
        """Give the model's weights as they are now to all servers; what they kept of prompts is not used again.

        All processes of the run must come here.

        Raises:
            RunStopped: if no server takes them in time.
        """
        weights = whole_weights(self._model)
        newest = self._handover.next(version)
        if not self._processes.first:  # a server that came back late would be given older weights after the newest
            self._loop.call(self._fleet.halt())
        self._processes.wait()
        if self._processes.first:
            self._handover.write(newest, self._model, weights)
            self._before, self._newest = self._newest, newest
            self._loop.call(self._fleet.renew())
        self._processes.wait()
        if not self._processes.first:  # the servers have them, but for those that come back later
            self._before, self._newest = self._newest, newest
            self._loop.call(self._fleet.renew(self._meet))
        self._processes.wait()
        if self._processes.first:
            self._handover.keep(newest)
        self.version = version

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer a batch of requests, together with what else is asked meanwhile."""
        return await self.turns.speak(requests, self.version, self._sample)

    async def _sample(self, rows: Sequence[Row]) -> list[Sampled]:
        return await asyncio.wrap_future(self._loop.start(self._all(rows)))

    def rest(self) -> None:
        """Servers are not stopped between steps: others may use them."""

    def stop(self) -> None:
        """Wait for no server any more; whoever does gets a CancelledError."""
        self._loop.stop()

    def close(self) -> None:
        """Have the servers forget the adapter, and remove the weights on their way."""
        try:
            self._loop.call(self._leave(), after_stop=True)
        finally:
            self._loop.close()
            if self._processes.first:
                self._handover.clear()

    async def _leave(self) -> None:
        if self._processes.first and self._handover.adapter and self._newest is not None:
            drops = [self._api.drop_adapter(r.client, self._newest.name) for r in self.replicas if r.ready]
            with suppress(TimeoutError):  # a server that hangs keeps no run from its end
                async with asyncio.timeout(HEALTH_S):
                    await asyncio.gather(*drops)
        await self._open.aclose()

    async def _all(self, rows: Sequence[Row]) -> list[Sampled]:
        assert self._newest is not None, "a sampler is told of weights before it is asked"
        name = self._newest.name
        asking = Asking(self._base, name if self._handover.adapter else None, self._temperature, self._ends, name,
                        self.turns.transcript.image_tokens)  # fmt: skip
        out: dict[int, Sampled] = {}
        while left := [i for i in range(len(rows)) if i not in out]:
            said = await self._each(asking, [rows[i] for i in left])
            asked = {a.replica for a in said}
            births = {r: "" if self._handover.adapter else await self._birth(r) for r in asked}
            out |= {i: a.sampled for i, a in zip(left, said, strict=True) if a.birth == births[a.replica]}
        return [out[i] for i in range(len(rows))]

    async def _each(self, asking: Asking, rows: Sequence[Row]) -> list[_Answer]:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._fleet.do(functools.partial(self._one, asking, row), row.episode))
                    for row in rows
                ]
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _birth(self, replica: Replica) -> str | None:
        """Which start of a server it is now, None if it does not say; one that lacks the weights is used no more."""
        try:
            birth = await self._api.birth(replica.client)
        except ServerError as error:
            birth, why = None, str(error)
        else:
            why = f"{replica.client.url} has been started anew"
        if birth != replica.birth:
            self._fleet.lose(replica, why)
        return birth

    async def _one(self, asking: Asking, row: Row, replica: Replica) -> _Answer:
        birth = replica.birth  # before it is asked: it may be started anew, and given the weights, meanwhile
        try:
            return _Answer(await self._api.sample(replica.client, asking, row, seed_of(row)), replica, birth)
        except ServerError as error:
            if asking.adapter is not None and error.status in (400, 404) and asking.adapter in str(error):
                raise Lost(str(error)) from error  # started anew, it knows the adapter no more
            raise

    async def _meet(self, replica: Replica) -> None:
        """Look whether a server is there, and which start of it that is."""
        await check_health(replica.client)
        replica.birth = "" if self._handover.adapter else await self._api.birth(replica.client)

    async def _prepare(self, replica: Replica) -> None:
        """Give a server the newest weights."""
        client, newest = replica.client, self._newest
        assert newest is not None
        try:
            await self._meet(replica)
            give = self._api.give_adapter if self._handover.adapter else self._api.give_weights
            await give(client, newest.name, newest.folder)
        except ServerError as error:
            if error.status is None or not await healthy(client):
                raise
            raise RunStopped(f"{error}; the server does not take the weights of step {newest.number} from "
                             f"{newest.folder.parent}{INTACT}") from error  # fmt: skip
        if self._handover.adapter and self._before is not None:
            await self._api.drop_adapter(client, self._before.name)


def make(run: Run) -> ServerSampler:
    """The sampler of a run."""
    loaded, config, processes = run.loaded, run.config, run.processes
    args, files, rollout = server_args(loaded), find_model(config.model_id), config.rollout
    adapter = gives_adapter(args, adapter_of(files, config.training_args.lora))
    own = run.store.root / "sampler"
    if args.weights_folder is None and processes.first:
        shutil.rmtree(own, ignore_errors=True)  # what was left by a start of this run that was killed
    label = processes.of_first(f"mmrl-{uuid.uuid4().hex[:8]}")
    ends = end_ids(run.model.generation_config, run.processing)
    tokens = run.vision.tokens if run.vision is not None else None
    turns = Turns(run.processing, ends, rollout.max_new_tokens, rollout.max_context, text_context(files), tokens)
    facts = facts_of(args, loaded.where("training_args", "vllm_config", "server"))[0]
    what = "the adapter" if adapter else "all weights"
    run.reporter.say(f"sampling with {facts.api.name} at {', '.join(args.server)}, which are given {what}")
    return ServerSampler(args, facts.api, facts.name, turns, rollout.temperature, ends, run.model,
                         Handover(args.weights_folder or own, label, adapter), processes, run.reporter.say)  # fmt: skip
