"""A real vLLM engine that samples with the learner's adapter: every update is another one."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from vllm_tools import LONG, engine_of, gaps, rows, shake, smol

from mmrl.training_args import LoraArgs
from mmrl_agents.following import by_adapter
from mmrl_agents.models import find_model, load_model
from mmrl_agents.run import add_adapter
from mmrl_agents.vllm_args import Adapter
from mmrl_agents.vllm_engine import Engine

pytestmark = pytest.mark.vllm
TEXTS = ("What is the capital of France?", f"{LONG} What do you see?", f"{LONG} Where to go?")


@pytest.fixture(scope="module")
def engine() -> Generator[Engine]:
    made = engine_of(smol(), adapter=Adapter(8), enable_lora=True)
    yield made
    made.close()


@pytest.fixture(scope="module")
def model() -> Any:
    files = find_model(smol())
    return add_adapter(load_model(files, device="cpu"), LoraArgs(r=8, alpha=16), files)


def test_every_version_of_the_adapter_is_sampled_with(engine: Engine, model: Any) -> None:
    asked = rows(TEXTS, limit=8)
    by_adapter(engine, model)  # its product is 0
    assert max(gaps(model, asked, engine.sample(asked))) < 1e-4
    for seed in (1, 2):
        shake(model, "lora_B", 0.05, seed=seed)
        stale = engine.sample(asked)
        assert max(gaps(model, asked, stale)) > 0.1
        by_adapter(engine, model)
        said = engine.sample(asked)
        assert max(gaps(model, asked, said)) < 1e-4
        with model.disable_adapter():
            assert max(gaps(model, asked, said)) > 0.1
