"""SGLang's server, by its own paths: the OpenAI ones give no token ids.

Written from its source; tested against a stand-in alone.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mmrl.json_client import JsonClient, ServerError
from mmrl_agents.engine_api import Asking, EngineApi, Said, Way
from mmrl_agents.generate import Row


class _Meta(BaseModel):
    output_token_logprobs: list[tuple[float, int, Any]]


class _Answer(BaseModel):
    meta_info: _Meta


def _body(asking: Asking, row: Row, seed: int) -> dict[str, Any]:
    sampling = {
        "max_new_tokens": row.limit, "temperature": asking.temperature, "top_p": 1.0, "top_k": -1, "min_p": 0.0,
        "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "sampling_seed": seed,
        "stop_token_ids": list(asking.ends), "skip_special_tokens": False, "no_stop_trim": True,
    }  # fmt: skip
    lora = {"lora_path": asking.adapter} if asking.adapter is not None else {}
    return {"input_ids": list(row.prompt), "sampling_params": sampling, "return_logprob": True, **lora}


def _read(answer: Any) -> Said:
    sampled = _Answer.model_validate(answer).meta_info.output_token_logprobs
    return Said([i for _, i, _ in sampled], [logprob for logprob, _, _ in sampled])


async def _adapter(client: JsonClient, name: str, folder: Path) -> None:
    await _drop(client, name)  # a server that is made ready again has the name, and would refuse it
    await _told(client, "/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)})


async def _drop(client: JsonClient, name: str) -> None:
    with suppress(ServerError):
        await client.post({"lora_name": name}, "/unload_lora_adapter")


async def _weights(client: JsonClient, name: str, folder: Path) -> None:
    await _told(client, "/update_weights_from_disk", {"model_path": str(folder), "flush_cache": True})


async def _takes(client: JsonClient) -> bool:
    return True


async def _birth(client: JsonClient) -> str:
    return ""


async def _told(client: JsonClient, path: str, body: dict[str, Any]) -> None:
    """It answers 200 and ``success: false`` to what it could not do."""
    answer = await client.post(body, path)
    if not (isinstance(answer, dict) and answer.get("success")):
        raise client.error(f"answered {path} with {answer}", 400)


SGLANG = EngineApi(
    name="sglang",
    text=Way("/generate", _body, _read),
    images=None,
    give_adapter=_adapter,
    drop_adapter=_drop,
    give_weights=_weights,
    takes_weights=_takes,
    birth=_birth,
    adapters_on="--enable-lora --max-lora-rank RANK --lora-target-modules all",
    weights_on="no further option",
    processed_on="no SGLANG_RETURN_ORIGINAL_LOGPROB",
)
