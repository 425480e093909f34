from __future__ import annotations

import platform
import subprocess
import sys

import pytest

MIB = 2**20
ASK = """
import sys
import torch
from mmrl_agents.host_memory import give_back_freed, resident_bytes

give_back_freed(torch.nn.Linear(2048, int(sys.argv[1]), bias=False))
torch.ones(2**23 - 2**12)  # nearly 32 MiB that come and go: glibc keeps blocks of up to that size from now on
before, kept, held = resident_bytes(), [], []
for _ in range(64):
    held.append(torch.ones(2**19))  # 2 MiB
    kept.append(torch.ones(64))  # stays, above it in the heap
held.clear()
print(resident_bytes() - before)
"""


def left(width: int) -> int:
    """Bytes that stay with a process, beside a model of ``width`` times 8 KiB, after 128 MiB came and went."""
    done = subprocess.run([sys.executable, "-c", ASK, str(width)], check=True, capture_output=True, text=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc's heap that keeps what is free")
def test_beside_a_large_model_large_blocks_go_back_when_they_are_let_go() -> None:
    assert left(8192) < 8 * MIB
    assert left(1) > 100 * MIB
