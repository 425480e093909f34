"""What servers say of themselves, asked before anything depends on it.

Comes in: addresses.  Goes out: what kind of server it is, which model it serves under which name, and how many tokens
it holds; or one line that says what is wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, Field, ValidationError

from mmrl.errors import BadInput
from mmrl.json_client import JsonClient, ServerError
from mmrl.run_sync import run_sync
from mmrl_agents.engine_api import EngineApi
from mmrl_agents.replica import check_health
from mmrl_agents.server_args import ServerArgs
from mmrl_agents.sglang_api import SGLANG
from mmrl_agents.vllm_api import VLLM

T = TypeVar("T")
ENGINE_APIS = {api.name: api for api in (VLLM, SGLANG)}
"""By what a server calls itself."""
ANSWER_S = 60.0
"""How long a server may take for one of these questions."""


class _Card(BaseModel):
    id: str
    root: str | None = None
    parent: str | None = None
    owned_by: str = ""
    max_model_len: int | None = None


class _Cards(BaseModel):
    data: list[_Card] = Field(min_length=1)


@dataclass(frozen=True)
class ServerFacts:
    """One server.

    Attributes:
        url: its address.
        api: how it is asked.
        name: what it calls its model.
        path: the folder or id that it has loaded the model from; as ``name`` where it does not say.
        context: tokens of prompt and answer that it holds; None if it does not say.
    """

    url: str
    api: EngineApi
    name: str
    path: str
    context: int | None


def asked(work: Callable[[JsonClient], Awaitable[T]], args: ServerArgs, where: str) -> list[T]:
    """Ask every server something.

    Raises:
        BadInput: with the place of the servers' addresses, if one is not reached, refuses, or fails; or if ``work``
            raises it.
    """

    async def one(client: JsonClient) -> T:
        try:
            async with asyncio.timeout(ANSWER_S):
                return await work(client)
        except TimeoutError:
            raise BadInput(f"{where}: server {client.url} gave no answer in {ANSWER_S:g} s") from None
        except ServerError as error:
            raise BadInput(f"{where}: {explained(error)}") from error
        except BadInput as error:
            raise BadInput(f"{where}: {error}") from error

    async def each() -> list[T]:
        return [await one(client) for client in args.clients()]

    return run_sync(each())


def explained(error: ServerError) -> str:
    """A server's failure, and what to do about it where that is known."""
    mend = {
        None: "; start it (mmrl serve-sampler CONFIG), or mend the address",
        401: "; it asks for a key: set vllm_config.api_key_env to the environment variable that holds it",
        403: "; it does not accept the key: vllm_config.api_key_env is the environment variable that holds it",
    }  # fmt: skip
    return f"server {error}{mend.get(error.status, '')}"


async def facts(client: JsonClient) -> ServerFacts:
    """Ask one server.

    Raises:
        ServerError: if it is not reached or refuses.
        BadInput: if it is of a kind that gives no token ids or takes no weights.
    """
    await check_health(client)
    said = await client.get("/v1/models")
    try:
        card = next(c for c in _Cards.model_validate(said).data if c.parent is None)
    except (ValidationError, StopIteration) as error:
        raise client.error("answered /v1/models with no list of models") from error
    if card.owned_by not in ENGINE_APIS:
        raise BadInput(f"server {client.url} is run by '{card.owned_by}', which gives no token ids with their "
                       f"log-probabilities or takes no weights; training needs one of {', '.join(ENGINE_APIS)} "
                       "(mmrl eval --policy openai takes any)")  # fmt: skip
    return ServerFacts(client.url, ENGINE_APIS[card.owned_by], card.id, card.root or card.id, card.max_model_len)


def facts_of(args: ServerArgs, where: str) -> list[ServerFacts]:
    """What the servers of a run say.

    Raises:
        BadInput: with the place of their addresses; also if they differ in kind or in the name of the model.
    """
    found = asked(facts, args, where)
    for other in found[1:]:
        if (other.api, other.name) != (found[0].api, found[0].name):
            raise BadInput(f"{where}: server {found[0].url} ({found[0].api.name}) serves '{found[0].name}', and server "
                           f"{other.url} ({other.api.name}) '{other.name}'; they must do the same")  # fmt: skip
    return found
