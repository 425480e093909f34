"""Rows with images on vLLM's server (``vllm serve --enable-scale-out``): token ids in and out, as without images.

Comes in: a row of ids, and the images among them.  Goes out: a request to ``/inference/v1/generate`` with one
placeholder an image, which the server expands itself; what it has made of the prompt comes back with the answer, to be
compared with the learner's.

Written against vLLM 0.32.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from mmrl_agents.engine_api import Asking, Said, Way
from mmrl_agents.generate import Row
from mmrl_agents.vllm_sampling import parameters


class _Logprob(BaseModel):
    logprob: float


class _Logprobs(BaseModel):
    content: list[_Logprob]


class _Choice(BaseModel):
    token_ids: list[int]
    logprobs: _Logprobs


class _Answer(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    prompt_token_ids: list[int]


def _body(asking: Asking, row: Row, seed: int) -> dict[str, Any]:
    assert asking.tokens is not None, "a row with images is of a model that sees"
    # Named by the weights too: what was computed of an image is kept under its name, and is of these weights alone.
    parts = [{"type": "image_url", "url": i.data_url(), "uuid": f"{asking.salt}-{i.sha256}"} for i in row.images]
    return {
        "model": asking.adapter or asking.model, "token_ids": list(asking.tokens.collapse(row.prompt, row.images)),
        "content_parts": parts, "return_token_ids": True, "cache_salt": asking.salt,
        "sampling_params": {**parameters(asking, row, seed), "detokenize": False},
    }  # fmt: skip


def _read(answer: Any) -> Said:
    said = _Answer.model_validate(answer)
    choice = said.choices[0]
    return Said(choice.token_ids, [at.logprob for at in choice.logprobs.content], said.prompt_token_ids)


IMAGES = Way("/inference/v1/generate", _body, _read)
"""How rows with images are answered."""
