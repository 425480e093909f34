"""What an engine must know of the adapter that a run trains, before any weights are there.

Comes in: the configuration of a fresh adapter, or the folder of a ready one.  Goes out: its rank, and why vLLM would
not load it as it is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmrl.training_args import LoraArgs
from mmrl_agents.models import ModelFiles, sees
from mmrl_agents.vllm_args import Adapter


def adapter_of(files: ModelFiles, lora: LoraArgs | None) -> Adapter | None:
    """The adapter of a run on this model; None where it trains all weights."""
    if files.adapter is not None:
        return ready_adapter(json.loads((Path(files.adapter) / "adapter_config.json").read_text()), sees(files))
    if lora is None:
        return None
    return Adapter(lora.r, unfit(lora.dora, lora.vision, False))


def ready_adapter(config: dict[str, Any], vision: bool) -> Adapter:
    """A ready adapter, by its PEFT configuration; ``vision``: the model sees, and the adapter may reach there."""
    return Adapter(config["r"], unfit(bool(config.get("use_dora")), vision, bool(config.get("modules_to_save"))))


def unfit(dora: bool, vision: bool, whole_modules: bool) -> str:
    """Why vLLM would not load an adapter as it is; empty if it would."""
    reasons = {"DoRA": dora, "an adapter on a vision tower": vision, "an adapter with whole modules": whole_modules}
    return " or ".join(why for why, holds in reasons.items() if holds)
