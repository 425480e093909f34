"""A vision-language model in a real vLLM engine: the learner's ids, and the learner's log-probabilities."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import torch
from vllm_tools import SMALL

from mmrl.errors import BadInput
from mmrl.image import Image
from mmrl.make import make
from mmrl.policy import Request
from mmrl.sample import Message, Text
from mmrl_agents.following import weights_way
from mmrl_agents.logprobs import Scorer
from mmrl_agents.models import find_model, load_model, load_processing
from mmrl_agents.policies.vllm import load
from mmrl_agents.vision import Vision

pytestmark = pytest.mark.vllm
PICTURES = [Image(np.random.default_rng(n).integers(0, 256, (40, 60, 3), dtype=np.uint8)) for n in range(3)]


def test_images_go_over_as_the_learner_sees_them(monkeypatch: pytest.MonkeyPatch) -> None:
    # vLLM's own code for vision-language models needs torchvision, which is not to be had here; that of transformers
    # does not, and wants a process of its own.
    with pytest.raises(BadInput, match=r"would change the classes of transformers.*V1_MULTIPROCESSING=1"):
        load("mmrl/tiny-vlm", vllm_config={**SMALL, "model_impl": "transformers"})
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    policy = load("mmrl/tiny-vlm", 0.7, max_new_tokens=6, vllm_config={**SMALL, "model_impl": "transformers"})
    try:
        env = make("text/arithmetic")
        talks = [(Message("user", (Text("Look: "), *PICTURES[: n + 1], Text(" What now?"))),) for n in range(3)]
        asked = [Request(f"e{n}", 0, talk, None, 0, (n,), env) for n, talk in enumerate(talks)]
        said = asyncio.run(policy.generate(asked))
        weights_way(policy.engine)(policy.engine, load_model(find_model("mmrl/tiny-vlm"), device="cpu"))
        again = asyncio.run(policy.generate(asked))  # the same pictures after an update
    finally:
        policy.close()
    assert [a.token_ids for a in again] == [a.token_ids for a in said]
    files = find_model("mmrl/tiny-vlm")
    model, tokens = load_model(files, device="cpu").eval(), policy.turns.transcript.image_tokens
    assert tokens is not None
    vision = Vision(model, tokens)
    assert load_processing(files).image_token == tokens.token
    for n, answer in enumerate(said):
        assert len(answer.images) == n + 1
        assert not set(answer.token_ids) & set(tokens.banned)
        ids = torch.tensor([[*answer.prompt_ids, *answer.token_ids]])
        mask = torch.tensor([[i >= len(answer.prompt_ids) - 1 for i in range(ids.shape[1] - 1)]])
        with torch.no_grad():
            mine = Scorer(model, 0.7, vision)(ids, mask, [list(answer.images)])[0][mask]
        assert answer.logprobs == pytest.approx(mine.tolist(), abs=1e-4)
