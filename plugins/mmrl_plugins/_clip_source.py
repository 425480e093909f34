"""Which CLIP model is meant, found out without loading any weights.

Comes in: the arguments ``model`` and ``pretrained``.  Goes out: a frozen ``ClipSource``, or one line that says which
name or file is wrong and what would be right.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from mmrl.errors import BadInput, nearest
from mmrl_plugins._arguments import imported, one_of
from mmrl_plugins._lazy import EMBEDDED, first_line
from mmrl_plugins._model_arguments import checked_device, checked_model

PRECISIONS = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
"""open_clip's name for each ``dtype``."""
EMBEDDED_NAMES = (EMBEDDED, "mmrl/tiny-clip")
LOCAL, HUB = "local-dir:", "hf-hub:"
CONFIG = "open_clip_config.json"
_WEIGHTS = ("*.safetensors", "*.bin", "*.pth")


@dataclass(frozen=True)
class ClipSource:
    """Where a CLIP model comes from, and how it is to run.

    Attributes:
        model: open_clip's name for it: one of its architectures, ``hf-hub:...`` or ``local-dir:...``.
        pretrained: a tag or a checkpoint file for one of open_clip's architectures; None for the others.
        device: a device's name, or ``auto``.
        dtype: a key of ``PRECISIONS``.
    """

    model: str
    pretrained: str | None
    device: str
    dtype: str

    @property
    def remote(self) -> bool:
        """Whether the weights come from a hub, unless they are on this machine already."""
        return self.model.startswith(HUB) or (self.pretrained is not None and not Path(self.pretrained).is_file())

    def __str__(self) -> str:
        return f"{self.model!r}" + (f" with pretrained {self.pretrained!r}" if self.pretrained else "")


def clip_source(model: Any, pretrained: Any, device: Any, dtype: Any) -> ClipSource:
    """Check the arguments that say which model is meant.

    Raises:
        BadInput: if open_clip is missing, or a name or a file is wrong.
    """
    checked_model("model", model, "a CLIP model of open_clip, hf-hub:..., local-dir:... or 'embedded'")
    if pretrained is not None:
        checked_model("pretrained", pretrained, "weights: one of open_clip's tags or a checkpoint")
    one_of("dtype", dtype, PRECISIONS)
    checked_device(device)
    if importlib.util.find_spec("open_clip") is None:
        raise BadInput("clip_similarity needs open_clip: pip install 'mmrl[clip]'")
    if model in EMBEDDED_NAMES or model.startswith((LOCAL, HUB)):
        if pretrained is not None:
            raise BadInput(f"the model {model!r} has weights of its own: leave out pretrained ({pretrained!r})")
        return ClipSource(_whole(model), None, device, dtype)
    return ClipSource(*_architecture(model, pretrained), device, dtype)


def _whole(model: str) -> str:
    """The name of a model that comes with its weights."""
    if model in EMBEDDED_NAMES:
        return f"{LOCAL}{resources.files('mmrl_assets').joinpath('tiny-clip')}"
    scheme, _, place = model.partition(":")
    if not place.strip():
        raise BadInput(f"model {model!r}: {scheme}: is followed by {'a folder' if scheme == 'local-dir' else 'a name'}")
    if scheme == "hf-hub":
        return model
    folder = Path(place).expanduser()
    _check_folder(model, folder)
    return f"{LOCAL}{folder}"


def _check_folder(model: str, folder: Path) -> None:
    if not folder.is_dir():
        raise BadInput(f"model {model!r}: there is no folder {folder}")
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"model {model!r}: no model's configuration {folder / CONFIG}: {first_line(error)}") from error
    if not isinstance(config, dict) or "model_cfg" not in config:
        raise BadInput(f"model {model!r}: {folder / CONFIG} has no 'model_cfg'")
    # open_clip would go on with random weights, and only log it.
    if not any(any(folder.glob(pattern)) for pattern in _WEIGHTS):
        raise BadInput(f"model {model!r}: {folder} has no weights ({', '.join(_WEIGHTS)})")


def _architecture(model: str, pretrained: str | None) -> tuple[str, str]:
    """The names of one of open_clip's architectures and of its weights."""
    open_clip = imported("open_clip")
    known: Sequence[str] = open_clip.list_models()
    name = model.replace("/", "-")  # as open_clip reads ViT-B/32
    if name not in known:
        if Path(model).expanduser().is_dir():
            raise BadInput(f"unknown CLIP model {model!r}; a folder is named {LOCAL}{model}")
        raise BadInput(f"unknown CLIP model {model!r}{_near(name, known)}; it is '{EMBEDDED}', hf-hub:<name>, "
                       "local-dir:<folder>, or one of open_clip.list_models()")  # fmt: skip
    tags: Sequence[str] = open_clip.list_pretrained_tags_by_model(name)
    choice = f"it is {'one of ' + ', '.join(tags) + ', or ' if tags else ''}the path of a checkpoint"
    if pretrained is None:
        raise BadInput(f"the model {model!r} needs pretrained; {choice}")
    path = Path(pretrained).expanduser()
    if path.is_file():
        return name, str(path)
    if open_clip.is_pretrained_cfg(name, pretrained):
        return name, pretrained
    if path.suffix or "/" in pretrained:
        raise BadInput(f"pretrained {pretrained!r}: there is no such file; for {model!r} {choice}")
    raise BadInput(f"unknown pretrained {pretrained!r}{nearest(pretrained, tags) or f'; for {model!r} {choice}'}")


def _near(name: str, known: Sequence[str]) -> str:
    by_lower = {each.lower(): each for each in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=4, cutoff=0.6)
    return f" (near: {', '.join(by_lower[each] for each in close)})" if close else ""
