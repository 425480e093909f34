"""vLLM's server (``vllm serve``): completions of token ids, adapters and weights while it runs.

Written against vLLM 0.32.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from mmrl.json_client import JsonClient, ServerError
from mmrl_agents.engine_api import Asking, EngineApi, Said, Way
from mmrl_agents.generate import Row
from mmrl_agents.vllm_images import IMAGES
from mmrl_agents.vllm_sampling import parameters
from mmrl_agents.vllm_worker import TakesWeights

OWN = TakesWeights.take_weights.__name__
"""What a worker with mmrl's extension is called by."""


class _Logprobs(BaseModel):
    token_logprobs: list[float]


class _Choice(BaseModel):
    token_ids: list[int]
    logprobs: _Logprobs


class _Answer(BaseModel):
    choices: list[_Choice] = Field(min_length=1)


def _body(asking: Asking, row: Row, seed: int) -> dict[str, Any]:
    return {
        "model": asking.adapter or asking.model, "prompt": list(row.prompt), **parameters(asking, row, seed),
        "return_token_ids": True, "cache_salt": asking.salt,
    }  # fmt: skip


def _read(answer: Any) -> Said:
    choice = _Answer.model_validate(answer).choices[0]
    return Said(choice.token_ids, choice.logprobs.token_logprobs)


async def _adapter(client: JsonClient, name: str, folder: Path) -> None:
    # Under a name of its own each time; the same name again is the same adapter again.
    await client.ask("POST", "/v1/load_lora_adapter",
                     {"lora_name": name, "lora_path": str(folder), "load_inplace": True})  # fmt: skip


async def _drop(client: JsonClient, name: str) -> None:
    with suppress(ServerError):
        await client.ask("POST", "/v1/unload_lora_adapter", {"lora_name": name})


async def _weights(client: JsonClient, name: str, folder: Path) -> None:
    kwargs = {"weights_path": str(folder)}
    try:  # mmrl's own, which serve-sampler puts into servers on a CPU (mmrl_agents.vllm_worker)
        await client.ask("POST", "/collective_rpc", {"method": OWN, "kwargs": kwargs})
    except ServerError as error:
        if error.status is None or f"Method '{OWN}'" not in str(error):
            raise
        await client.ask("POST", "/collective_rpc", {"method": "reload_weights", "kwargs": kwargs})


async def _takes(client: JsonClient) -> bool:
    try:
        await client.ask("POST", "/collective_rpc", {"method": "check_health"})
    except ServerError as error:
        if error.status == 404:
            return False
        raise
    return True


async def _birth(client: JsonClient) -> str:
    found = re.search(r"^process_start_time_seconds (\S+)", await client.ask("GET", "/metrics"), re.MULTILINE)
    return found[1] if found else ""


VLLM = EngineApi(
    name="vllm",
    text=Way("/v1/completions", _body, _read),
    images=IMAGES,
    give_adapter=_adapter,
    drop_adapter=_drop,
    give_weights=_weights,
    takes_weights=_takes,
    birth=_birth,
    adapters_on="--enable-lora --max-lora-rank RANK and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True",
    weights_on="VLLM_SERVER_DEV_MODE=1",
    processed_on="--logprobs-mode processed_logprobs",
    images_on="--enable-scale-out",
)
