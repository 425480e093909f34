"""The keys of ``training_args.vllm_config`` where it names servers.

Comes in: the mapping as written.  Goes out: a frozen :class:`ServerArgs`, or one line that names the key, its place and
what would be right.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import Field, PositiveInt, ValidationError, field_validator

from mmrl.config_load import LoadedConfig
from mmrl.errors import BadInput, unknown
from mmrl.json_client import JsonClient, checked_base, from_environment
from mmrl.section import Section
from mmrl_agents.replica import SPARE


class ServerArgs(Section):
    """Servers that a run samples with."""

    server: list[str] = Field(min_length=1)
    """Address of a server, such as ``http://localhost:8000``; or a list of addresses of several that do the same."""
    api_key_env: str | None = None
    """Environment variable that holds the key which the servers ask for; null: they ask for none."""
    enable_lora: bool | None = None
    """Give the servers the adapter alone (true), or all weights with the adapter merged in (false); null: the adapter
    where one is trained that they can read."""
    weights_folder: Path | None = None
    """Folder through which weights go to the servers, which must find it under the same path; null: ``sampler/`` in the
    run's folder."""
    concurrency: PositiveInt = 256
    """Requests under way at once, over all servers."""
    wait_s: float = Field(default=600.0, gt=0)
    """Seconds to wait for a server when none is there, before the run stops."""
    silence_s: float = Field(default=600.0, gt=0)
    """Seconds that a server may take for one answer before it counts as gone."""
    engine: dict[str, Any] = Field(default={})
    """Arguments of vLLM's engine (``max_num_seqs``, ``tensor_parallel_size``, ...) that ``mmrl serve-sampler`` starts
    a server with; the run itself does not read them."""

    @field_validator("server", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("server")
    @classmethod
    def _addresses(cls, value: list[str]) -> list[str]:
        urls = [base_url("server", url) for url in value]
        if len(set(urls)) < len(urls):
            raise ValueError("an address is given twice")
        return urls

    def headers(self) -> dict[str, str]:
        """What is sent with every request.

        Raises:
            BadInput: if the key is not in the environment.
        """
        key = None if self.api_key_env is None else from_environment("api_key_env", self.api_key_env)
        return {} if key is None else {"authorization": f"Bearer {key}"}

    def clients(self) -> list[JsonClient]:
        """One for each server."""
        headers = self.headers()
        return [JsonClient(url, headers, self.silence_s, self.concurrency + SPARE) for url in self.server]


def base_url(argument: str, url: Any) -> str:
    """An address without the ``/v1`` and the slash that many write behind it.

    Raises:
        BadInput: naming the argument, if it is no address.
    """
    return re.sub(r"/+(v1/*)?$", "", checked_base(argument, url) + "/")


def server_args(loaded: LoadedConfig) -> ServerArgs:
    """Read the servers of a run.

    Raises:
        BadInput: naming the key, its place and what would be right.
    """
    given = loaded.config.training_args.vllm_config

    def where(*key: str | int) -> str:
        return loaded.where("training_args", "vllm_config", *key)

    for name in given:
        if name not in ServerArgs.model_fields:
            wrong = unknown("key of vllm_config beside server", name, ServerArgs.model_fields, where(name))
            raise BadInput(f"{wrong}; an engine's own arguments go into vllm_config.engine")
    try:
        made = ServerArgs.model_validate(given)
        made.headers()  # is the key there?
    except ValidationError as error:
        first = error.errors()[0]
        name, said = str(first["loc"][0]), first["msg"].removeprefix("Value error, ")
        raise BadInput(f"{where(name)}: 'vllm_config.{name}': {said[0].lower()}{said[1:]}") from None
    except BadInput as error:
        raise BadInput(f"{where('api_key_env')}: vllm_config.{error}") from None
    return made
