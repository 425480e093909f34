"""The arguments of a vLLM engine: the user's, and what mmrl sets where they are silent.

Comes in: what a policy needs, and ``training_args.vllm_config``.  Goes out: the arguments of ``vllm.LLM``, or one line
that says what is wrong with them; no weights are loaded for it.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from mmrl.errors import BadInput, one_line, unknown
from mmrl_agents.generate import CACHE_BYTES
from mmrl_agents.models import ModelFiles, read_config
from mmrl_agents.vllm_library import OWN_PROCESS, process_untouched, shares_process
from mmrl_agents.vllm_worker import NAME

SET_HERE = {
    "model": "model_id says it",
    "tokenizer": "it is the model's own",
    "logprobs_mode": "the learner needs log-probabilities with the temperature in",
    "runner": "a policy generates",
    "worker_extension_cls": "mmrl's own stands there",
}
"""Arguments that are not the user's, and why."""
GPU_SHARE = 0.3
"""Of a GPU's memory, what the engine takes (weights and KV cache): the learner is on the same one."""
BLOCK = 32
"""Tokens of a block of the KV cache on a CPU, a quarter of vLLM's: whole blocks are kept from turn to turn."""
SHOWN = 300
"""Characters of vLLM's own words in a message."""
Where = Callable[..., str]
"""The place of a key of ``vllm_config``, or of ``vllm_config`` itself."""


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter, as far as an engine cares.

    Attributes:
        rank: its rank.
        unfit: why vLLM cannot load it as it is (it reads plain LoRA on the language model alone); empty if it can.
    """

    rank: int
    unfit: str = ""


@dataclass(frozen=True)
class Needs:
    """What a policy needs of an engine.

    Attributes:
        files: the model's.
        dtype: of weights and products, where the user says none.
        context: tokens of prompt and answer that it must hold.
        adapter: the adapter that is trained on top; None: all weights are, or none.
        episodes: how many go on at once, at most.
    """

    files: ModelFiles
    dtype: str
    context: int
    adapter: Adapter | None = None
    episodes: int = 64


@dataclass(frozen=True)
class Engines:
    """What the vLLM that is installed can do.

    Attributes:
        names: of its arguments.
        ranks: the sizes of adapter that it can be built for, ascending.
        cpu: whether it is built for the CPU.
    """

    names: tuple[str, ...]
    ranks: tuple[int, ...]
    cpu: bool

    @classmethod
    def of(cls, library: Any) -> Engines:
        """Ask the module ``vllm``."""
        from importlib import import_module

        ranks = typing.get_args(import_module("vllm.config.lora").MaxLoRARanks)
        names = tuple(field.name for field in dataclasses.fields(library.EngineArgs))
        return cls(names, tuple(sorted(ranks)), bool(import_module("vllm.platforms").current_platform.is_cpu()))


def takes_adapter(needs: Needs, given: Mapping[str, Any], engines: Engines) -> bool:
    """Whether the engine samples with the adapter as it is, and not with weights that it is merged into.

    The user says so by ``enable_lora``.  By default a GPU takes the adapter (megabytes go over in an update), a CPU
    merged weights (adapters are slow there).
    """
    asked = given.get("enable_lora")
    if asked is not None:
        return bool(asked)
    adapter = needs.adapter
    return adapter is not None and not adapter.unfit and not engines.cpu and adapter.rank <= engines.ranks[-1]


def check_given(needs: Needs, given: Mapping[str, Any], engines: Engines, where: Where) -> None:
    """Refuse arguments that the engine does not have, that are not the user's, or that are too small for the run.

    Raises:
        BadInput: naming the key, its place and what would be right.
    """
    for name in given:
        if name in SET_HERE:
            raise BadInput(f"{where(name)}: '{name}' is not for vllm_config: {SET_HERE[name]}")
        if name not in engines.names:
            raise unknown("argument of vLLM's engine", name, engines.names, where(name))
    if engines.cpu and given.get("enable_chunked_prefill"):
        raise BadInput(f"{where('enable_chunked_prefill')}: on a CPU vLLM 0.32 fails where a prompt is read in pieces "
                       "and its answer has a seed of its own; leave enable_chunked_prefill out")  # fmt: skip
    held = given.get("max_model_len")
    if held is not None and (not isinstance(held, int) or held < needs.context):
        raise BadInput(f"{where('max_model_len')}: max_model_len is {held}, but a prompt and its answer may take "
                       f"{needs.context} tokens; leave it out, or set rollout.max_context to {held}")  # fmt: skip
    if takes_adapter(needs, given, engines):
        check_adapter(needs.adapter, given, engines, where)


def check_adapter(adapter: Adapter | None, given: Mapping[str, Any], engines: Engines, where: Where) -> None:
    """Refuse an adapter that the engine would not load.

    Raises:
        BadInput: naming the key, its place and what would be right.
    """
    merge = "set enable_lora: false, and it samples with merged weights"
    if adapter is None:
        raise BadInput(f"{where('enable_lora')}: enable_lora, but no adapter is trained; set training_args.lora, or "
                       "leave it out")  # fmt: skip
    if adapter.unfit:
        raise BadInput(f"{where('enable_lora')}: vLLM does not load {adapter.unfit}; {merge}")
    held = given.get("max_lora_rank", engines.ranks[-1])
    if adapter.rank > held:
        right = next((r for r in engines.ranks if r >= adapter.rank), None)
        mend = merge if right is None else f"set it to {right}"
        raise BadInput(f"{where('max_lora_rank')}: the adapter's rank is {adapter.rank}, above the engine's "
                       f"max_lora_rank of {held}; {mend}")  # fmt: skip


def arguments(needs: Needs, given: Mapping[str, Any], engines: Engines) -> dict[str, Any]:
    """The engine's arguments: the user's over mmrl's own choices."""
    made: dict[str, Any] = {
        "model": needs.files.base, "dtype": needs.dtype, "max_model_len": needs.context, "disable_log_stats": True,
        "logprobs_mode": "processed_logprobs", "use_tqdm_on_load": False, "worker_extension_cls": NAME,
    }  # fmt: skip
    if engines.cpu:
        made["enforce_eager"] = True  # compiling takes longer than it saves
        made["enable_chunked_prefill"] = False  # see check_given
        made["block_size"] = BLOCK
        if "gpu_memory_utilization" not in given:
            made["kv_cache_memory_bytes"] = cache_bytes(needs)
    else:
        made |= {"gpu_memory_utilization": GPU_SHARE, "enable_sleep_mode": True}
    if takes_adapter(needs, given, engines) and needs.adapter is not None:
        rank = next(r for r in engines.ranks if r >= needs.adapter.rank)
        made |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": rank}
    return {**made, **given}


