"""What this process holds of the host's memory before it loads a model."""

from __future__ import annotations

from pathlib import Path

import torch

from mmrl_agents.peak_memory import peak_bytes

PAGES = Path("/proc/self/statm")
"""Linux's count of a process's pages."""


def resident_bytes() -> int:
    """What the process holds now, in bytes; where the system tells a peak alone, that."""
    if not PAGES.is_file():
        return peak_bytes()
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
