"""Attention on tensors without values that keeps what it keeps on tensors with them.

Comes in: calls of PyTorch's attention.  Goes out: the same shapes.  On the ``meta`` device PyTorch takes the way that
keeps a weight for every pair of tokens; on a CPU or GPU it does not.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


@contextmanager
def fused() -> Generator[None]:
    """Runs attention on the ``meta`` device by the kernel that PyTorch takes on a CPU; those of GPUs keep as much.

    The function itself is replaced: a mode would be off in a backward pass, where checkpoints compute again.
    """
    plain = functional.scaled_dot_product_attention

    def attend(query: Tensor, *args: Any, **more: Any) -> Tensor:
        run = _attend if query.is_meta and query.dim() == 4 else plain
        return run(query, *args, **more)

    functional.scaled_dot_product_attention = attend
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = plain


def _attend(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
            is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False) -> Tensor:  # fmt: skip
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype)
    kernel: Any = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return kernel(query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale)[0]