def cache_bytes(needs: Needs) -> int:
    """Keys and values of all episodes at their longest, in bytes, but no more than our own sampler would keep."""
    config = read_config(needs.files).get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    number = 4 if needs.dtype == "float32" else 2
    return min(CACHE_BYTES, needs.episodes * needs.context * 2 * config.num_hidden_layers * heads * width * number)


def check_engine(library: Any, made: Mapping[str, Any], name: str, where: str) -> None:
    """Let vLLM check its arguments and the model's architecture; reads configurations, no weights.

    Args:
        library: the module ``vllm``.
        made: the arguments.
        name: the model, as the user wrote it.
        where: the place of ``vllm_config``, for the message.

    Raises:
        BadInput: with vLLM's own reason.
    """
    try:
        with process_untouched():
            config = library.EngineArgs(**made).create_engine_config()
    except (ValueError, TypeError, NotImplementedError, OSError, RuntimeError) as error:
        raise refused(error, name, where) from error
    if shares_process() and config.model_config.using_transformers_backend():
        raise BadInput(f"{where + ': ' if where else ''}vLLM has no code of its own for '{name}' and would change the "
                       "classes of transformers, of which the learner is made; set the environment variable "
                       f"{OWN_PROCESS}=1, which gives the engine a process of its own")  # fmt: skip


def refused(error: Exception, name: str, where: str) -> BadInput:
    """The reason that vLLM gives, in one line."""
    said = str(error)
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        said = ": ".join([*map(str, first["loc"][:1]), first["msg"].removeprefix("Value error, ")])
    line = " ".join(said.split()) or one_line(error)
    short = line if len(line) <= SHOWN else f"{line[:SHOWN]} ..."
    return BadInput(f"{where + ': ' if where else ''}vLLM cannot sample with '{name}' as asked: {short}")
