"""One table for all benchmarks: benchmarks/RESULTS.md, a row a measurement."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")
_HEADER = """# Results

Each row was measured in one run on one machine; ours and the peer's are interleaved. `make bench` appends.

| date | machine | benchmark | ours | peer | ratio |
|---|---|---|---|---|---|
"""


def machine() -> str:
    """The CPU's model and the number of cores that this process may use."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{model or platform.processor() or platform.machine()}, {len(os.sched_getaffinity(0))} cores"


def append(benchmark: str, ours: str, peer: str, ratio: float, path: Path = RESULTS) -> None:
    """Append one row to the table, which is begun if it does not exist.

    Args:
        benchmark: what was measured.
        ours: our figure with its unit.
        peer: the peer's figure with its unit.
        ratio: ours over the peer's, in the direction in which more is better.
        path: the table.
    """
    cells = (datetime.now(UTC).date().isoformat(), machine(), benchmark, ours, peer, f"{ratio:.2f}")
    text = path.read_text(encoding="utf-8") if path.exists() else _HEADER
    row = " | ".join(cell.replace("|", "/") for cell in cells)
    path.write_text(f"{text}| {row} |\n", encoding="utf-8")
