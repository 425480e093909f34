"""Models of shapes alone: what a model does to memory, without its weights and without its arithmetic.

Comes in: a model's files and how it is to be trained.  Goes out: the model as training would have it, whose tensors
have shapes and types but no values (PyTorch's fake tensors), and the frame in which it runs through the same code as
a real one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmrl.config import TrainingArgs
from mmrl_agents.models import ModelFiles, read_config, sees
from mmrl_agents.reference import Reference
from mmrl_agents.run import dtype_of, prepare_model

aten = torch.ops.aten


def shadow_model(files: ModelFiles, args: TrainingArgs) -> tuple[Any, Reference | None]:
    """The model to train and its reference, as :func:`mmrl_agents.run.build_model` makes them, without values.

    4-bit weights are not imitated: the base has the type of the products, as its layers' outputs have.
    """
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    kind = AutoModelForImageTextToText if sees(files) else AutoModelForCausalLM
    with torch.device("meta"):
        model = kind.from_config(read_config(files), dtype=getattr(torch, dtype_of(args)))
    if files.adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, files.adapter, is_trainable=True)
    model, reference = prepare_model(model, files, args)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    _fake(model, mode)
    if reference is not None:
        with reference() as other:
            if other is not model:
                _fake(other, mode)
    return model, reference


def _fake(model: Any, mode: FakeTensorMode) -> None:
    """Put fake tensors on the host in the places of a model's tensors; tied ones stay tied."""
    made: dict[int, Tensor] = {}

    def fake(tensor: Tensor) -> Tensor:
        if id(tensor) not in made:
            with mode:
                made[id(tensor)] = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
        return made[id(tensor)]

    parameters: dict[int, torch.nn.Parameter] = {}
    held = list[Tensor]()  # so that no id is given twice
    for module in model.modules():
        for name, p in list(module.named_parameters(recurse=False)):
            held.append(p)
            if id(p) not in parameters:
                parameters[id(p)] = torch.nn.Parameter(fake(p), requires_grad=p.requires_grad)
            module.register_parameter(name, parameters[id(p)])
        for name, b in list(module.named_buffers(recurse=False)):
            held.append(b)
            setattr(module, name, fake(b))


class Shadowing(TorchDispatchMode):
    """Enter it to run code on shadow models though it asks for values.

    It answers yes, 0 and 1.0, and that a tensor equals itself alone.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not any(isinstance(t, FakeTensor) for t in tree_leaves((args, kwargs))):
            return func(*args, **kwargs)
        if func in GUESSES:
            return GUESSES[func](*args)
        if func in INDEXED:
            args = (args[0], _places(args[1]), *args[2:])
        return func(*args, **kwargs)


def _same(a: Tensor, b: Tensor, *_: Any) -> bool:
    return a.untyped_storage() is b.untyped_storage()


def _one(value: Tensor) -> bool | int | float:
    return True if value.dtype == torch.bool else 1.0 if value.dtype.is_floating_point else 0


GUESSES: dict[Any, Callable[..., Any]] = {
    aten._local_scalar_dense.default: _one,
    aten.equal.default: _same,
    aten.allclose.default: lambda *_: True,
}
INDEXED = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default)
"""Operations whose result has a size that depends on the values of a mask; the masks here are real."""


def _places(indices: Sequence[Tensor | None]) -> list[Tensor | None]:
    out: list[Tensor | None] = []
    for index in indices:
        if index is not None and index.dtype == torch.bool and not isinstance(index, FakeTensor):
            out += list(index.nonzero().unbind(1))
        else:
            out.append(index)
    return out
