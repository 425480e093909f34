"""The command that starts a vLLM server for a run.

Comes in: a configuration.  Goes out: words and variables, or one line that says what is missing.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mmrl.config_load import LoadedConfig
from mmrl.errors import BadInput
from mmrl.serving import Launch, Place
from mmrl_agents.adapter_files import adapter_of
from mmrl_agents.check_server import check_follows, gives_adapter
from mmrl_agents.models import find_model, sees, text_context
from mmrl_agents.run import dtype_of
from mmrl_agents.server_args import server_args
from mmrl_agents.vllm_args import BLOCK, SET_HERE, Adapter
from mmrl_agents.vllm_library import MISSING
from mmrl_agents.vllm_worker import NAME

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The sizes of adapter that vLLM's servers can be built for."""
NEIGHBOUR = ".venv-vllm"
"""The environment that ``make vllm`` fills, beside the one that this runs in."""
ON_CPU: dict[str, Any] = {
    "enforce_eager": True, "enable_chunked_prefill": False, "block_size": BLOCK, "worker_extension_cls": NAME,
}  # fmt: skip
"""Arguments of a server on a CPU; why: :func:`mmrl_agents.vllm_args.arguments`."""
FOR_IMAGES: dict[str, Any] = {"enable_scale_out": True}
"""Arguments of a server of a model that sees: without them it has not the paths of :mod:`mmrl_agents.vllm_images`."""
PORTS = {"http": 80, "https": 443}
"""Where an address without a port is asked."""
CACHE_GIB = "4"
"""Of memory, what a server on a CPU takes for keys and values unless VLLM_CPU_KVCACHE_SPACE says otherwise."""


def server(loaded: LoadedConfig, place: Place) -> Launch:
    """How a vLLM server for a run is started; see :class:`mmrl.serving.Serves`."""
    training = loaded.config.training_args
    where = loaded.where("training_args", "vllm_config")
    if "server" not in training.vllm_config:
        raise BadInput(f"{where}: the run samples with no server; set training_args.vllm_config.server to its address, "
                       "such as http://localhost:8000, and training_args.use_vllm_sampler to true")  # fmt: skip
    args = server_args(loaded)
    files = find_model(loaded.config.model_id, loaded.where("model_id"))
    adapter = adapter_of(files, training.lora)
    check_follows(loaded, args, files, adapter)
    for name in args.engine:
        if name in SET_HERE:
            raise BadInput(f"{loaded.where('training_args', 'vllm_config', 'engine', name)}: '{name}' is not for "
                           f"vllm_config.engine: {SET_HERE[name]}")  # fmt: skip
    address = urlsplit(args.server[0])
    python = vllm_python(where) if place.here else "python"
    adapts, cpu = gives_adapter(args, adapter), on_cpu() if place.cpu is None else place.cpu
    given: dict[str, Any] = {
        "model": files.base, "served_model_name": files.name, "host": place.host,
        "port": place.port or address.port or PORTS[address.scheme], "dtype": dtype_of(training),
        "max_model_len": loaded.config.rollout.max_context or text_context(files),
        "logprobs_mode": "processed_logprobs", "generation_config": "vllm",
        **(adapter_flags(adapter) if adapts and adapter is not None else {}),
        **(FOR_IMAGES if sees(files) else {}), **(ON_CPU if cpu else {}), **args.engine,
    }  # fmt: skip
    words = (python, "-m", "vllm.entrypoints.openai.api_server", *flags(given))
    secrets = {} if args.api_key_env is None else {"VLLM_API_KEY": args.api_key_env}
    return Launch(words, variables(adapts, cpu), secrets)


def adapter_flags(adapter: Adapter) -> dict[str, Any]:
    """What a server needs to load adapters of this size.

    Raises:
        BadInput: if no server can.
    """
    rank = next((r for r in RANKS if r >= adapter.rank), None)
    if rank is None:
        raise BadInput(f"training_args.lora.r is {adapter.rank}, above the largest adapter of vLLM's servers, "
                       f"{RANKS[-1]}; lower it, or set vllm_config.enable_lora: false")  # fmt: skip
    return {"enable_lora": True, "max_loras": 1, "max_lora_rank": rank}


def flags(given: Mapping[str, Any]) -> list[str]:
    """Arguments as vLLM's command line takes them."""
    out: list[str] = []
    for name, value in given.items():
        dashed = name.replace("_", "-")
        if isinstance(value, bool):
            out.append(f"--{dashed}" if value else f"--no-{dashed}")
        else:
            out += [f"--{dashed}", json.dumps(value) if isinstance(value, list | dict) else str(value)]
    return out


def variables(adapts: bool, cpu: bool) -> dict[str, str]:
    """The environment of a server; what the user has set stays."""
    needed = {"VLLM_NO_USAGE_STATS": "1"}
    # Weights that come while it runs are not taken otherwise; both are for networks that one trusts.
    needed |= {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"} if adapts else {"VLLM_SERVER_DEV_MODE": "1"}
    needed |= {"VLLM_CPU_KVCACHE_SPACE": CACHE_GIB} if cpu else {}
    return {name: os.environ.get(name, value) for name, value in needed.items()}


def on_cpu() -> bool:
    """Whether this machine has no GPU."""
    import torch

    return not torch.cuda.is_available()


def vllm_python(where: str) -> str:
    """The Python that has vLLM: this one, or that of the environment beside it.

    Raises:
        BadInput: if there is none.
    """
    spec = importlib.util.find_spec("vllm")
    if spec is not None and spec.origin is not None:
        return sys.executable
    beside = Path(sys.prefix).parent / NEIGHBOUR / "bin" / "python"
    if beside.is_file():
        return str(beside)
    raise BadInput(f"{where}: {MISSING}; or take the command to a machine that has it: --print")
