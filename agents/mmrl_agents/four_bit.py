"""Base weights in 4 bits, for an adapter to be trained on (QLoRA, 2305.14314), by bitsandbytes.

Comes in: a dtype and a device.  Goes out: what ``from_pretrained`` takes, and a model that gradients go through.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch

BITS = 4 + 8 / 64 + 32 / (64 * 256)
"""Bits of one weight: its own 4, an 8-bit scale for 64 of them, and a 32-bit scale for 256 scales."""


def quantisation(dtype: str, device: str) -> dict[str, Any]:
    """Arguments of ``from_pretrained``: 4-bit NormalFloat, its scales quantised again, products in ``dtype``.

    Args:
        dtype: of the products.
        device: where the weights are to lie.
    """
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )
    return {"quantization_config": config, "device_map": {"": device}}


def keep_differentiable(model: Any) -> None:
    """Keep bitsandbytes from packing weights for inference on a CPU with bf16 products.

    It packs a layer when it first runs in evaluation mode without a gradient, as in sampling, and the product with a
    packed weight has no gradient at all: what is below the layer would learn nothing, silently.
    """
    layers: Any = importlib.import_module("bitsandbytes.nn")
    for module in model.modules():
        if isinstance(module, layers.Linear4bit):
            module.support_avx512bf16_for_cpu = False
