"""How an engine follows the learner: its adapter, or its weights with the adapter merged in.

Comes in: the learner's model.  Goes out: an engine that samples with what the model has become.  What must lie on a
disk lies in memory where the system has such a folder, and only as long as it is needed.
"""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmrl_agents.checkpoint import save_adapter
from mmrl_agents.vllm_engine import Engine

SHARED_MEMORY = Path("/dev/shm")
"""A folder in memory, where the system has one."""
Follow = Callable[[Engine, Any], None]
"""Makes an engine sample with what a model has become."""


@torch.no_grad()
def whole(model: Any) -> Any:
    """The model with its adapter merged into a copy of the weights; one without an adapter is given back as it is."""
    from peft import PeftModel

    if not isinstance(model, PeftModel):
        return model
    return copy.deepcopy(model).merge_and_unload(adapter_names=["default"])


def checkpoint_weights(model: Any) -> dict[str, Tensor]:
    """A model's weights under the names that they have in its files; of tied ones the first alone."""
    from transformers.core_model_loading import revert_weight_conversion

    own = dict(model.named_parameters())
    tied = {name for name, _ in model.named_parameters(remove_duplicate=False)} - own.keys()
    named: dict[str, Tensor] = {n: t for n, t in model.state_dict().items() if n not in tied}
    return revert_weight_conversion(model, named)


def by_weights(engine: Engine, model: Any) -> None:
    """Hand over all weights, an adapter merged in; they never leave memory."""
    with torch.no_grad():
        engine.take_weights(checkpoint_weights(whole(model)).items())


def by_folder(engine: Engine, model: Any) -> None:
    """Hand over all weights, an adapter merged in, through a folder that every worker reads."""
    merged = whole(model)
    with folder_of(sum(p.nbytes for p in merged.parameters())) as folder:
        merged.save_pretrained(folder)
        engine.take_folder(folder)


def by_adapter(engine: Engine, model: Any) -> None:
    """Hand over the adapter alone."""
    size = sum(p.nbytes for n, p in model.named_parameters() if "lora_" in n)  # a twin's do not learn
    with folder_of(size) as folder:
        save_adapter(folder, model)
        engine.take_adapter(folder)


def weights_way(engine: Engine) -> Follow:
    """How all weights go over: in memory where the engine is in this process."""
    return by_weights if engine.here else by_folder


@contextmanager
def folder_of(size: int) -> Generator[Path]:
    """A folder for that many bytes and some, in memory if there is room; gone afterwards."""
    room = SHARED_MEMORY.is_dir() and shutil.disk_usage(SHARED_MEMORY).free > size + size // 10 + 2**20
    with tempfile.TemporaryDirectory(prefix="mmrl-", dir=SHARED_MEMORY if room else None) as folder:
        yield Path(folder)
