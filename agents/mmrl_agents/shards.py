"""Weights, gradients and optimiser state cut over the processes of a run (FSDP2).

Comes in: models that are to be trained or asked.  Goes out: the same models, each process holding its part of every
parameter; parts meet for the time of a pass, layer by layer, and all of them while episodes are sampled.

This is torch's ``fully_shard``, not ``Accelerator.prepare``: the latter gathers weights where the whole model is
called, and mmrl calls decoder and head apart, the head on some tokens only.  Here a pass of any kind is the forward of
a module of its own around the model.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from mmrl import launched
from mmrl_agents.processes import Processes
from mmrl_agents.reference import Reference

T = TypeVar("T")


class Shards:
    """The models that are cut; none by default.

    Args:
        mesh: of the processes; None cuts nothing.
    """

    def __init__(self, mesh: Any = None) -> None:
        self._mesh = mesh
        self._passes: dict[int, _Pass] = {}

    @property
    def cut(self) -> bool:
        """Whether any model is: then all processes must make the same passes."""
        return bool(self._passes)

    def add(self, model: Any) -> None:
        """Cut a model, in place; once."""
        if self._mesh is None or id(model) in self._passes:
            return
        from transformers.modeling_layers import GradientCheckpointingLayer

        for layer in [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]:
            fully_shard(layer, mesh=self._mesh, reshard_after_forward=True)
        whole = _Pass(model)
        fully_shard(whole, mesh=self._mesh, reshard_after_forward=True)
        for part in _parts(whole):
            part.set_gradient_divide_factor(1.0)  # a sum, as everywhere here; the weights of tokens carry the mean
            part.set_force_sum_reduction_for_comms(True)  # gloo knows no other
        whole(lambda: None)  # whichever module runs first becomes the root
        self._passes[id(model)] = whole

    def run(self, model: Any, work: Callable[[], T]) -> T:
        """Do ``work`` that asks ``model``, its weights being there."""
        whole = self._passes.get(id(model))
        return work() if whole is None else whole(work)

    @contextmanager
    def gathered(self) -> Generator[None]:
        """All weights in every process, so that each may ask the models as often as it likes."""
        parts = [part for whole in self._passes.values() for part in _parts(whole)]
        for part in parts:
            part.set_reshard_after_forward(False, recurse=False)
            part.unshard()
        try:
            yield
        finally:
            for part in parts:
                part.set_reshard_after_forward(True, recurse=False)
                part.reshard()


WHOLE = Shards()
"""No model is cut."""


def sharded(processes: Processes, model: Any, reference: Reference | None) -> Shards:
    """The run's models, cut if its launcher asks for FSDP."""
    if not launched.fsdp() or processes.count == 1:
        return WHOLE
    shards = Shards(init_device_mesh(torch.device(processes.device or "cpu").type, (processes.count,)))
    shards.add(model)
    if reference is not None:
        with reference() as other:
            if other is not model:
                shards.add(other)
    return shards


class _Pass(torch.nn.Module):
    """A module whose forward is whatever it is given to do."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, work: Callable[[], T]) -> T:
        return work()


def _parts(whole: torch.nn.Module) -> Iterator[FSDPModule]:
    return (m for m in whole.modules() if isinstance(m, FSDPModule))


def put_together(value: Tensor) -> Tensor:
    """The whole of what may be a part; all processes must ask for it."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def whole_weights(model: Any) -> dict[str, Tensor] | None:
    """The model's trained weights, or all under no adapter, in the host's memory; None if it is not cut.

    All processes must ask for it.
    """
    from peft import PeftModel

    own = dict[str, torch.nn.Parameter](model.named_parameters())
    if not any(isinstance(p, DTensor) for p in own.values()):
        return None
    under_adapter = isinstance(model, PeftModel)
    tied = {name for name, _ in model.named_parameters(remove_duplicate=False)} - own.keys()
    named: Mapping[str, Tensor] = model.state_dict()
    wanted = [n for n in named if n not in tied and (not under_adapter or (n in own and own[n].requires_grad))]
    return {name: put_together(named[name]).cpu() for name in wanted}


def whole_state(optimizer: Optimizer) -> dict[str, Any]:
    """The optimiser's state as one process would have it; all processes must ask for it."""
    state = optimizer.state_dict()
    held = {
        i: {key: put_together(v) if isinstance(v, Tensor) else v for key, v in of.items()}
        for i, of in state["state"].items()
    }
    return {**state, "state": held}


def take_state(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Load what :func:`whole_state` gave, each process its part."""
    optimizer.load_state_dict(dict(state))
    for parameter, of in optimizer.state.items():
        if isinstance(parameter, DTensor):
            for key, value in of.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    of[key] = distribute_tensor(value, parameter.device_mesh, parameter.placements)
