"""Checkpoints: weights in Hugging Face or PEFT format, and all else that a run needs to go on to the same bits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch
from torch import Tensor

from mmrl.errors import BadInput
from mmrl_agents.learner import Learner
from mmrl_agents.replay import Remembered
from mmrl_agents.twin import Weights

EARLIER = "earlier.pt"
NONE: Mapping[int, Weights] = {}
SHOWN = 3
"""Weights that are named where some do not fit."""


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
    save_weights(folder, model, weights)
    processing.save_pretrained(folder)


def save_weights(folder: Path, model: Any, weights: Mapping[str, Tensor] | None = None) -> None:
    """Write weights, or of a PEFT model the adapter.

    Raises:
        OSError: if the disk refuses.
    """
    from peft import PeftModel
    from safetensors import SafetensorError

    try:
        if isinstance(model, PeftModel):
            save_adapter(folder, model, weights)
        else:
            model.save_pretrained(folder, state_dict=weights)
    except SafetensorError as error:  # a full disk, in safetensors' words
        raise OSError(str(error)) from error


def save_adapter(folder: Path, model: Any, weights: Mapping[str, Tensor] | None = None) -> None:
    """Write a PEFT model's adapter, as peft does but for what only costs: it asks no hub, and saves no reference."""
    model.save_pretrained(str(folder), selected_adapters=["default"], save_embedding_layers=False, state_dict=weights)


def save(folder: Path, model: Any, processing: Any, learning: Mapping[str, Any], progress: Progress,
         weights: Mapping[str, Tensor] | None = None, earlier: Mapping[int, Weights] = NONE) -> None:
    """Write a whole checkpoint into ``folder``.

    Args:
        folder: where.
        model: the policy.
        processing: its tokenizer or processor.
        learning: the learner's :meth:`mmrl_agents.learner.Learner.state_dict`.
        progress: where the run stands.
        weights: as for :func:`save_policy`.
        earlier: what learned in earlier versions of the policy, by version, as far as they are still to be sampled
            with.
    """
    save_policy(folder, model, processing, weights)
    write_state(folder / "learner.pt", {**learning, "rng": torch.get_rng_state()})
    if earlier:
        write_state(folder / EARLIER, {"versions": {n: dict(w) for n, w in earlier.items()}})
    (folder / "progress.json").write_text(json.dumps(asdict(progress)))


class _Sink:
    """A file for torch to write to, which remembers why it refused: torch ends with an error of its own."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.refused: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.refused = error
            raise

    def flush(self) -> None:
        self._file.flush()


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write a state tensor by tensor: no second copy of it is made in memory.

    Raises:
        OSError: if the disk refuses.
    """
    with path.open("wb") as file:
        sink = _Sink(file)
        try:
            torch.save(state, cast("IO[bytes]", sink))  # it asks for no more than write and flush
        except Exception as error:
            raise sink.refused or error from None


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


def load_earlier(folder: Path) -> dict[int, Weights]:
    """Read the earlier versions that a checkpoint holds; most hold none."""
    path = folder / EARLIER
    return torch.load(path, weights_only=True, map_location="cpu")["versions"] if path.is_file() else {}


def refuse_misfits(folder: Path, saved: Mapping[str, Sequence[int] | str], here: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not those of the model.

    Args:
        folder: where they lie.
        saved: their sizes, by name; in words where only the name is known.
        here: the model's.

    Raises:
        BadInput: naming the first that differ, with both sizes.
    """
    sizes = {n: str(list(here[n].shape)) if n in here else "none" for n in sorted({*here, *saved})}
    apart = [f"{n}: was {was}, now {now}" for n, now in sizes.items() if (was := str(saved.get(n, "none"))) != now]
    if apart:
        more = f" and {len(apart) - SHOWN} more" if len(apart) > SHOWN else ""
        raise BadInput(f"{folder}: the weights do not fit the model: {'; '.join(apart[:SHOWN])}{more}; they are of "
                       "another model, adapter or version: start a new run in another training_args.output_dir")


def restore_policy(folder: Path, model: Any) -> None:
    """Load weights into a model built for the same config.

    Raises:
        BadInput: if they do not fit.
    """
    from safetensors.torch import load_file

    adapter = folder / "adapter_model.safetensors"
    if adapter.is_file():
        from peft import get_peft_model_state_dict, set_peft_model_state_dict

        found, here = load_file(adapter), get_peft_model_state_dict(model, save_embedding_layers=False)
        refuse_misfits(folder, {n: list(t.shape) for n, t in found.items()}, here)
        set_peft_model_state_dict(model, found)
    else:
        # By the library, which writes some models' weights under other names than they have in memory.
        saved, info = type(model).from_pretrained(folder, dtype=model.dtype, output_loading_info=True,
                                                  ignore_mismatched_sizes=True)  # fmt: skip
        found = saved.state_dict()
        # What the folder's file lacked, or has in another size, was made anew; here it is what the file holds.
        sizes = {n: list(t.shape) for n, t in found.items() if n not in info["missing_keys"]}
        sizes |= {n: list(size) for n, size, _ in info["mismatched_keys"]}
        refuse_misfits(folder, {**sizes, **dict.fromkeys(info["unexpected_keys"], "some")}, model.state_dict())
        model.load_state_dict(found)


def restore_learner(folder: Path, learner: Learner) -> None:
    """Load optimiser, schedule and random state into a learner built for the same config."""
    state = torch.load(folder / "learner.pt", weights_only=True, map_location="cpu")
    learner.load_state_dict(state)
    torch.set_rng_state(state["rng"])
