"""The most memory that this process has held so far."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import torch


def peak_bytes() -> int:
    """Peak memory in bytes: of tensors on the GPU, if there is one, else of the whole process on the host.

    Where it is not told (other systems than Linux and macOS), 0.
    """
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    if sys.platform == "linux":
        # Not getrusage: there a process begins with what the one that started it held.
        found = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
        return int(found[1]) * 1024 if found else 0
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return 0
