"""A run's model without its weights: every tensor has its shape, its type and whether it learns, and no memory.

Comes in: where a model lies, and how it is to be trained.  Goes out: the model on PyTorch's ``meta`` device, made ready
to train as a run makes it, and what its tensors would take.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmrl.errors import BadInput, one_line
from mmrl.training_args import TrainingArgs
from mmrl_agents.decoder import base_of
from mmrl_agents.four_bit import BITS
from mmrl_agents.models import ModelFiles, read_config, sees
from mmrl_agents.optimizers import state_bytes
from mmrl_agents.run import dtype_of, fit_out

META = torch.device("meta")


@dataclass(frozen=True)
class Sizes:
    """What lies in memory for as long as a run lasts, in bytes, and the values behind it.

    Attributes:
        weights: of the model, its adapter and what it holds beside parameters.
        reference: a second set of frozen weights for KL.
        gradients: of all that learns, between a backward pass and the optimiser's step.
        optimizer: the optimiser's state, from its first step on.
        values: how many values the model has; ``learned``: how many of them learn.
    """

    weights: int
    reference: int
    gradients: int
    optimizer: int
    values: int
    learned: int


def blueprint(files: ModelFiles, args: TrainingArgs) -> Any:
    """The model that a run would train, on the ``meta`` device; weights that would be in 4 bits stand in full.

    Raises:
        BadInput: if it cannot be built from its configuration alone.
    """
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    kind = AutoModelForImageTextToText if sees(files) else AutoModelForCausalLM
    try:
        with META, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # weights of a ready adapter have nowhere to go, and PyTorch says so
            model: Any = kind.from_config(read_config(files), dtype=getattr(torch, dtype_of(args)))
            if files.adapter is not None:
                from peft import PeftModel

                model = PeftModel.from_pretrained(model, files.adapter, is_trainable=True)
            elif args.lora is not None:
                model.requires_grad_(False)
            return fit_out(model, files, args.model_copy(update={"kl_coef": 0.0}))[0]
    except (ValueError, ImportError, NotImplementedError) as error:
        raise BadInput(f"model '{files.name}': cannot be laid out from its configuration: {one_line(error)}") from error


def sizes_of(model: Any, files: ModelFiles, args: TrainingArgs, refers: bool) -> Sizes:
    """What a blueprint's tensors would take.

    Args:
        model: from :func:`blueprint`.
        files: that it was made of.
        args: that it was made by.
        refers: whether the run keeps a reference policy.
    """
    learned = [p for p in model.parameters() if p.requires_grad]
    full = nbytes([*model.parameters(), *model.buffers()])
    weights = full - saved_by_four_bits(model) if args.load_in_4bit else full
    # All weights are kept twice; a ready adapter is; a fresh one is switched off.
    copied = full if args.lora is None else nbytes(learned) if files.adapter is not None else 0
    return Sizes(
        weights=weights,
        reference=copied if refers else 0,
        gradients=nbytes(learned),
        optimizer=state_bytes(model, learned, args),
        values=sum(p.numel() for p in model.parameters()),
        learned=sum(p.numel() for p in learned),
    )


def nbytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of some tensors; those that share memory count once."""
    return sum({id(t): t.nbytes for t in tensors}.values())


def in_four_bits(model: Any) -> list[Tensor]:
    """The weights that bitsandbytes would hold in 4 bits: of linear layers, but for the head and what is tied to it."""
    from transformers.quantizers.base import get_keys_to_not_convert

    base = base_of(model)
    kept = tuple(get_keys_to_not_convert(base))

    def stays(name: str) -> bool:
        return ".lora_" in name or any(name == k or name.endswith(f".{k}") or name.startswith(f"{k}.") for k in kept)

    return [m.weight for name, m in base.named_modules() if isinstance(m, torch.nn.Linear) and not stays(name)]


def saved_by_four_bits(model: Any) -> int:
    """How many bytes less they take there."""
    return sum(w.nbytes - round(w.numel() * BITS / 8) for w in in_four_bits(model))
