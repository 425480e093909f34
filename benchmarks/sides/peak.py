"""Peak memory of two sides, each in a process of its own: the same script, asked for one of them alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from mmrl_agents.peak_memory import peak_bytes
from sides.steps import report

STEPS = 3
"""That a side takes: the second update finds the optimiser's state."""


def alone(side: Callable[[], object]) -> int:
    """Run one side, and print the peak of this process in MiB; the script's exit code."""
    side()
    print(peak_bytes() // 2**20)
    return 0


def compare_peaks(what: str, script: str, keep: bool, *more: str, sides: tuple[str, str] = ("ours", "trl"),
                  than: str | None = None) -> float:  # fmt: skip
    """Start ``script`` for each side; print how many times as small ours is, and keep it in the table if asked.

    Args:
        what: is done, in words.
        script: its path; ``--memory SIDE`` ends in :func:`alone`.
        keep: append to RESULTS.md.
        more: further arguments.
        sides: what the script calls ours and theirs.
        than: theirs, in words; None: TRL and its version.
    """
    mine, theirs = (_peak(script, side, more) for side in sides)
    report(f"peak memory of GRPO, {what}", f"{mine:,} MiB", f"{theirs:,} MiB", theirs / mine, keep, than)
    return theirs / mine


def _peak(script: str, side: str, more: tuple[str, ...]) -> int:
    command = [sys.executable, script, *more, "--memory", side]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{side} alone: {done.stderr[-3000:]}")
    return int(done.stdout.split()[-1])
