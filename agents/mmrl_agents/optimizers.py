"""The optimisers, by the name that ``training_args.optim`` gives them.

Comes in: a model and the weights of it that are trained.  Goes out: a ``torch.optim.Optimizer``, or one line that says
what it lacks here.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import Parameter
from torch.optim import Optimizer

from mmrl.config_load import LoadedConfig
from mmrl.errors import BadInput
from mmrl.training_args import GaloreArgs, TrainingArgs
from mmrl_agents.decoder import base_of
from mmrl_agents.galore import GaloreAdamW, Projection


@dataclass(frozen=True)
class Kind:
    """One optimiser.

    Attributes:
        make: from a model, its trained weights and the arguments.
        package: what it needs beside torch, as it is imported.
        gpu: whether it has a meaning on a GPU alone.
    """

    make: Callable[[Any, Sequence[Parameter], TrainingArgs], Optimizer]
    package: str | None = None
    gpu: bool = False


def _adamw(model: Any, parameters: Sequence[Parameter], args: TrainingArgs) -> Optimizer:
    return torch.optim.AdamW(
        parameters, args.learning_rate, (args.adam_beta1, args.adam_beta2), args.adam_epsilon, args.weight_decay,
        fused=True,
    )  # fmt: skip


def _adamw_8bit(model: Any, parameters: Sequence[Parameter], args: TrainingArgs) -> Optimizer:
    return _bitsandbytes("AdamW8bit", parameters, args)


def _paged_adamw_8bit(model: Any, parameters: Sequence[Parameter], args: TrainingArgs) -> Optimizer:
    return _bitsandbytes("PagedAdamW8bit", parameters, args)


def _paged_adamw(model: Any, parameters: Sequence[Parameter], args: TrainingArgs) -> Optimizer:
    return _bitsandbytes("PagedAdamW32bit", parameters, args)


def _bitsandbytes(name: str, parameters: Sequence[Parameter], args: TrainingArgs) -> Optimizer:
    optim: Any = importlib.import_module("bitsandbytes.optim")
    return getattr(optim, name)(
        list(parameters), args.learning_rate, (args.adam_beta1, args.adam_beta2), args.adam_epsilon, args.weight_decay
    )


def _galore_adamw(model: Any, parameters: Sequence[Parameter], args: TrainingArgs) -> Optimizer:
    inner = layer_weights(model)
    return GaloreAdamW(
        [p for p in parameters if id(p) in inner], [p for p in parameters if id(p) not in inner], projection_of(args),
        args.learning_rate, (args.adam_beta1, args.adam_beta2), args.adam_epsilon, args.weight_decay,
    )  # fmt: skip


def layer_weights(model: Any) -> frozenset[int]:
    """Ids of the matrices that GaLore projects: of linear layers but for the head, as in its paper."""
    base = base_of(model)
    head = base.get_output_embeddings()
    linear = [m.weight for m in base.modules() if isinstance(m, torch.nn.Linear) and m is not head]
    tied = id(base.get_input_embeddings().weight)
    return frozenset(id(w) for w in linear if id(w) != tied)


def projection_of(args: TrainingArgs) -> Projection:
    """GaLore's projection by the configuration."""
    galore = args.galore or GaloreArgs()
    return Projection(galore.rank, galore.refresh, galore.scale)


OPTIMIZERS: dict[str, Kind] = {
    "adamw": Kind(_adamw),
    "adamw_8bit": Kind(_adamw_8bit, "bitsandbytes"),
    "paged_adamw": Kind(_paged_adamw, "bitsandbytes", gpu=True),
    "paged_adamw_8bit": Kind(_paged_adamw_8bit, "bitsandbytes", gpu=True),
    "galore_adamw": Kind(_galore_adamw),
}


def make_optimizer(model: Any, parameters: Sequence[Parameter], args: TrainingArgs) -> Optimizer:
    """The optimiser that ``args.optim`` names, for ``parameters`` of ``model``."""
    return OPTIMIZERS[args.optim].make(model, parameters, args)


def check_optimizer(loaded: LoadedConfig) -> None:
    """Check that the optimiser, and a base in 4 bits, can be had here, before a model loads.

    Raises:
        BadInput: naming the key, its place and what would be right.
    """
    args = loaded.config.training_args
    where, kind = loaded.where("training_args", "optim"), OPTIMIZERS[args.optim]
    _needs_package(kind.package, f"{where}: optim '{args.optim}'")
    if kind.gpu and not torch.cuda.is_available():
        raise BadInput(f"{where}: optim '{args.optim}' moves its state between a GPU and the host, and there is no GPU "
                       f"here; take '{args.optim.removeprefix('paged_')}'")  # fmt: skip
    if args.galore is not None and args.optim != "galore_adamw":
        raise BadInput(f"{loaded.where('training_args', 'galore')}: optim '{args.optim}' does not read 'galore'; leave "
                       "it out, or set optim: galore_adamw")  # fmt: skip
    if args.optim == "galore_adamw" and args.lora is not None:
        raise BadInput(f"{where}: optim 'galore_adamw' projects whole weights, and training_args.lora trains none; "
                       "leave one of them out")  # fmt: skip
    if args.load_in_4bit:
        where = loaded.where("training_args", "load_in_4bit")
        if args.lora is None:
            raise BadInput(f"{where}: weights in 4 bits cannot be trained; set training_args.lora to train an adapter "
                           "on them")  # fmt: skip
        _needs_package("bitsandbytes", f"{where}: load_in_4bit")


def _needs_package(name: str | None, what: str) -> None:
    if name is not None and importlib.util.find_spec(name) is None:
        raise BadInput(f"{what} needs the package {name}; install it with: pip install 'mmrl[bnb]'")
