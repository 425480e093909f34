"""A vLLM engine in bfloat16 beside a learner in float32: near, on average."""

from __future__ import annotations

import pytest
from vllm_tools import engine_of, gaps, rows, smol

from mmrl_agents.models import find_model, load_model

pytestmark = pytest.mark.vllm


def test_log_probabilities_are_near_the_learners() -> None:
    asked = rows([f"What is {i} plus {i}?" for i in range(8)])
    engine = engine_of(smol(), "bfloat16", temperature=1.0)
    try:
        found = gaps(load_model(find_model(smol()), device="cpu"), asked, engine.sample(asked), 1.0)
    finally:
        engine.close()
    assert sum(found) / len(found) < 0.03
    assert max(found) > 1e-4  # it is another precision
