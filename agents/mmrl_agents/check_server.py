"""Whether the servers that a run would sample with can do what it asks, found out before any weights are loaded.

Each server is asked what it is, has one short prompt answered (and one with a picture, where the model sees), and loads
an adapter of the run's own shape that changes nothing: whatever would stop the run at its first step is said here, in
one line.
"""

from __future__ import annotations

import functools
import shutil
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from mmrl import launched
from mmrl.config_load import LoadedConfig
from mmrl.errors import BadInput
from mmrl.json_client import JsonClient, ServerError
from mmrl_agents.adapter_files import adapter_of
from mmrl_agents.blueprint import blueprint
from mmrl_agents.engine_api import Asking, EngineApi
from mmrl_agents.generate import Row
from mmrl_agents.image_tokens import PROBE, ImageTokens
from mmrl_agents.models import ModelFiles, find_model, load_processing, sees, text_context
from mmrl_agents.server_args import ServerArgs, server_args
from mmrl_agents.server_facts import ServerFacts, asked, facts_of
from mmrl_agents.vllm_args import Adapter
from mmrl_agents.vllm_engine import seed_of

PROBE_NAME = "mmrl-probe"
"""Begins the names of what servers are asked for here."""
HEATS = (0.5, 2.0)
"""Two temperatures at which a server is asked for the same: servers take none above 2."""
PROBES = 8
"""Answers of one id that it is asked for at each."""
SAME, SURE = 1e-4, 0.01
"""Log-probabilities of an id that are no farther apart at both, and not those of certainty, lack the temperature."""


def gives_adapter(args: ServerArgs, adapter: Adapter | None) -> bool:
    """Whether servers are given the adapter alone, and not all weights with it merged in."""
    if args.enable_lora is not None:
        return args.enable_lora
    return adapter is not None and not adapter.unfit


def check_servers(loaded: LoadedConfig) -> None:
    """Refuse servers that cannot be reached, serve another model, or cannot follow the run.

    Raises:
        BadInput: naming the key, its place, the server and what would be right.
    """
    args, config = server_args(loaded), loaded.config
    files = find_model(config.model_id, loaded.where("model_id"))
    adapter = adapter_of(files, config.training_args.lora)
    check_follows(loaded, args, files, adapter)
    if not launched.is_first():
        return
    where = loaded.where("training_args", "vllm_config", "server")
    found = facts_of(args, where)
    for facts in found:
        check_model(facts, files, where)
        check_held(loaded, facts, files, where)
    api, name = found[0].api, found[0].name
    asked(functools.partial(check_logprobs, api, name, config.rollout.temperature), args, where)
    if sees(files):
        tokens = ImageTokens(load_processing(files))
        row = Row("probe", tokens.probe(), (0,), 1, (PROBE,))
        asked(functools.partial(check_sight, api, name, row, tokens), args, where)
    if gives_adapter(args, adapter):
        with blank_adapter(loaded, args, files) as folder:
            asked(functools.partial(check_adapter, api, folder, adapter), args, where)
    else:
        asked(functools.partial(check_weights, api), args, where)


def check_follows(loaded: LoadedConfig, args: ServerArgs, files: ModelFiles, adapter: Adapter | None) -> None:
    """Refuse runs that servers cannot follow, whatever servers they are."""

    def where(*key: str) -> str:
        return loaded.where("training_args", *key)

    training = loaded.config.training_args
    if training.load_in_4bit:
        raise BadInput(f"{where('load_in_4bit')}: servers would sample with weights that are not the 4-bit ones; leave "
                       "load_in_4bit or use_vllm_sampler out")  # fmt: skip
    if args.enable_lora and adapter is None:
        raise BadInput(f"{where('vllm_config', 'enable_lora')}: enable_lora, but no adapter is trained; set "
                       "training_args.lora, or leave it out")  # fmt: skip
    if args.enable_lora and adapter is not None and adapter.unfit:
        raise BadInput(f"{where('vllm_config', 'enable_lora')}: servers do not load {adapter.unfit}; set it to false, "
                       "and they are given all weights with the adapter merged in")  # fmt: skip
    if launched.fsdp() and adapter is not None and not gives_adapter(args, adapter):
        raise BadInput(f"{where('vllm_config', 'enable_lora')}: with FSDP servers are given the adapter alone: leave "
                       "enable_lora out, and train one that they can load (no DoRA)")  # fmt: skip


def check_model(facts: ServerFacts, files: ModelFiles, where: str) -> None:
    """Refuse a server of another model."""
    own = {files.name, files.base}
    if own & {facts.name, facts.path}:
        return
    tails = {Path(name).name for name in own if Path(name).is_dir()}
    if tails & {Path(facts.path).name, Path(facts.name).name}:  # the same folder, elsewhere on another machine
        return
    raise BadInput(f"{where}: server {facts.url} serves '{facts.name}' from '{facts.path}', and the run trains "
                   f"'{files.name}'; start one of that model (mmrl serve-sampler)")  # fmt: skip


