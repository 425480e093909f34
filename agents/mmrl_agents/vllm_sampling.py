"""How vLLM's servers are told to sample, whichever of their paths is asked.

Comes in: how rows are answered, and one row.  Goes out: vLLM's sampling parameters, by their own names.
"""

from __future__ import annotations

from typing import Any

from mmrl_agents.engine_api import Asking
from mmrl_agents.feed import BANNED
from mmrl_agents.generate import Row


def parameters(asking: Asking, row: Row, seed: int) -> dict[str, Any]:
    """All that shapes the distribution: what is not said is taken from the model's ``generation_config.json``."""
    banned = {} if asking.tokens is None else {str(i): BANNED for i in asking.tokens.banned}
    return {
        "max_tokens": row.limit, "temperature": asking.temperature, "top_p": 1.0, "top_k": 0, "min_p": 0.0,
        "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "seed": seed, "logprobs": 0,
        "stop_token_ids": list(asking.ends), "ignore_eos": True, **({"logit_bias": banned} if banned else {}),
    }  # fmt: skip
