"""Products of a few rows with large weights in float32 on a CPU, by oneDNN, where nothing learns.

PyTorch multiplies float32 by MKL.  For the 8 rows of a group that reads a token each oneDNN, which comes with PyTorch
too, was 1.2 to 1.5 times as fast (SmolLM2-135M's sizes, 2 cores of an AMD EPYC).  It compiles a kernel for every shape
and keeps it (about 1 MiB each): so it is asked for few rows alone, of which there are few numbers, and never for
prompts, which all have other lengths.  A single row it multiplies no faster: MKL has a way of its own for that.
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

ROWS = 16
"""Rows that oneDNN multiplies at once, at most; at least two."""
LARGE = 2**16
"""Numbers of a weight that it multiplies by, at least; with the small ones of ``mmrl/tiny`` nothing was won."""


def can_multiply() -> bool:
    """Whether this build of PyTorch has oneDNN's products, and nobody has switched them off."""
    backend: Any = torch.backends.mkldnn
    return backend.is_available() and backend.enabled and hasattr(torch.ops.mkldnn, "_linear_pointwise")


@contextmanager
def quick_products(model: nn.Module) -> Generator[None]:
    """Within it the large linear layers of ``model`` in float32 on a CPU multiply few rows by oneDNN.

    Where a gradient is kept, and under autocast, they compute as ever.
    """
    layers = [m for m in model.modules() if type(m) is nn.Linear and _suits(m)] if can_multiply() else []
    ways = [partial(_multiply, layer) for layer in layers]
    for layer, way in zip(layers, ways, strict=True):
        layer.__dict__["forward"] = way
    try:
        yield
    finally:
        for layer, way in zip(layers, ways, strict=True):
            if layer.__dict__.get("forward") is way:
                del layer.__dict__["forward"]


def _suits(layer: nn.Linear) -> bool:
    """Whether its parameters are whole matrices as they lie, and nobody else has given it another way to compute."""
    plain = all(type(p) is nn.Parameter and p.is_contiguous() and _single(p) for p in layer.parameters())
    return plain and layer.weight.numel() >= LARGE and "forward" not in layer.__dict__


def _single(tensor: Tensor) -> bool:
    return tensor.dtype == torch.float32 and tensor.device.type == "cpu"


def _multiply(layer: nn.Linear, x: Float[Tensor, "*rows inputs"]) -> Float[Tensor, "*rows outputs"]:
    few, single = layer.in_features < x.numel() <= ROWS * layer.in_features, _single(x) and _single(layer.weight)
    if not (few and single) or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
        return functional.linear(x, layer.weight, layer.bias)
    product: Any = torch.ops.mkldnn._linear_pointwise
    return product(x, layer.weight, layer.bias, "none", [], "")
