"""Find and load models: embedded ones, folders (weights or PEFT adapters) and Hugging Face ids.

Comes in: a model id.  Goes out: a model and its tokenizer, or one line that says what is not there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from mmrl.errors import BadInput, nearest, unknown

EMBEDDED = "mmrl/"
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class ModelFiles:
    """Where a model lies.

    Attributes:
        name: what the user wrote.
        base: folder or hub id of the base weights.
        adapter: folder of a PEFT adapter on top, or None.
    """

    name: str
    base: str
    adapter: str | None = None


def embedded_models() -> list[str]:
    """Ids of the models that ship with mmrl, such as ``mmrl/tiny``."""
    root = resources.files("mmrl_assets")
    return sorted(EMBEDDED + f.name for f in root.iterdir() if f.joinpath("config.json").is_file())


def find_model(model_id: str, where: str = "") -> ModelFiles:
    """Find a model without loading it.

    Raises:
        BadInput: naming the id, its place, and what would be right.
    """
    if model_id.startswith(EMBEDDED):
        if model_id not in embedded_models():
            raise unknown("model", model_id, embedded_models(), where)
        return ModelFiles(model_id, str(resources.files("mmrl_assets").joinpath(model_id.removeprefix(EMBEDDED))))
    folder = Path(model_id).expanduser()
    if folder.is_dir():
        return _from_folder(model_id, folder, where)
    if _on_hub(model_id):
        return ModelFiles(model_id, model_id)
    prefix = f"{where}: " if where else ""
    hint = nearest(model_id, [*embedded_models(), "random", "expert"])
    embedded = ", ".join(embedded_models())
    raise BadInput(f"{prefix}unknown model '{model_id}': no such folder, not embedded ({embedded}), and the "
                   f"Hugging Face hub has no such model or cannot be reached{hint}")  # fmt: skip


def _from_folder(name: str, folder: Path, where: str) -> ModelFiles:
    prefix = f"{where}: " if where else ""
    if (folder / "adapter_config.json").is_file():
        base = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
        return ModelFiles(name, find_model(base, where or str(folder)).base, str(folder))
    if (folder / "config.json").is_file():
        return ModelFiles(name, str(folder))
    inner = [d for d in ("best", "final") if (folder / d).is_dir()]
    if inner:
        return _from_folder(name, folder / inner[0], where)
    raise BadInput(f"{prefix}model '{name}': the folder has neither config.json nor adapter_config.json")


def _on_hub(model_id: str) -> bool:
    """Whether the id is cached or the hub knows it (asked once, briefly)."""
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        if isinstance(try_to_load_from_cache(model_id, "config.json"), str):
            return True
        HfApi().model_info(model_id, timeout=5)
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError):
        return False
    except Exception as error:  # the HTTP library's own connection errors, whichever library it is
        if type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore", "requests"):
            return False
        raise
    return True


def load_tokenizer(files: ModelFiles) -> Any:
    """Load the tokenizer of a model.

    Raises:
        BadInput: if it has no chat template.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(files.base)
    if not tokenizer.chat_template:
        raise BadInput(f"model '{files.name}': its tokenizer has no chat template; use an instruction-tuned model")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_generation(files: ModelFiles) -> Any | None:
    """The generation config of a model, or None if it has none."""
    from transformers import GenerationConfig

    try:
        return GenerationConfig.from_pretrained(files.base)
    except OSError:
        return None


def load_model(files: ModelFiles, dtype: str = "float32", device: str | None = None, trainable: bool = False) -> Any:
    """Load a causal language model, with its adapter if there is one.

    Args:
        files: from :func:`find_model`.
        dtype: one of ``float32``, ``bfloat16``, ``float16``.
        device: a torch device; None takes the GPU if there is one.
        trainable: whether a PEFT adapter is to be trained on.

    Raises:
        BadInput: if the dtype is unknown or the weights cannot be read.
    """
    import torch
    from transformers import AutoModelForCausalLM

    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(files.base, dtype=getattr(torch, dtype))
    except (OSError, ValueError) as error:
        raise BadInput(f"model '{files.name}': cannot be loaded as a causal language model: {error}") from error
    if files.adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, files.adapter, is_trainable=trainable)
    return model.to(torch.device(device))
