"""Attention on tensors without values that keeps what it keeps on tensors with them.

Comes in: calls of PyTorch's attention.  Goes out: the same shapes.  On the ``meta`` device PyTorch takes the way that
keeps a weight for every pair of tokens; on a CPU or GPU it does not.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode


class Fused(TorchFunctionMode):
    """Runs attention by the kernel that PyTorch takes on a CPU; those of GPUs keep as much."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one function."""
        kwargs = kwargs or {}
        if func is scaled_dot_product_attention and len(args) == 3 and args[0].is_meta and args[0].dim() == 4:
            return _attend(*args, **kwargs)
        return func(*args, **kwargs)


def _attend(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
            is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False) -> Tensor:  # fmt: skip
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype)
    kernel: Any = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return kernel(query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale)[0]
