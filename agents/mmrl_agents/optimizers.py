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
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from mmrl.config_load import LoadedConfig
from mmrl.errors import BadInput
from mmrl.training_args import GaloreArgs, TrainingArgs
from mmrl_agents.decoder import base_of
from mmrl_agents.galore import GaloreAdamW, Projection

BLOCK = 256
"""Values that share one scale in bitsandbytes' 8-bit states."""
SMALL = 4096
"""Weights with fewer values keep 32-bit states under bitsandbytes' 8-bit optimisers."""


@dataclass(frozen=True)
class Kind:
    """One optimiser.

    Attributes:
        make: from a model, its trained weights and the arguments.
        state_bytes: memory of the state of one weight of the given ``projected``.
        package: what it needs beside torch, as it is imported.
        gpu: whether it has a meaning on a GPU alone.
    """

    make: Callable[[Any, Sequence[Parameter], TrainingArgs], Optimizer]
    state_bytes: Callable[[Tensor, bool, TrainingArgs], int]
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


def _two_moments(weight: Tensor, projected: bool, args: TrainingArgs) -> int:
    return 2 * weight.nbytes


def _two_bytes(weight: Tensor, projected: bool, args: TrainingArgs) -> int:
    """Two moments of one byte a value and two scales a block; of 4 bytes a value where small."""
    if weight.numel() < SMALL:
        return 2 * 4 * weight.numel()
    return 2 * weight.numel() + 2 * 4 * -(-weight.numel() // BLOCK)


def _in_subspace(weight: Tensor, projected: bool, args: TrainingArgs) -> int:
    """Two moments of r * max(m, n) values and a basis of min(m, n) * r where projected."""
    projection = projection_of(args)
    if not (projected and projection.holds(weight)):
        return 2 * weight.nbytes
    return projection.rank * (2 * max(weight.shape) + min(weight.shape)) * weight.element_size()


OPTIMIZERS: dict[str, Kind] = {
    "adamw": Kind(_adamw, _two_moments),
    "adamw_8bit": Kind(_adamw_8bit, _two_bytes, "bitsandbytes"),
    "paged_adamw": Kind(_paged_adamw, _two_moments, "bitsandbytes", gpu=True),
    "paged_adamw_8bit": Kind(_paged_adamw_8bit, _two_bytes, "bitsandbytes", gpu=True),
    "galore_adamw": Kind(_galore_adamw, _in_subspace),
}


def make_optimizer(model: Any, parameters: Sequence[Parameter], args: TrainingArgs) -> Optimizer:
    """The optimiser that ``args.optim`` names, for ``parameters`` of ``model``."""
    return OPTIMIZERS[args.optim].make(model, parameters, args)


def state_bytes(model: Any, parameters: Sequence[Parameter], args: TrainingArgs) -> int:
    """Memory of the optimiser's state once it has taken a step, in bytes; step counters are left out."""
    inner = layer_weights(model)
    return sum(OPTIMIZERS[args.optim].state_bytes(p, id(p) in inner, args) for p in parameters)


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
