"""A policy behind any server with OpenAI's ``/v1/chat/completions``: vLLM, SGLang, LMDeploy, llama.cpp, hosted models.

Comes in: conversations, images included.  Goes out: texts, without token ids: for evaluating, collecting and playing.
Training needs ids and log-probabilities, which ``training_args.vllm_config.server`` gets from servers that have them.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import ValidationError

from mmrl.chat_completion import ChatCompletion, TokenCounts
from mmrl.errors import BadInput
from mmrl.json_client import EXCERPT, JsonClient, ServerError, checked_base, from_environment
from mmrl.policy import Completion, Request
from mmrl.sample import to_openai
from mmrl.trajectory import FinishReason
from mmrl.usage import Usage
from mmrl_agents.fleet import Fleet
from mmrl_agents.replica import SPARE, UNASKED, Replica, check_health

MILLION = 1_000_000
REFUSED = frozenset({400, 413, 422})
"""What servers answer to one conversation that they do not take, while others may be taken."""
CLOSED = {
    401: "set api_key_env to the environment variable that holds the key",
    403: "api_key_env is the environment variable that holds the key",
    404: "url is an address such as http://localhost:8000/v1, and model a name that the server knows",
}  # fmt: skip
"""What servers answer to every request if an argument is wrong, and which."""
LIMITS: tuple[Literal["max_tokens", "max_completion_tokens"], ...] = ("max_tokens", "max_completion_tokens")
"""Names of the token limit: the common one, and that of models which think."""


class OpenAIPolicy:
    """Speaks with the model that a server holds, in chat messages.

    Args:
        url: the server's address, such as ``https://api.openai.com/v1`` (``/v1`` is added where there is no path).
        model: the model's name, as the server knows it.
        api_key_env: the environment variable that holds the key; None for a server that asks for none.
        temperature: of the sampling; None leaves it out of the request, for models that take none.
        max_new_tokens: token limit of an answer, thoughts included.
        seeded: send each turn's own seed, for servers that know seeds.
        concurrency: requests under way at once.
        silence_s: seconds that the server may take for one answer.
        wait_s: seconds of patience with a server that is gone, or wants to be asked later.
        price_in: of a million prompt tokens; ``price_out``: of a million completion tokens.

    Raises:
        BadInput: for an argument of another form, a key that is not set, or a missing package.
    """

    def __init__(self, url: str, model: str, api_key_env: str | None = None, temperature: float | None = None,
                 max_new_tokens: int = 64, seeded: bool = False, concurrency: int = 16, silence_s: float = 300.0,
                 wait_s: float = 300.0, price_in: float | None = None, price_out: float | None = None) -> None:
        if not isinstance(model, str) or not model:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise BadInput(f"model is the model's name, as the server knows it, not {model!r:.80}")
        _check_numbers(concurrency=concurrency, silence_s=silence_s, wait_s=wait_s, max_new_tokens=max_new_tokens)
        self._prices = _prices(price_in, price_out)
        parts = urlsplit(checked_base("url", url))
        base = parts._replace(path=parts.path.rstrip("/") or "/v1").geturl()
        key = None if api_key_env is None else from_environment("api_key_env", api_key_env)
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        self._concurrency, self._wait_s = int(concurrency), float(wait_s)
        self._client = JsonClient(base, headers, silence_s, self._concurrency + SPARE)
        self._fields = {"model": model, **({} if temperature is None else {"temperature": temperature})}
        self._limit, self._limited, self._seeded = int(max_new_tokens), LIMITS[0], seeded
        self._requests, self._read, self._written = 0, 0, 0
        self._heard = False

    @property
    def usage(self) -> Usage:
        """What it has used so far."""
        cost = None
        if self._prices is not None:
            cost = (self._read * self._prices[0] + self._written * self._prices[1]) / MILLION
        return Usage(self._requests, self._read, self._written, cost)

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer a batch of requests; one that the server refuses for itself gets the reason as its ``error``."""
        fleet = Fleet([Replica(self._client)], _there, self._concurrency, self._wait_s)
        try:
            async with fleet.opened(), asyncio.TaskGroup() as group:
                await fleet.renew()
                tasks = [group.create_task(self._answer(fleet, request)) for request in requests]
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _answer(self, fleet: Fleet, request: Request) -> Completion:
        messages = to_openai(request.messages)

        async def ask(replica: Replica) -> Completion:
            try:
                return self._said(await self._ask(messages, request.seed))
            except ServerError as error:
                if error.status in CLOSED:
                    raise BadInput(f"policy openai: {error}: {CLOSED[error.status]}") from error
                self._heard = self._heard or error.status is not None
                if not self._heard:
                    raise BadInput(f"policy openai: {error}; start the server, or mend url") from error
                if error.status in REFUSED:
                    return Completion("", error=str(error))
                raise

        return await fleet.do(ask)

    async def _ask(self, messages: list[dict[str, Any]], seed: tuple[int, ...]) -> Any:
        body = {**self._fields, "messages": messages, **({"seed": _seed(seed)} if self._seeded else {})}
        limited = self._limited
        try:
            return await self._client.post({**body, limited: self._limit}, "/chat/completions")
        except ServerError as error:
            if error.status != 400 or limited != LIMITS[0] or LIMITS[1] not in str(error):
                raise
        answer = await self._client.post({**body, LIMITS[1]: self._limit}, "/chat/completions")
        self._limited = LIMITS[1]  # it knows no other
        return answer

    def _said(self, answer: Any) -> Completion:
        try:
            chat = ChatCompletion.model_validate(answer)
        except ValidationError as error:
            said = json.dumps(answer)[:EXCERPT]
            raise self._client.error(f"answered with no chat completion: {said}", 200) from error
        self._requests += 1
        self._heard = True
        used = chat.usage or TokenCounts()
        self._read += used.prompt_tokens or 0
        self._written += used.completion_tokens or 0
        choice = chat.choices[0]
        reason: FinishReason = "length" if choice.finish_reason == "length" else "stop"
        return Completion(choice.message.content or choice.message.refusal or "", finish_reason=reason)


async def _there(replica: Replica) -> None:
    """Nothing has to be given to a server whose model stays as it is; one that was gone must be there again."""
    if replica.why != UNASKED:
        await check_health(replica.client)


def _seed(key: tuple[int, ...]) -> int:
    """A seed that every server takes, in [0, 2**31)."""
    import numpy as np

    return int(np.random.SeedSequence(key).generate_state(1)[0] >> 1)


def _check_numbers(**numbers: Any) -> None:
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise BadInput(f"{name} is a number above 0, not {value!r:.80}")


def _prices(price_in: float | None, price_out: float | None) -> tuple[float, float] | None:
    given: dict[str, Any] = {"price_in": price_in, "price_out": price_out}
    if all(value is None for value in given.values()):
        return None
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise BadInput(f"{name} is the price of a million tokens, at least 0, given with the other one; not "
                           f"{value!r:.80}")  # fmt: skip
    return float(given["price_in"]), float(given["price_out"])

