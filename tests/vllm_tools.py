"""What the tests with vLLM share: the real model, engines, prompts, and the learner's own log-probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from mmrl_agents.generate import Row, Sampled
from mmrl_agents.logprobs import Scorer
from mmrl_agents.models import find_model, load_generation, load_processing
from mmrl_agents.turns import end_ids
from mmrl_agents.vllm_args import Adapter, Engines, Needs, arguments
from mmrl_agents.vllm_engine import Engine
from mmrl_agents.vllm_library import vllm_library

SMOL = Path(__file__).resolve().parents[1] / ".cache" / "models" / "SmolLM2-135M-Instruct"
SMALL: dict[str, Any] = {"kv_cache_memory_bytes": 2**28, "max_num_seqs": 32}
"""Engines of tests need little."""
LONG = "You are in a room with a red ball, two keys and a locked door. " * 8
"""A text whose start the engine keeps: several blocks of its cache."""


def smol() -> str:
    """The folder of SmolLM2-135M-Instruct."""
    if not (SMOL / "config.json").is_file():
        pytest.fail(f"no model in {SMOL}: run make models")
    return str(SMOL)


def engine_of(model_id: str, dtype: str = "float32", adapter: Adapter | None = None, temperature: float = 0.7,
              context: int = 1024, **given: Any) -> Engine:
    """An engine, as a policy makes it."""
    library, files = vllm_library(), find_model(model_id)
    engines, needs = Engines.of(library), Needs(files, dtype, context, adapter)
    ends = end_ids(load_generation(files), load_processing(files))
    return Engine(library, arguments(needs, {**SMALL, **given}, engines), files.name, temperature, ends)


def rows(texts: Sequence[str], seed: int = 0, limit: int = 12) -> list[Row]:
    """Prompts of SmolLM2, each with a seed of its own."""
    tokenizer = load_processing(find_model(smol()))
    made: list[Row] = []
    for i, text in enumerate(texts):
        chat = [{"role": "user", "content": text}]
        ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=True)
        made.append(Row(f"e{i}", tuple(ids["input_ids"]), (seed, i), limit))
    return made


def scored(model: Any, asked: Sequence[Row], said: Sequence[Sampled], temperature: float = 0.7) -> list[float]:
    """The learner's log-probability of every id that was sampled."""
    out: list[float] = []
    for row, answer in zip(asked, said, strict=True):
        ids = torch.tensor([[*row.prompt, *answer.ids]])
        mask = torch.tensor([[i >= len(row.prompt) - 1 for i in range(ids.shape[1] - 1)]])
        with torch.no_grad():
            out += Scorer(model.eval(), temperature)(ids, mask)[0][mask].float().tolist()
    return out


def gaps(model: Any, asked: Sequence[Row], said: Sequence[Sampled], temperature: float = 0.7) -> list[float]:
    """How far the engine's log-probabilities are from the learner's, for every id that was sampled."""
    mine = scored(model, asked, said, temperature)
    theirs = [x for answer in said for x in answer.logprobs]
    return [abs(a - b) for a, b in zip(mine, theirs, strict=True)]


def shake(model: Any, name: str, size: float, seed: int = 0) -> None:
    """Change the parameters whose name has ``name`` in it by noise, as a large step would."""
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if name in key:
                parameter.add_(torch.randn(parameter.shape, generator=noise).to(parameter.dtype) * size)