def check_held(loaded: LoadedConfig, facts: ServerFacts, files: ModelFiles, where: str) -> None:
    """Refuse a server whose context is smaller than the run's."""
    rollout = loaded.config.rollout
    needed = rollout.max_context or text_context(files)
    if facts.context is not None and facts.context < needed:
        raise BadInput(f"{where}: server {facts.url} holds {facts.context} tokens (max_model_len), and a prompt and "
                       f"its answer may take {needed}; start it with --max-model-len {needed}, or set "
                       f"rollout.max_context to {facts.context}")  # fmt: skip


async def check_logprobs(api: EngineApi, name: str, temperature: float, client: JsonClient) -> None:
    """Refuse a server that gives no ids with log-probabilities, or such as leave the temperature out."""
    found: list[dict[int, float]] = []
    for heat in HEATS:
        asking = Asking(name, None, heat, (), PROBE_NAME)
        rows = [Row("probe", (1, 2, 3), (i,), 1) for i in range(PROBES)]
        said = [await api.sample(client, asking, row, seed_of(row)) for row in rows]
        found.append({s.ids[0]: s.logprobs[0] for s in said})
    both = [(found[0][i], found[1][i]) for i in found[0].keys() & found[1].keys()]
    unmoved = [abs(a - b) < SAME and a < -SURE for a, b in both]
    if both and all(unmoved) and temperature != 1.0:
        raise BadInput(f"server {client.url} gives log-probabilities without the temperature, which is "
                       f"{temperature:g}; start it with {api.processed_on}")  # fmt: skip


async def check_sight(api: EngineApi, name: str, row: Row, tokens: ImageTokens, client: JsonClient) -> None:
    """Refuse a server that takes no images, or reads a picture otherwise than the learner."""
    # A name that no earlier run had: what a server computed of this picture with other weights is not used.
    asking = Asking(name, None, HEATS[0], (), f"{PROBE_NAME}-{uuid.uuid4().hex[:8]}", tokens)
    try:
        await api.sample(client, asking, row, 0)
    except ServerError as error:
        if error.status not in (403, 404):  # a server that wants a key has said so before
            raise
        raise BadInput(f"server {error}; start it with {api.images_on} (mmrl serve-sampler does): the model sees "
                       "images") from error  # fmt: skip


async def check_adapter(api: EngineApi, folder: Path, adapter: Adapter | None, client: JsonClient) -> None:
    """Have an adapter of the run's shape loaded and forgotten."""
    name = f"{PROBE_NAME}-{uuid.uuid4().hex[:8]}"
    try:
        await api.give_adapter(client, name, folder)
    except ServerError as error:
        if error.status is None or error.status in (401, 403):
            raise
        rank = 0 if adapter is None else adapter.rank
        raise BadInput(f"server {error}: it does not load an adapter of rank {rank} from {folder.parent}; start it "
                       f"with {api.adapters_on.replace('RANK', str(rank))}, where it finds that folder under the same "
                       "path (mmrl serve-sampler does)") from error  # fmt: skip
    await api.drop_adapter(client, name)


async def check_weights(api: EngineApi, client: JsonClient) -> None:
    """Refuse a server that takes no weights."""
    if not await api.takes_weights(client):
        raise BadInput(f"server {client.url} takes no weights, and all of them are trained; start it with "
                       f"{api.weights_on} (mmrl serve-sampler does), or train an adapter: training_args.lora")


@contextmanager
def blank_adapter(loaded: LoadedConfig, args: ServerArgs, files: ModelFiles) -> Generator[Path]:
    """A folder with an adapter as the run trains one, of zeros; gone afterwards."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    above = (args.weights_folder or loaded.output_dir.parent).absolute()
    folder = above / f".mmrl-probe-{uuid.uuid4().hex[:8]}"
    model: Any = blueprint(files, loaded.config.training_args)
    named = get_peft_model_state_dict(model, save_embedding_layers=False)
    try:
        folder.mkdir(parents=True)
        model.peft_config["default"].save_pretrained(str(folder))
        save_file({n: torch.zeros(t.shape) for n, t in named.items()}, folder / "adapter_model.safetensors")
        yield folder
    except OSError as error:
        raise BadInput(f"{loaded.where('training_args', 'vllm_config', 'weights_folder')}: weights for the servers "
                       f"cannot be written to {above}: {error.strerror or error}") from error  # fmt: skip
    finally:
        shutil.rmtree(folder, ignore_errors=True)
