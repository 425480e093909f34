"""What this process holds of the host's memory before it loads a model, and that it holds no more than it uses."""

from __future__ import annotations

import ctypes
import io
import platform
from importlib import import_module
from pathlib import Path

import torch

from mmrl_agents.peak_memory import peak_bytes

PAGES = Path("/proc/self/statm")
"""Linux's count of a process's pages."""
LARGE = 2**20
"""Bytes from which on a block of memory goes back to the system when it is let go."""
LARGE_MODEL = 64 * 2**20
"""Bytes of weights from which on that is worth its time: pages must be cleared each time a block is taken anew, which
counts for little where a value costs many products.  What it costs stands in docs/memory.md."""
MMAP_THRESHOLD = -3
"""``M_MMAP_THRESHOLD`` of glibc's ``mallopt``."""


def give_back_freed(model: torch.nn.Module) -> None:
    """Where a model is large, have large blocks mapped one by one from here on: none stays with the process once free.

    Left to itself glibc keeps them (up to 32 MiB each) in its heap, in pieces between blocks that stay.  Other C
    libraries are left as they are.
    """
    if platform.libc_ver()[0] == "glibc" and sum(p.nbytes for p in model.parameters()) >= LARGE_MODEL:
        ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, LARGE)


def resident_bytes() -> int:
    """What the process holds now, in bytes; where the system tells a peak alone, that."""
    if not PAGES.is_file():
        return peak_bytes()
    import resource

    return int(PAGES.read_text().split()[1]) * resource.getpagesize()


def in_use() -> int:
    """What the process holds once the libraries' code for a run is in memory, in bytes.

    Code is read from its files when it first runs: a tiny model takes a step, and a table is written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    import_module("peft")  # a run asks of every model whether it has an adapter
    layer = torch.nn.TransformerEncoderLayer(256, 4, 512, dropout=0.0, batch_first=True)
    optimizer = torch.optim.AdamW(layer.parameters(), fused=True)
    torch.log_softmax(layer(torch.zeros(2, 64, 256)), -1).sum().backward()
    optimizer.step()
    pq.write_table(pa.Table.from_pylist([{"id": "", "step": 0}]), io.BytesIO(), compression="zstd")
    return resident_bytes()
