"""The most memory that this process has held so far."""

from __future__ import annotations

import sys

import torch


def peak_bytes() -> int:
    """Peak memory in bytes: of tensors on the GPU, if there is one, else of the whole process on the host.

    Where the system does not count it (Windows), 0.
    """
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    if sys.platform == "win32":
        return 0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # Linux counts in KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
