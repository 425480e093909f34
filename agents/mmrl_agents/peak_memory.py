"""The memory that this process holds, and the most that it has held so far."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

PAGES = Path("/proc/self/statm")
"""Linux's count of a process's pages."""


def peak_bytes() -> int:
    """Peak memory in bytes: of tensors on the GPU, if there is one, else of the whole process on the host.

    Where the system does not count it (Windows), 0.
    """
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else _host_peak()


def resident_bytes() -> int:
    """What the process holds of the host's memory now, in bytes; where only a peak is counted, that."""
    if not PAGES.is_file():
        return _host_peak()
    import resource

    return int(PAGES.read_text().split()[1]) * resource.getpagesize()


def in_use() -> int:
    """What the process holds once the libraries' code for training is in memory: a tiny model takes a step, in bytes.

    Code is read from its files when it first runs.
    """
    layer = torch.nn.TransformerEncoderLayer(256, 4, 512, dropout=0.0, batch_first=True)
    optimizer = torch.optim.AdamW(layer.parameters(), fused=True)
    torch.log_softmax(layer(torch.zeros(2, 64, 256)), -1).sum().backward()
    optimizer.step()
    return resident_bytes()


def _host_peak() -> int:
    if sys.platform == "win32":
        return 0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # Linux counts in KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
