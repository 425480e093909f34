"""How much memory a GPU has, by its name or a number.

Comes in: what the user wrote.  Goes out: bytes.
"""

from __future__ import annotations

import re

from mmrl.errors import BadInput, unknown

GIB = 2**30
GPUS = {
    "t4": 16, "v100": 32, "rtx-3090": 24, "rtx-4090": 24, "rtx-5090": 32, "a10": 24, "l4": 24, "a6000": 48, "l40s": 48,
    "a100-40": 40, "a100": 80, "h100": 80, "h200": 141, "b200": 180,
}  # fmt: skip
"""GiB by name, as their makers sell them."""
LEFT_FREE = 0.1
"""Share of a GPU that a plan leaves alone: for error correction, the driver and the libraries on it, and what lies
between tensors.  An allowance, not a measurement."""
_SIZE = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>[GM])i?B?", re.IGNORECASE)


def gpu_bytes(gpu: str) -> int:
    """The memory of a GPU, in bytes.

    Args:
        gpu: a name of :data:`GPUS`, or a size such as ``24GiB`` (``GB`` and ``G`` are read as GiB).

    Raises:
        BadInput: if it is neither, or no memory at all.
    """
    if (found := _SIZE.fullmatch(gpu.strip())) is not None:
        size = round(float(found["number"]) * (GIB if found["unit"] in "gG" else 2**20))
        if size == 0:
            raise BadInput(f"--gpu {gpu}: a GPU has more memory than none")
        return size
    name = gpu.strip().lower().replace(" ", "-").replace("_", "-")
    if name not in GPUS:
        raise unknown("GPU", gpu, [*GPUS, "24GiB"], "--gpu")
    return GPUS[name] * GIB


def usable(size: int) -> int:
    """How much of a GPU's memory a plan may fill, in bytes."""
    return round(size * (1 - LEFT_FREE))
