"""Find and load models: embedded ones, folders (weights or PEFT adapters) and Hugging Face ids.

Comes in: a model id.  Goes out: a model and its tokenizer or processor, or one line that says what is not there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from mmrl.errors import BadInput, nearest, unknown
from mmrl.load import RUN_POLICIES
from mmrl_agents.image_tokens import tokenizer_of

EMBEDDED = "mmrl/"
DEFAULT_CONTEXT = 4096
DTYPES = ("float32", "bfloat16", "float16")
MODEL_FILES = ("config.json", "adapter_config.json")
"""One of them is in the folder of a model: of a whole one, of an adapter."""


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
    folder, prefix = _folder(model_id), f"{where}: " if where else ""
    if folder is not None and folder.is_dir():
        return _from_folder(model_id, folder, where)
    beside = [] if folder is None else _models_beside(folder)
    if model_id.startswith(("/", ".", "~", "http:", "https:")) or model_id.strip("/").count("/") > 1:
        url = "; write a hub's id as org/name" if model_id.startswith("http") else ""
        raise BadInput(f"{prefix}model '{model_id}': no such folder{url or nearest(model_id, beside)}")
    if _on_hub(model_id):
        return ModelFiles(model_id, model_id)
    hint = nearest(model_id, [*embedded_models(), "random", "expert", *beside])
    embedded = ", ".join(embedded_models())
    raise BadInput(f"{prefix}unknown model '{model_id}': no such folder, not embedded ({embedded}), and the "
                   f"Hugging Face hub has no such model or cannot be reached{hint}")  # fmt: skip


def _folder(model_id: str) -> Path | None:
    """The folder that an id would be; None if none can have that name."""
    try:
        folder = Path(model_id).expanduser()
        folder.is_dir()
    except (OSError, RuntimeError):  # a name that is too long, somebody's home that is not there
        return None
    return folder


def _models_beside(folder: Path) -> list[str]:
    """The folders that hold a model where ``folder`` would be."""
    try:
        beside = sorted(f for f in folder.parent.iterdir() if f.is_dir())
        return [str(f) for f in beside if any((f / name).exists() for name in (*MODEL_FILES, *RUN_POLICIES))]
    except OSError:
        return []


def _from_folder(name: str, folder: Path, where: str) -> ModelFiles:
    prefix = f"{where}: " if where else ""
    weights, adapter = (folder / name for name in MODEL_FILES)
    if adapter.is_file():
        base = json.loads(adapter.read_text())["base_model_name_or_path"]
        return ModelFiles(name, find_model(base, where or str(folder)).base, str(folder))
    if weights.is_file():
        return ModelFiles(name, str(folder))
    inner = [d for d in RUN_POLICIES if (folder / d).is_dir()]
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


def read_config(files: ModelFiles) -> Any:
    """The configuration of a model.

    Raises:
        BadInput: if it cannot be read, or is of a kind that transformers does not know.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(files.base)
    except (OSError, ValueError) as error:
        why = str(error).strip().partition("\n")[0]
        raise BadInput(f"model '{files.name}': its configuration cannot be read: {why}") from error


def sees(files: ModelFiles) -> bool:
    """Whether a model is a vision-language model (image and text to text), by its configuration alone."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as KNOWN

    names = read_config(files).architectures or []
    return any(name in KNOWN.values() and not name.endswith("ForCausalLM") for name in names)


def load_processing(files: ModelFiles) -> Any:
    """Load what turns messages into a model's input: its tokenizer, or its processor if it sees.

    Raises:
        BadInput: if it has no chat template.
    """
    from transformers import AutoProcessor, AutoTokenizer

    kind = AutoProcessor if sees(files) else AutoTokenizer
    processing = kind.from_pretrained(files.base)
    tokenizer = tokenizer_of(processing)
    if not (processing.chat_template or tokenizer.chat_template):
        what = "processor" if processing is not tokenizer else "tokenizer"
        raise BadInput(f"model '{files.name}': its {what} has no chat template; use an instruction-tuned model")
    if processing.chat_template is None:
        processing.chat_template = tokenizer.chat_template
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return processing


def text_context(files: ModelFiles) -> int:
    """How many tokens a model holds, by its configuration."""
    return context_of(read_config(files))


def context_of(config: Any) -> int:
    """How many tokens a model of this configuration holds; some do not say."""
    return getattr(config.get_text_config(), "max_position_embeddings", DEFAULT_CONTEXT)


def load_generation(files: ModelFiles) -> Any | None:
    """The generation config of a model, or None if it has none."""
    from transformers import GenerationConfig

    try:
        return GenerationConfig.from_pretrained(files.base)
    except OSError:
        return None


def load_model(files: ModelFiles, dtype: str = "float32", device: str | None = None, trainable: bool = False,
               four_bit: bool = False) -> Any:
    """Load a causal language model or a vision-language model, with its adapter if there is one.

    Args:
        files: from :func:`find_model`.
        dtype: one of ``float32``, ``bfloat16``, ``float16``.
        device: a torch device; None takes the GPU if there is one.
        trainable: whether a PEFT adapter is to be trained on.
        four_bit: the base weights of linear layers in 4 bits (see :mod:`mmrl_agents.four_bit`).

    Raises:
        BadInput: if the dtype is unknown or the weights cannot be read.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    from mmrl_agents.four_bit import keep_differentiable, quantisation

    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    kind = AutoModelForImageTextToText if sees(files) else AutoModelForCausalLM
    quantised = quantisation(dtype, device) if four_bit else {}
    try:
        model: Any = kind.from_pretrained(files.base, dtype=getattr(torch, dtype), **quantised)
    except (OSError, ValueError) as error:
        what = "vision-language model" if kind is AutoModelForImageTextToText else "causal language model"
        raise BadInput(f"model '{files.name}': cannot be loaded as a {what}: {error}") from error
    if four_bit:
        keep_differentiable(model)
    if files.adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, files.adapter, is_trainable=trainable)
    return model.to(torch.device(device))
