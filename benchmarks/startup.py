"""Start-up: ``import mmrl`` and ``mmrl --help``, wall time of whole processes, interpreter included.

Prints the medians, appends them to RESULTS.md (the peer's column holds the bare interpreter, for scale) and
fails if one misses its target.

    python benchmarks/startup.py [--repeats 5]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

from results import append

SCRIPT = str(Path(sys.executable).with_name("mmrl"))
TARGETS = {
    "import mmrl": ([sys.executable, "-c", "import mmrl"], 0.5),
    "mmrl --help": ([SCRIPT, "--help"], 1.5),
}
BARE = [sys.executable, "-c", "pass"]


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def measure(name: str, command: list[str], target: float, repeats: int) -> bool:
    seconds(command)  # the first start reads the files from the disk
    pairs = [(seconds(command), seconds(BARE)) for _ in range(repeats)]
    ours, bare = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"{name}: {ours:.2f} s (at most {target} s; the bare interpreter takes {bare:.2f} s)")
    append(f"start-up, {name}, target {target} s", f"{ours:.2f} s", f"bare python {bare:.2f} s", bare / ours)
    return ours <= target


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    met = [measure(name, command, target, repeats) for name, (command, target) in TARGETS.items()]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
