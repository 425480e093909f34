"""How the forward passes of an update run.

Compiled or as they are written, products as the weights or in bfloat16, and what the backward pass needs kept on the
device or in the host's memory.

Comes in: a part of a model.  Goes out: the same function of the same weights, faster after a first pass that compiles.
The model itself stays as it is: its sampler, its checkpoints and its adapters know nothing of this.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor

from mmrl.config_load import LoadedConfig
from mmrl.errors import BadInput, one_line

Kept = tuple[torch.device, Tensor]
"""A tensor that the backward pass needs, and the device that it came from."""
HOST = torch.device("cpu")
VARIANTS = 64
"""Compiled versions of a part, at most: with and without a mask, a gradient, an adapter; one row or several."""


@dataclass(frozen=True)
class Forward:
    """How to run a part of a model.

    Attributes:
        compiled: by ``torch.compile``, with sizes that may change, so that ragged micro-batches need no new version.
        bfloat16: products in bfloat16, weights and gradients as they are (autocast).
        offload: what is kept for the backward pass waits in the host's memory, weights apart.
    """

    compiled: bool = False
    bfloat16: bool = False
    offload: bool = False
    _made: dict[int, Any] = field(default_factory=dict[int, Any], compare=False, repr=False)

    def of(self, part: Any) -> Any:
        """``part``, or what calls its compiled version; the same each time."""
        if not self.compiled:
            return part
        if id(part) not in self._made:
            make: Any = torch.compile  # its overloads do not know of recompile_limit yet
            self._made[id(part)] = make(part, dynamic=True, recompile_limit=VARIANTS, isolate_recompiles=True)
        return self._made[id(part)]

    def autocast(self, device: torch.device) -> torch.autocast:
        """What to run a part in."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.bfloat16)

    def keeping(self, model: torch.nn.Module) -> AbstractContextManager[Any]:
        """Where a pass of ``model`` keeps what its backward pass needs."""
        return torch.autograd.graph.saved_tensors_hooks(*host_hooks(model, HOST)) if self.offload else nullcontext()

    def dtype(self, weights: torch.dtype) -> torch.dtype:
        """The type of products, of weights of type ``weights``."""
        return torch.bfloat16 if self.bfloat16 else weights


AS_WRITTEN = Forward()


def host_hooks(
    model: torch.nn.Module, host: torch.device
) -> tuple[Callable[[Tensor], Kept], Callable[[Kept], Tensor]]:
    """How a tensor that the backward pass needs is put away, and comes back: all but weights go to ``host``."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def keep(saved: Tensor) -> Kept:
        stays = saved.untyped_storage().data_ptr() in weights
        return saved.device, saved if stays else saved.to(host)

    def back(kept: Kept) -> Tensor:
        device, tensor = kept
        return tensor.to(device)

    return keep, back


def check_offload(loaded: LoadedConfig) -> None:
    """Refuse to offload where there is nothing to offload from.

    Raises:
        BadInput: naming the key, its place and what would be right.
    """
    if loaded.config.training_args.offload_activations and not torch.cuda.is_available():
        where = loaded.where("training_args", "offload_activations")
        raise BadInput(f"{where}: offload_activations moves what a GPU holds to the host's memory, and there is no GPU "
                       "here; leave it out (gradient_checkpointing saves memory anywhere)")  # fmt: skip


def check_compiler(loaded: LoadedConfig) -> None:
    """Check that ``torch.compile`` works here, where it is asked for, before a model loads.

    Raises:
        BadInput: naming the key, its place and what is missing.
    """
    if not loaded.config.training_args.torch_compile:
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if problem := compiler_problem(device):
        where = loaded.where("training_args", "torch_compile")
        raise BadInput(f"{where}: torch_compile needs a compiler, and none works here for {device} ({problem}); "
                       "install one (on Debian and Ubuntu: apt install g++), or leave torch_compile out")  # fmt: skip


@cache
def compiler_problem(device: str) -> str:
    """What goes wrong when a small function is compiled and run; empty if nothing does."""
    compiled = torch.compile(_probe, dynamic=True)
    settings: Any = torch.compiler.config
    try:
        with settings.patch(force_disable_caches=True):  # what an earlier process compiled says nothing of now
            compiled(torch.ones(3, device=device))
    except Exception as error:  # whatever the compiler's parts raise
        return one_line(error)
    return ""


def _probe(x: torch.Tensor) -> torch.Tensor:
    return torch.sin(x) + x
