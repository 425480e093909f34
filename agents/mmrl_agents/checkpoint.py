"""Checkpoints: weights in Hugging Face or PEFT format, and all else that a run needs to go on to the same bits."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmrl.errors import BadInput
from mmrl_agents.learner import Learner
from mmrl_agents.replay import Remembered


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes:
        step: finished steps; also the policy's version.
        cursor: tasks used so far, for each environment.
        best: best success on the held-out seeds so far; -1 before the first evaluation.
        best_step: the step it was reached at.
        minutes: time trained so far.
        success: smoothed success of each environment, where a curriculum follows it; None where it is not known.
        remembered: what may be replayed.
    """

    step: int = 0
    cursor: tuple[int, ...] = ()
    best: float = -1.0
    best_step: int = 0
    minutes: float = 0.0
    success: tuple[float | None, ...] = ()
    remembered: tuple[Remembered, ...] = ()


def save_policy(folder: Path, model: Any, processing: Any, weights: Mapping[str, Tensor] | None = None) -> None:
    """Write weights (or the adapter) and tokenizer or processor, loadable with transformers and peft alone.

    Args:
        folder: where.
        model: the policy.
        processing: its tokenizer or processor.
        weights: its weights, where the model holds but a part of them; None: as they stand in it.

    Raises:
        OSError: if the disk refuses.
    """
    from peft import PeftModel
    from safetensors import SafetensorError

    try:
        if isinstance(model, PeftModel):
            # Left to itself peft asks the hub whether the vocabulary has grown, and saves the frozen reference too.
            model.save_pretrained(str(folder), selected_adapters=["default"], save_embedding_layers=False,
                                  state_dict=weights)  # fmt: skip
        else:
            model.save_pretrained(folder, state_dict=weights)
    except SafetensorError as error:  # a full disk, in safetensors' words
        raise OSError(str(error)) from error
    processing.save_pretrained(folder)


def save(folder: Path, model: Any, processing: Any, learning: Mapping[str, Any], progress: Progress,
         weights: Mapping[str, Tensor] | None = None) -> None:
    """Write a whole checkpoint into ``folder``.

    Args:
        folder: where.
        model: the policy.
        processing: its tokenizer or processor.
        learning: the learner's :meth:`mmrl_agents.learner.Learner.state_dict`.
        progress: where the run stands.
        weights: as for :func:`save_policy`.
    """
    save_policy(folder, model, processing, weights)
    state = io.BytesIO()  # written by Python, so that a full disk is an OSError
    torch.save({**learning, "rng": torch.get_rng_state()}, state)
    (folder / "learner.pt").write_bytes(state.getvalue())
    (folder / "progress.json").write_text(json.dumps(asdict(progress)))


def load_progress(folder: Path) -> Progress:
    """Read where the run stood.

    Raises:
        BadInput: if the folder holds no whole checkpoint, or one of an earlier version.
    """
    path = folder / "progress.json"
    if not path.is_file():
        raise BadInput(f"{folder} is no checkpoint: it has no progress.json")
    raw: dict[str, Any] = json.loads(path.read_text())
    missing = [f.name for f in fields(Progress) if f.name not in raw]
    if missing:
        raise BadInput(f"{path} lacks {', '.join(missing)}: an earlier version of mmrl wrote it; start a new run")
    raw["cursor"], raw["success"] = tuple(raw["cursor"]), tuple(raw["success"])
    raw["remembered"] = tuple(Remembered(**r) for r in raw["remembered"])
    return Progress(**raw)


def restore_policy(folder: Path, model: Any) -> None:
    """Load weights into a model built for the same config.

    Raises:
        BadInput: if they do not fit.
    """
    from safetensors.torch import load_file

    adapter = folder / "adapter_model.safetensors"
    if adapter.is_file():
        from peft import set_peft_model_state_dict

        set_peft_model_state_dict(model, load_file(adapter))
    else:
        # By the library, which writes some models' weights under other names than they have in memory.
        saved, info = type(model).from_pretrained(folder, dtype=model.dtype, output_loading_info=True)
        if info["missing_keys"] or info["unexpected_keys"]:
            raise BadInput(f"{folder}: the weights do not fit the model (missing {sorted(info['missing_keys'])}, "
                           f"unexpected {sorted(info['unexpected_keys'])})")  # fmt: skip
        model.load_state_dict(saved.state_dict())


def restore_learner(folder: Path, learner: Learner) -> None:
    """Load optimiser, schedule and random state into a learner built for the same config."""
    state = torch.load(folder / "learner.pt", weights_only=True, map_location="cpu")
    learner.load_state_dict(state)
    torch.set_rng_state(state["rng"])
