"""How servers are asked for tokens and given weights: one :class:`EngineApi` for each kind of server.

Comes in: rows of ids, folders with weights.  Goes out: requests, and what their answers hold; nothing is decoded and
encoded again.  The kinds are in :mod:`mmrl_agents.vllm_api` and :mod:`mmrl_agents.sglang_api`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from mmrl.json_client import JsonClient
from mmrl_agents.generate import Row, Sampled
from mmrl_agents.image_tokens import ImageTokens


@dataclass(frozen=True)
class Asking:
    """How rows are answered.

    Attributes:
        model: the name that the server knows the model by.
        adapter: that of its adapter; None: without one.
        temperature: of the sampling distribution.
        ends: ids that end an answer.
        salt: what is kept of prompts is told apart by it; another one for each version of the weights.
        tokens: how images become ids; None for a model of text alone.
    """

    model: str
    adapter: str | None
    temperature: float
    ends: tuple[int, ...]
    salt: str
    tokens: ImageTokens | None = None


class Said(NamedTuple):
    """What an answer holds: sampled ids, their log-probabilities, and where it says so what the prompt became."""

    ids: Sequence[int]
    logprobs: Sequence[float]
    prompt: Sequence[int] | None = None


Give = Callable[[JsonClient, str, Path], Awaitable[None]]


@dataclass(frozen=True)
class Way:
    """How rows of one kind are answered.

    Attributes:
        path: where they are sent.
        body: what is sent for a row with a seed in [0, 2**63).
        read: what an answer holds; raises ``ValidationError`` or ``ValueError``.
    """

    path: str
    body: Callable[[Asking, Row, int], dict[str, Any]]
    read: Callable[[Any], Said]


@dataclass(frozen=True)
class EngineApi:
    """One kind of server.

    Attributes:
        name: of the kind, as the server says it in ``owned_by`` of its models.
        text: how rows without images are answered.
        images: how rows with images are; None: that was never tried.
        give_adapter: load a LoRA adapter from a folder under a name; raises ``ServerError``.
        drop_adapter: forget the adapter of that name, if it is there.
        give_weights: load all weights from a folder in the place of those it has; raises ``ServerError``.
        takes_weights: whether the server lets itself be given them.
        birth: what differs once it has been started anew; empty if it does not say.
        adapters_on: how it is started so that it takes adapters; ``weights_on``: so that it takes all weights.
        processed_on: how it is started so that its log-probabilities have the temperature in.
        images_on: how it is started so that it takes images; empty if it takes none.
    """

    name: str
    text: Way
    images: Way | None
    give_adapter: Give
    drop_adapter: Callable[[JsonClient, str], Awaitable[None]]
    give_weights: Give
    takes_weights: Callable[[JsonClient], Awaitable[bool]]
    birth: Callable[[JsonClient], Awaitable[str]]
    adapters_on: str
    weights_on: str
    processed_on: str
    images_on: str = ""

    async def sample(self, client: JsonClient, asking: Asking, row: Row, seed: int) -> Sampled:
        """Have a row answered.

        Raises:
            ServerError: if there is no answer, none with an id and a log-probability for every token, or if the row
                has images and the server reads them otherwise than the learner.
        """
        way = self.images if row.images else self.text
        if way is None:
            raise client.error(f"is of a kind ({self.name}) that images were never tried with; they go to vLLM's "
                               "servers, or to vLLM in process", 200)  # fmt: skip
        answer = await client.post(way.body(asking, row, seed), way.path)
        try:
            said = way.read(answer)
            if not said.ids or len(said.ids) != len(said.logprobs):
                raise ValueError(f"{len(said.ids)} ids with {len(said.logprobs)} log-probabilities")
        except (ValidationError, ValueError) as error:
            raise client.error(f"answered without the ids and log-probabilities of what it sampled ({first(error)})",
                               200) from error  # fmt: skip
        if said.prompt is not None and tuple(said.prompt) != row.prompt:
            raise client.error(f"reads images otherwise than the learner: it makes {len(said.prompt)} ids of a prompt "
                               f"of {len(row.prompt)}, or other ones", 200)  # fmt: skip
        kept = tuple(float(x) for x in said.logprobs) if asking.temperature > 0 else (0.0,) * len(said.ids)
        return Sampled(tuple(said.ids), kept, said.ids[-1] in asking.ends)


def first(error: ValidationError | ValueError) -> str:
    """What is wrong with an answer."""
    if not isinstance(error, ValidationError):
        return str(error)
    problem = error.errors()[0]
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
