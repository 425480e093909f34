"""Products of weights in float32 on a CPU, by oneDNN, where nothing learns.

PyTorch multiplies float32 by MKL.  oneDNN, which comes with PyTorch too, is faster at it: 1.4 times for the 8 rows of a
group that reads a token each, 1.1 times for hundreds (SmolLM2-135M, 2 cores of a Xeon).  It has no gradient there.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


def can_multiply() -> bool:
    """Whether this build of PyTorch has oneDNN's products."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


@contextmanager
def quick_products(model: nn.Module) -> Generator[None]:
    """Within it the linear layers of ``model`` in float32 on a CPU multiply by oneDNN, where no gradient is kept.

    Autocast has other products of its own: it goes without.
    """
    layers = [m for m in model.modules() if isinstance(m, nn.Linear) and _suits(m)] if can_multiply() else []
    for layer in layers:
        layer.__dict__["forward"] = partial(_multiply, layer)
    try:
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)


def _suits(layer: nn.Linear) -> bool:
    """Whether it is a plain linear layer, of a whole matrix, that nobody else has given another way to compute."""
    weight = layer.weight
    plain = type(layer) is nn.Linear and type(weight) is nn.Parameter and "forward" not in layer.__dict__
    return plain and weight.dtype == torch.float32 and weight.device.type == "cpu"


def _multiply(layer: nn.Linear, x: Float[Tensor, "*rows inputs"]) -> Float[Tensor, "*rows outputs"]:
    if torch.is_grad_enabled():
        return functional.linear(x, layer.weight, layer.bias)
    product: Any = torch.ops.mkldnn._linear_pointwise
    return product(x, layer.weight, layer.bias, "none", [], "")
