"""A policy that samples with vLLM in this process, alone or following a learner.

Comes in: a model id, or a run.  Goes out: token ids with their log-probabilities, as every policy with tokens gives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from mmrl import launched
from mmrl.config_load import LoadedConfig
from mmrl.errors import BadInput
from mmrl.policy import Completion, Request
from mmrl_agents.adapter_files import adapter_of
from mmrl_agents.following import Follow, by_adapter, weights_way
from mmrl_agents.generate import Row, Sampled
from mmrl_agents.image_tokens import image_tokens
from mmrl_agents.models import ModelFiles, find_model, load_generation, load_model, load_processing, text_context
from mmrl_agents.run import Run, dtype_of
from mmrl_agents.turns import Turns, end_ids
from mmrl_agents.vllm_args import Engines, Needs, arguments, check_engine, check_given, takes_adapter
from mmrl_agents.vllm_engine import Engine
from mmrl_agents.vllm_library import vllm_library
from mmrl_agents.vllm_stepping import open_answers


class VllmPolicy:
    """Speaks with a vLLM engine, token in, token out.

    Args:
        engine: the engine.
        turns: prompts and answers of its model.
    """

    overlapping = True

    def __init__(self, engine: Engine, turns: Turns) -> None:
        self.engine = engine
        self.turns = turns
        self.version = 0

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer a batch of requests, together with what else is asked meanwhile."""
        return await self.turns.speak(requests, self.version, self._sample)

    async def _sample(self, rows: Sequence[Row]) -> list[Sampled]:
        with open_answers(len(rows)) as answers:
            await asyncio.to_thread(self.engine.start, rows, answers)
            return self.engine.read(rows, await asyncio.gather(*map(asyncio.wrap_future, answers)))

    def rest(self) -> None:
        """Give a GPU's memory back until it is asked again."""
        self.engine.rest()

    def stop(self) -> None:
        """Whoever is cancelled has the engine drop what it was asked."""

    def close(self) -> None:
        """Free the engine."""
        self.engine.close()


class VllmSampler(VllmPolicy):
    """Follows a learner's model.

    Args:
        engine: the engine, of the same base weights.
        turns: prompts and answers of the model.
        model: the learner's.
        follow: how the engine comes to what the model has become.
    """

    def __init__(self, engine: Engine, turns: Turns, model: Any, follow: Follow) -> None:
        super().__init__(engine, turns)
        self._model = model
        self._follow = follow

    def updated(self, version: int) -> None:
        """Take over the model's weights as they are now; what was kept of prompts is dropped."""
        self._follow(self.engine, self._model)
        self.version = version


def load(model_id: str, temperature: float = 1.0, max_new_tokens: int = 64, max_context: int | None = None,
         dtype: str = "float32", vllm_config: dict[str, Any] | None = None) -> VllmPolicy:
    """Load a policy that does not change (see :func:`mmrl.load_policy`); an adapter is merged into its base.

    Args:
        model_id: a model id or folder.
        temperature: of the sampling distribution.
        max_new_tokens: token limit of an answer.
        max_context: token limit of prompt and answer; None takes the model's own.
        dtype: of weights and products.
        vllm_config: the engine's own arguments.
    """
    library, given, files = vllm_library(), vllm_config or {}, find_model(model_id)
    engines, needs = Engines.of(library), Needs(files, dtype, max_context or text_context(files))
    check_given(needs, given, engines, lambda *key: ".".join(["vllm_config", *key]))
    made = arguments(needs, given, engines)
    check_engine(library, made, files.name, "")
    processing = load_processing(files)
    ends = end_ids(load_generation(files), processing)
    tokens = image_tokens(processing)
    turns = Turns(processing, ends, max_new_tokens, max_context, text_context(files), tokens)
    engine = Engine(library, made, files.name, temperature, ends, tokens)
    if files.adapter is not None:
        weights_way(engine)(engine, load_model(files, dtype, "cpu"))
    return VllmPolicy(engine, turns)


def needs_of(loaded: LoadedConfig, files: ModelFiles, bfloat16: bool) -> Needs:
    """What a run needs of an engine; ``bfloat16``: it samples with products in bfloat16 whatever the weights are."""
    args, rollout = loaded.config.training_args, loaded.config.rollout
    dtype = "bfloat16" if bfloat16 else dtype_of(args)
    context, adapter = rollout.max_context or text_context(files), adapter_of(files, args.lora)
    return Needs(files, dtype, context, adapter, rollout.concurrency)


def check(loaded: LoadedConfig) -> None:
    """Refuse what vLLM in process cannot do, before the learner's model is loaded.

    Raises:
        BadInput: naming the key, its place and what would be right.
    """
    args, where = loaded.config.training_args, loaded.where("training_args", "use_vllm_sampler")
    if launched.processes() > 1:
        raise BadInput(f"{where}: vLLM in process samples for one process, and {launched.processes()} run; give them "
                       "servers (vllm_config.server), or leave use_vllm_sampler out")  # fmt: skip
    if args.load_in_4bit:
        raise BadInput(f"{loaded.where('training_args', 'load_in_4bit')}: vLLM would sample with weights that are not "
                       "the 4-bit ones; leave load_in_4bit or use_vllm_sampler out")  # fmt: skip
    library = vllm_library(where)
    engines, files = Engines.of(library), find_model(loaded.config.model_id, loaded.where("model_id"))
    needs = needs_of(loaded, files, args.mixed_precision is True)
    check_given(needs, args.vllm_config, engines, lambda *key: loaded.where("training_args", "vllm_config", *key))
    check_engine(library, arguments(needs, args.vllm_config, engines), files.name,
                 loaded.where("training_args", "vllm_config"))  # fmt: skip


def make(run: Run) -> VllmSampler:
    """The sampler of a run.

    Raises:
        BadInput: with vLLM's reason, if it cannot serve the model so.
    """
    config, library = run.config, vllm_library()
    files, given, engines = find_model(config.model_id), config.training_args.vllm_config, Engines.of(library)
    needs, rollout = needs_of(run.loaded, files, run.precision.sample), config.rollout
    tokens = run.vision.tokens if run.vision is not None else None
    ends = end_ids(run.model.generation_config, run.processing)
    turns = Turns(run.processing, ends, rollout.max_new_tokens, rollout.max_context, text_context(files), tokens)
    made, by_itself = arguments(needs, given, engines), takes_adapter(needs, given, engines)
    engine = Engine(library, made, files.name, rollout.temperature, ends, tokens)
    goes = "the adapter goes" if by_itself else "all weights go"
    run.reporter.say(f"sampling with vLLM {library.__version__} in {made['dtype']}; {goes} over after every update")
    return VllmSampler(engine, turns, run.model, by_adapter if by_itself else weights_way(engine))
